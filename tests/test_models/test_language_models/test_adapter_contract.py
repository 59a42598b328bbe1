"""The contract suite, over every registered adapter of a language model."""

import pytest

import mmvlm.models  # noqa: F401  registers
from mmvlm.testing.adapter_contract import ADAPTER_CHECKS, adapter_classes


@pytest.mark.parametrize("check", ADAPTER_CHECKS)
@pytest.mark.parametrize("name", sorted(adapter_classes()))
def test_adapter_keeps_its_contract(name, check):
    ADAPTER_CHECKS[check](adapter_classes()[name])
