"""Every format that annotates regions, through its task and through codecs."""

import pytest
from grounding_helpers import write_scenes

from mmvlm.datasets.annotated import AnnotatedImageDataset
from mmvlm.datasets.bad_samples import BadRecord
from mmvlm.datasets.processor import VLMProcessor
from mmvlm.registry import (
    CHAT_TEMPLATES,
    CODECS,
    DATASETS,
    SCENE_WRITERS,
    TOKENIZERS,
)
from mmvlm.structures import IGNORE_INDEX, PatchTokenCount, Region

SCENE_WRITERS.import_from_location()
DATASETS.import_from_location()
CHOSEN = ("ShikraCodec", "Kosmos2Codec", "FerretCodec", "RegionTokenCodec")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))


def regions_in(conversation):
    return [
        p for turn in conversation.turns for p in turn.parts if isinstance(p, Region)
    ]


@pytest.mark.parametrize("name", sorted(SCENE_WRITERS.module_dict))
def test_regions_of_a_format_are_written_in_every_syntax(name, tmp_path):
    configs = [
        config
        for config in write_scenes(name, tmp_path, ["train"]).readers("train")
        if issubclass(DATASETS.get(config["type"]), AnnotatedImageDataset)
    ]
    if not configs:
        pytest.skip(f"{name} annotates no images, or gives no readers")
    for config in configs:
        plain = DATASETS.build(config)
        for codec in CHOSEN:
            step = dict(type="WriteRegions", codec=dict(type=codec))
            written = DATASETS.build({**config, "pipeline": [step]})
            seen = 0
            for position in range(min(len(plain), 12)):
                before = plain[position]
                if isinstance(before, BadRecord):
                    assert before.kind == "nothing to ask"
                    continue
                regions = regions_in(before["conversation"])
                after = written[position]
                assert regions_in(after["conversation"]) == []
                seen += len(regions)
                if regions and CODECS.build(dict(type=codec)).writes_coordinates:
                    check_read_back(codec, after, regions)
            assert seen or name not in ("refcoco", "visual_genome"), (name, codec)


def check_read_back(codec, item, regions):
    """What the codec reads in the written text is where the regions were."""
    reader = CODECS.build(dict(type=codec))
    size = regions[0].boxes.size
    text = "\n".join(turn.text for turn in item["conversation"].turns)
    found = reader.decode(text, size)
    assert found.verdict == "ok", (text, found.problems)
    count = sum(len(region.boxes) for region in regions)
    assert len(found.boxes(size)) == count


def bound_refcoco(folder, codec, task, *steps):
    tokenizer = TOKENIZERS.build(dict(type="TinyTokenizer", codec=codec))
    template = CHAT_TEMPLATES.build(dict(type="vicuna_v1"))
    (config,) = write_scenes("refcoco", folder, ["train"]).readers("train")
    data = DATASETS.build(
        dict(
            config,
            per="image",
            task=task,
            pipeline=[
                dict(type="LoadImages"),
                dict(type="ResizeSquare", size=48, resample="bicubic"),
                *steps,
                dict(type="WriteRegions", codec=codec),
                dict(type="EncodeConversation"),
                dict(type="PackVLMInputs", meta_keys=["regions"]),
            ],
        )
    )
    data.bind(VLMProcessor(tokenizer, template, token_count=PatchTokenCount(12)))
    return data


def test_boxes_come_through_from_files_to_trained_tokens(tmp_path):
    codec = dict(type="Kosmos2Codec")
    data = bound_refcoco(tmp_path, codec, dict(type="ReferringComprehension"))

    item = data[0]

    labels = item["inputs"]["streams"]["text"].labels
    trained = data.pipeline.transforms[-2].context.tokenizer.decode(
        labels[labels != IGNORE_INDEX]
    )
    assert trained.strip().startswith("<object><patch_index_")
    sample = item["data_samples"]
    found = CODECS.build(codec).decode(trained, sample.gt_boxes.size)
    assert found.boxes(sample.gt_boxes.size).iou(sample.gt_boxes)[0, 0] > 0.6


@pytest.mark.parametrize("codec", ["OFACodec", "LLaVACodec"])
def test_token_lengths_are_known_without_images(codec, tmp_path):
    jitter = dict(type="JitterRegions", scale=0.2, min_iou=0.3)
    codec = dict(type=codec, geometry="stretch")
    data = bound_refcoco(tmp_path, codec, dict(type="MultiTurn"), jitter)
    assert data.pipeline.without_plan() is None
    seen = []
    for epoch in (0, 1):
        data.set_epoch(epoch)
        lengths = data.token_lengths_at(epoch).tolist()
        items = [data[position] for position in range(len(data))]
        assert lengths == [len(item["inputs"]["streams"]["text"]) for item in items]
        seen.append(lengths)
    assert seen[0] != seen[1], "questions are drawn anew in every epoch"
