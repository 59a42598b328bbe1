"""The guide's configs are those of the layouts that the writers write."""

import re
from pathlib import Path

import pytest
from grounding_helpers import scenes, write_scenes

from mmvlm.registry import DATASETS

PAGE = Path(__file__).resolve().parents[2] / (
    "docs/en/user_guides/formats/segmentation.md"
)
SNIPPETS = dict(
    re.findall(r"<!-- scenes: (\w+) -->\n```python\n(.*?)```", PAGE.read_text(), re.S)
)


def test_every_format_of_the_page_has_a_snippet():
    named = re.search(
        r"TinyScenes are written in each .*?\(([^)]*)\)", PAGE.read_text(), re.S
    )

    assert sorted(re.findall(r"\w+", named[1])) == sorted(SNIPPETS)


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_reads_generated_data(tmp_path, monkeypatch, name):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))
    (config,) = write_scenes(name, tmp_path, ["train"]).readers("train")
    snippet = eval(SNIPPETS[name], {"dict": dict})

    assert {**snippet, "data_root": config["data_root"]} == config

    data = DATASETS.build(config)
    assert len(data) == len(scenes())
    assert data[0]["conversation"].turns[1].role == "assistant"
