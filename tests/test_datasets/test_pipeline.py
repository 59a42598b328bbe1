"""The whole road: file, images, template, tokens, batch."""

import pytest
from torch.utils.data import DataLoader

from mmvlm.datasets.bad_samples import DataError
from mmvlm.datasets.collate import collate_flat
from mmvlm.datasets.processor import VLMProcessor
from mmvlm.datasets.readers.llava import LLaVADataset
from mmvlm.datasets.samplers.modality_length import ModalityLengthSampler
from mmvlm.registry import CHAT_TEMPLATES, TOKENIZERS
from mmvlm.structures import PatchTokenCount, VisionEncoderSpec


@pytest.fixture(scope="module")
def context(goldens):
    tokenizer = TOKENIZERS.build(
        dict(
            type="HFTokenizer",
            name_or_path=str(goldens / "llava_tokenizer"),
            use_fast=False,
            pad="unk",
        )
    )
    spec = VisionEncoderSpec(width=8, num_layers=2, patch_size=4, image_size=8)
    template = CHAT_TEMPLATES.build(dict(type="vicuna_v1"))
    return VLMProcessor(tokenizer, template, spec, PatchTokenCount(4))


def pipeline(**encode):
    return [
        dict(type="LoadImages"),
        dict(type="PadToSquare"),
        dict(type="EncodeConversation", **encode),
        dict(type="PackVLMInputs"),
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_targets_are_the_answers(llava, make, context, workers):
    rows = [make.record(i, images=i % 3, words=i + 1) for i in range(6)]
    dataset = LLaVADataset(
        **llava.write(rows), pipeline=pipeline(max_length=200), name="road"
    )
    dataset.bind(context)
    sampler = ModalityLengthSampler(dataset, 3, seed=0, rank=0, world_size=1)
    loader = DataLoader(
        dataset, batch_sampler=sampler, num_workers=workers, collate_fn=collate_flat
    )

    for data, rows_of_batch in zip(loader, sampler.plan(0), strict=True):
        batch = data["inputs"]
        assert batch.sample_ids == tuple(rows[i]["id"] for i in rows_of_batch)
        images = batch.inputs["image"]
        assert set(images.slot_lens) <= {4}
        assert len(images.slot_lens) == sum(i % 3 for i in rows_of_batch)
        assert len(images.slot_index) == 4 * len(images.slot_lens)
        expected = [
            rows[i]["conversations"][1]["value"] + "</s>" for i in rows_of_batch
        ]
        stream = batch.text
        text = context.tokenizer.decode(stream.targets)
        assert text.replace(" ", "") == "".join(expected).replace(" ", "")
        # What predicts a token lies right before it.
        assert (stream.labels[stream.target_rows + 1] == stream.targets).all()


def test_too_long_sample_is_named_once_dropped_or_cut(llava, make, context):
    config = llava.write([make.record(0, words=100)])

    def item(**encode):
        dataset = LLaVADataset(**config, pipeline=pipeline(max_length=90, **encode))
        dataset.bind(context)
        return dataset[0]

    with pytest.raises(DataError, match=r"^sample 0 of 'ann' .* id 'id0'\): \d+ tok"):
        item()
    assert item(overflow="drop").kind == "dropped"
    cut = item(overflow="truncate_text")
    assert len(cut["inputs"]["streams"]["text"]) == 90
    assert cut["data_samples"].truncated_tokens > 0


def test_prompt_mode_keeps_the_answer_apart(llava, make, context):
    dataset = LLaVADataset(
        **llava.write([make.record(0)]), pipeline=pipeline(mode="generate")
    )
    dataset.bind(context)

    item = dataset[0]

    assert item["data_samples"].gt_text == "word word word"
    assert collate_flat([item])["inputs"].text.num_targets == 0
