"""Small data sets on disk."""

from types import SimpleNamespace

import pytest
from dataset_helpers import EncodeStub, Llava, packed, record, turn

from mmvlm.datasets.index.records import JSONRecords


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache folder of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MMVLM_CACHE", str(folder))
    return folder


@pytest.fixture
def llava(tmp_path):
    return Llava(tmp_path)


@pytest.fixture
def pipeline():
    return [
        dict(type="mmvlm.LoadImages"),
        dict(
            type="mmvlm.PadToSquare", size=4, mean=(0.5, 0.5, 0.5), resample="bicubic"
        ),
        EncodeStub(),
        dict(type="mmvlm.PackVLMInputs", meta_keys=["noise"]),
    ]


@pytest.fixture
def make():
    """The helpers under one name."""
    return SimpleNamespace(
        record=record, turn=turn, EncodeStub=EncodeStub, packed=packed
    )


@pytest.fixture
def builds(monkeypatch):
    """Count how often a file is scanned."""
    paths = []
    build = JSONRecords._build
    monkeypatch.setattr(
        JSONRecords,
        "_build",
        lambda self, *given: (paths.append(self.path), build(self, *given))[1],
    )
    return paths
