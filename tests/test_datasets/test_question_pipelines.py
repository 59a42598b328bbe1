"""Samples of question, caption and document readers go through a whole pipeline."""

import pytest
from qa_helpers import own_cache, written  # noqa: F401

from mmvlm.datasets.processor import VLMProcessor
from mmvlm.registry import CHAT_TEMPLATES, DATASETS, TOKENIZERS
from mmvlm.structures import IGNORE_INDEX, PatchTokenCount, VisionEncoderSpec

FORMATS = (
    *("vqav2", "okvqa", "aokvqa", "gqa", "textvqa", "vizwiz", "ocr_vqa", "scienceqa"),
    *("coco_captions", "textcaps", "cc3m", "sharegpt4v", "llava_mix"),
    *("web_shards", "hf_folder", "mmc4", "obelics"),
)
SIZE, PATCH = 8, 2
TOKENS = (SIZE // PATCH) ** 2


def opened(config, template="vicuna_v1", mode="train"):
    plain = dict(type="plain", require_image=False)
    spec = VisionEncoderSpec(width=8, num_layers=2, patch_size=PATCH, image_size=SIZE)
    context = VLMProcessor(
        TOKENIZERS.build(dict(type="TinyTokenizer", words=())),
        CHAT_TEMPLATES.build(plain if template == "plain" else dict(type=template)),
        spec=spec,
        token_count=PatchTokenCount(patch_size=PATCH),
    )
    pipeline = [
        dict(type="LoadImages"),
        dict(type="PadToSquare"),
        dict(type="EncodeConversation", mode=mode),
        dict(type="PackVLMInputs"),
    ]
    dataset = DATASETS.build({**config, "pipeline": pipeline})
    dataset.bind(context)
    return dataset


@pytest.mark.parametrize("name", FORMATS)
def test_samples_are_encoded_with_their_images(tmp_path, name):
    _, configs = written(name, tmp_path, num=4)
    template = "plain" if name in ("mmc4", "obelics") else "vicuna_v1"

    for config in configs:
        dataset = opened(config, template)
        for position in range(len(dataset)):
            inputs = dataset[position]["inputs"]
            encoded, images = inputs["streams"]["text"], inputs["inputs"].get("image")
            count = 0 if images is None else len(images.values)
            assert sum(slot.length for slot in encoded.slots) == count * TOKENS
            trained = encoded.labels != IGNORE_INDEX
            assert trained.any() and not trained.all()


def test_questions_with_hidden_answers_are_generated_from(tmp_path):
    _, (config,) = written("vqav2", tmp_path, num=2)
    shown = opened(config, mode="generate")
    hidden = opened({**config, "answer_file": None}, mode="generate")

    for position in range(len(shown)):
        known, asked = shown[position], hidden[position]
        with_answer, without = (
            one["inputs"]["streams"]["text"].input_ids for one in (known, asked)
        )
        assert with_answer.tolist() == without.tolist()
        assert known["data_samples"].gt_text
        assert "gt_text" not in asked["data_samples"]
