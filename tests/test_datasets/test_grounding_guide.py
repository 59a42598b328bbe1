"""The guide's configs read what the writers write, with their default tasks."""

import re
from pathlib import Path

import pytest
from grounding_helpers import write_scenes

from mmvlm.datasets.annotated import AnnotatedImageDataset
from mmvlm.registry import DATASETS
from mmvlm.structures import Region

PAGE = Path(__file__).resolve().parents[2] / "docs/en/user_guides/formats/grounding.md"
TEXT = PAGE.read_text()
SNIPPETS = dict(re.findall(r"<!-- scenes: (\w+) -->\n```python\n(.*?)```", TEXT, re.S))


def test_every_format_of_the_page_has_a_snippet():
    named = re.search(r"TinyScenes are written in the layouts (.*?);", TEXT, re.S)

    assert sorted(re.findall(r"`(\w+)`", named[1])) == sorted(SNIPPETS)


def test_the_table_says_the_default_tasks():
    for name, task in re.findall(r"\| `(\w+Dataset)` \|.*\| `(\w+)` \|\n", TEXT):
        reader = DATASETS.get(name)
        assert issubclass(reader, AnnotatedImageDataset)
        assert reader.default_task["type"] == task


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_reads_generated_data(tmp_path, monkeypatch, name):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))
    snippet = eval(SNIPPETS[name], {"dict": dict})
    configs = write_scenes(name, tmp_path / "scenes", ["train"]).readers("train")
    (config, *_) = [c for c in configs if c.get("dialect") == snippet.get("dialect")]
    # The public files have other names in places, and images are JPEG.
    places = ("data_root", "ann_file", "image_prefix", "image_suffix", "image_pattern")
    changes = {key: config[key] for key in places if key in config}

    data = DATASETS.build({**snippet, **changes})

    assert config["type"] == snippet["type"]
    regions = [
        part
        for position in range(len(data))
        for turn in data[position]["conversation"].turns
        for part in turn.parts
        if isinstance(part, Region)
    ]
    assert len(regions) >= len(data)
