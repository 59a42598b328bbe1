"""The contract suite, over every registered connector."""

import inspect

import pytest
import torch

import mmvlm.models  # noqa: F401  registers
from mmvlm.models.connectors.base import Connector
from mmvlm.registry import MODELS
from mmvlm.structures import PatchTokenCount
from mmvlm.testing.connector_contract import (
    CONNECTOR_CHECKS,
    build,
    connector_classes,
    fuser_cases,
    make_features,
)


def every_case():
    """All registered connectors, and all fusers with an MLP behind them."""
    return {**connector_classes(), **fuser_cases()}


@pytest.mark.parametrize("check", CONNECTOR_CHECKS)
@pytest.mark.parametrize("name", sorted(every_case()))
def test_connector_keeps_its_contract(name, check):
    CONNECTOR_CHECKS[check](every_case()[name])


@pytest.mark.parametrize("name", sorted(every_case()))
def test_connector_compiles(name):
    connector = build(every_case()[name])
    features = make_features(connector)

    compiled = torch.compile(connector, backend="aot_eager")

    torch.testing.assert_close(compiled(features), connector(features))


@pytest.mark.parametrize("name", sorted(every_case()))
def test_connector_documents_its_shapes(name):
    case = every_case()[name]
    forward = getattr(case, "fuser", case).forward

    assert "Shape:" in inspect.getdoc(forward)


def _define(**changes):
    """A connector written inside a test, right but for ``changes``."""

    class InTestConnector(Connector):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.proj = torch.nn.Linear(self.vision_spec.width, self.out_width)

        @property
        def token_count(self):
            return PatchTokenCount(self.vision_spec.patch_size)

        def forward(self, features):
            return self.proj(features.patches(0))

    for name, value in changes.items():
        setattr(InTestConnector, name, value)
    # Pickle finds a class by its module and name.
    InTestConnector.__qualname__ = "InTestConnector"
    globals()["InTestConnector"] = InTestConnector
    MODELS.register_module(module=InTestConnector, force=True)
    return InTestConnector


@pytest.fixture
def define():
    yield _define
    MODELS._module_dict.pop("InTestConnector", None)
    globals().pop("InTestConnector", None)


def test_suite_takes_a_connector_defined_in_a_test(define):
    cls = define()

    assert connector_classes()["InTestConnector"] is cls
    for check in CONNECTOR_CHECKS.values():
        check(cls)


def _keeps_cls(self, features):
    return self.proj(features.hidden_states[0])


def _mixes_views(self, features):
    patches = features.patches(0)
    return self.proj(patches + patches.sum(0))


def _adds_noise(self, features):
    out = self.proj(features.patches(0))
    return out + torch.randn_like(out)


def _ignores_input(self, features):
    return self.proj(features.patches(0).detach())


def _upcasts(self, features):
    return self.proj(features.patches(0)).float()


def _fails_without_views(self, features):
    return self.proj(features.patches(0)) / len(features.patches(0)) * 3 + (
        features.hidden_states[0][0, 0, 0] * 0
    )


def _in_place(self, features):
    return self.proj(features.hidden_states[0].mul_(1.5)[:, 1:])


@pytest.mark.parametrize(
    "forward, check",
    [
        (_keeps_cls, "shapes_on_three_grids"),
        (_keeps_cls, "rows_of_merged_views"),
        (_mixes_views, "views_are_independent"),
        (_adds_noise, "determinism_in_eval"),
        (_ignores_input, "gradients"),
        (_upcasts, "bfloat16"),
        (_fails_without_views, "zero_views"),
        (_in_place, "input_is_left_alone"),
    ],
)
def test_suite_finds_what_is_broken(define, forward, check):
    cls = define(forward=forward)

    with pytest.raises((AssertionError, IndexError)):
        CONNECTOR_CHECKS[check](cls)


def test_selected_layers_must_exist():
    from mmvlm.models.connectors.mlp import MLPConnector

    spec = MLPConnector.tiny().vision_spec

    with pytest.raises(ValueError, match="select_layers has 7"):
        MLPConnector(vision_spec=spec, out_width=8, select_layers=[7])
