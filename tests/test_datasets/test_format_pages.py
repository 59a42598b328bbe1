"""The configs of the pages on formats name readers and keywords that exist."""

import inspect
import re
from pathlib import Path

import pytest

from mmvlm.datasets.readers.captions import CaptionDataset
from mmvlm.datasets.readers.columns import ColumnDataset
from mmvlm.datasets.readers.interleaved import InterleavedDataset
from mmvlm.datasets.readers.questions import QuestionDataset
from mmvlm.registry import DATASETS

PAGES = Path(__file__).parents[2] / "docs/en/user_guides/formats"
SNIPPETS = [
    (page, text)
    for page in ("questions", "interleaved")
    for text in re.findall(
        r"^```python\n(.*?)^```", (PAGES / f"{page}.md").read_text(), re.S | re.M
    )
]


@pytest.mark.parametrize(
    ("page", "text"),
    SNIPPETS,
    ids=[re.search(r'type="(\w+)"', t)[1] for _, t in SNIPPETS],
)
def test_a_config_is_accepted_up_to_its_files(page, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = eval(text, {"dict": dict})

    if config["type"] == "StreamingDataset":
        assert DATASETS.build(config).block_size == config["block_size"]
        return
    with pytest.raises(FileNotFoundError, match=r"do(es)? not exist"):
        DATASETS.build(config)


def test_every_reader_of_these_kinds_is_shown():
    shown = {re.search(r'type="(\w+)"', text)[1] for _, text in SNIPPETS}
    DATASETS.import_from_location()
    kinds = (QuestionDataset, CaptionDataset, ColumnDataset, InterleavedDataset)

    readers = {
        name
        for name, value in DATASETS.module_dict.items()
        if inspect.isclass(value) and issubclass(value, kinds)
    }
    assert readers <= shown and len(readers) > 12
