"""MMMU's questions are worded as its official script words them."""

import io
import json
import re

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from mmvlm.registry import DATASETS


@pytest.mark.golden
def test_mmmu_prompts(goldens, tmp_path):
    text = (goldens / "eval_mmmu.json").read_text(encoding="utf-8")
    prompts = json.loads(text)["official_score"]["prompts"]
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    rows = [
        dict(
            id=f"validation_Art_{number}",
            question=prompt.split("\n\n")[0],
            options=repr(re.findall(r"^\([A-Z]\) (.*)$", prompt, re.M)),
            answer="A",
            question_type=kind,
            image_1=dict(bytes=stream.getvalue(), path=None),
        )
        for number, (kind, prompt) in enumerate(prompts.items())
    ]
    (tmp_path / "Art").mkdir()
    table = pyarrow.Table.from_pylist(rows)
    parquet.write_table(table, tmp_path / "Art" / "validation-0.parquet")
    data = DATASETS.build(
        dict(
            type="MMMUDataset",
            data_root=str(tmp_path),
            ann_file="*/validation-*.parquet",
            evaluate=True,
            pipeline=[],
        )
    )
    for index, prompt in enumerate(prompts.values()):
        assert data[index]["conversation"].turns[0].text.strip() == prompt
