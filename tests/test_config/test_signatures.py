from collections.abc import Sequence
from typing import Literal

import pytest
import torch

from mmvlm.config.signatures import accepted_keywords, type_mismatch


class Base:
    def __init__(self, width: int, depth: int = 2, act: str = "gelu"):
        pass


class Forwards(Base):
    def __init__(self, ratio=0.5, **kwargs):
        super().__init__(**kwargs)


class Fills(Base):
    def __init__(self, **kwargs):
        super().__init__(3, act="relu", **kwargs)


class Swallows(Base):
    def __init__(self, ratio=0.5, **options):
        super().__init__(1)
        self.inner = dict(**options)


class Pops(Base):
    def __init__(self, **kwargs):
        self.extra = kwargs.pop("extra", None)
        super().__init__(**kwargs)


class Inherits(Forwards):
    pass


class Mixin:
    def __init__(self, *args, **kwargs):
        super().__init__(3, *args, **kwargs)


class Mixed(Mixin, Base):
    pass


@pytest.mark.parametrize(
    ("cls", "names", "required", "is_open"),
    [
        (Base, {"width", "depth", "act"}, {"width"}, False),
        (Forwards, {"ratio", "width", "depth", "act"}, {"width"}, False),
        (Inherits, {"ratio", "width", "depth", "act"}, {"width"}, False),
        (Fills, {"depth"}, set(), False),
        (Swallows, {"ratio"}, set(), True),
        (Mixed, {"depth", "act"}, set(), False),
        (Pops, {"extra", "width", "depth", "act"}, {"width"}, False),
    ],
)
def test_keywords_follow_the_constructors(cls, names, required, is_open):
    accepted = accepted_keywords(cls)

    assert set(accepted.names) == names
    assert accepted.required == required
    assert accepted.open is is_open


def test_functions_and_modules():
    def build(a, *, b=1):
        return a, b

    assert set(accepted_keywords(build).names) == {"a", "b"}
    linear = accepted_keywords(torch.nn.Linear)
    assert {"in_features", "out_features", "bias"} <= set(linear.names)
    assert not linear.open


def test_an_annotation_that_cannot_be_resolved_hides_no_other():
    def build(a: "int", b: "NotImported | None" = None):  # noqa: F821
        return a, b

    names = accepted_keywords(build).names

    assert names["a"] is int
    assert names["b"] is None


@pytest.mark.parametrize(
    ("value", "annotation", "fits"),
    [
        (3, int, True),
        ("3", int, False),
        (True, int, False),
        (1, float, True),
        ("x", float | None, False),
        (None, float | None, True),
        ([1], tuple[int, ...], True),
        ("ab", Sequence[int], False),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        ("c", torch.nn.Module | int, True),
        ({}, dict | None, True),
        (3, None, True),
    ],
)
def test_type_mismatch(value, annotation, fits):
    assert (type_mismatch(value, annotation) is None) is fits
