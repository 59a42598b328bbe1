"""Slots filled by our batch equal LLaVA's merge in the model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmvlm.datasets.collate import collate_flat
from mmvlm.models.connectors.anyres import AnyResConnector
from mmvlm.models.connectors.linear import LinearConnector
from mmvlm.models.utils.merge import check_inputs, merge_embeddings
from mmvlm.models.utils.tiles import merge_tiles
from mmvlm.structures import (
    SLOT_TOKEN_ID,
    EncodedSample,
    SampleInputs,
    Slot,
    ViewLayout,
    VisionEncoderSpec,
    VLMDataSample,
)
from mmvlm.structures.tiles import select_best_resolution


def _load(goldens):
    facts = json.loads((goldens / "llava_prepare.json").read_text())
    return facts, np.load(goldens / "llava_prepare.npz")


def _case(arrays, name):
    size = len(name) + 1
    return {
        key[size:]: torch.from_numpy(arrays[key])
        for key in arrays.files
        if key.startswith(f"{name}/")
    }


def _merge_type(config):
    kind = config.get("mm_patch_merge_type", "flat")
    assert kind in ("flat", "spatial", "spatial_unpad")
    return kind


def _images(case, facts, arrays, features):
    """Rows of every feature block of the official list, after view merging."""
    views = facts["patches_per_image"] or [1] * len(features)
    config, kind = facts["config"], _merge_type(facts["config"])
    newline = torch.from_numpy(arrays["image_newline"])
    blocks = []
    for number, block in enumerate(features.split(views)):
        if kind == "flat":
            blocks.append(block.flatten(0, 1))
            continue
        width, height = facts["image_sizes"][number]
        view, side = config["image_size"], config["num_patches_per_side"]
        layout = ViewLayout((height, width), (view, view))
        if len(block) > 1:
            pins = [(h, w) for w, h in config["image_grid_pinpoints"]]
            best = select_best_resolution((height, width), pins)
            layout = replace(
                layout,
                num_views=len(block),
                kind="anyres",
                extra=(best[0] // view, best[1] // view),
            )
        spec = VisionEncoderSpec(4, 1, view // side, view)
        connector = _anyres(spec, newline, kind == "spatial_unpad")
        rows = connector.merge_views(block, (layout,))
        assert len(rows) == connector.num_output_tokens(layout)
        blocks.append(rows)
    return blocks


def _anyres(spec, newline, unpad):
    width = len(newline)
    inner = LinearConnector(vision_spec=spec, out_width=width, select_layers=[-1])
    connector = AnyResConnector(inner, vision_spec=spec, out_width=width, unpad=unpad)
    if unpad:
        connector.image_newline.data.copy_(newline)
    return connector


def _samples(case, facts, blocks, image_id):
    """Expand placeholders; say which feature blocks are used, in order."""
    ids = case["in/input_ids"]
    mask = case.get("in/attention_mask", torch.ones_like(ids)).bool()
    labels = case.get("in/labels", torch.full_like(ids, -100))
    items, used, block = [], [], 0
    for number in range(len(ids)):
        row, goal = ids[number][mask[number]], labels[number][mask[number]]
        new_ids, new_labels, slots, layouts = [], [], [], []
        has_image = bool((row == image_id).any())
        for token, label in zip(row.tolist(), goal.tolist(), strict=True):
            if token != image_id:
                new_ids.append(token)
                new_labels.append(label)
                continue
            length = len(blocks[block])
            slots.append(Slot(len(slots), len(new_ids), length))
            layouts.append(ViewLayout((1, 1), (1, 1)))
            new_ids += [SLOT_TOKEN_ID] * length
            new_labels += [-100] * length
            used.append(block)
            block += 1
        # The official list carries a dummy entry for a sample without image.
        block += 0 if has_image else 1
        encoded = EncodedSample(np.array(new_ids), np.array(new_labels), slots)
        views = torch.zeros(len(slots), 3, 1, 1)
        inputs = dict(image=SampleInputs(views, tuple(layouts))) if slots else {}
        items.append(
            dict(
                inputs=dict(streams=dict(text=encoded), inputs=inputs, targets={}),
                data_samples=VLMDataSample(metainfo=dict(sample_id=str(number))),
            )
        )
    assert block == len(blocks)
    return items, used


def _check_case(name, facts_all, arrays):
    facts, case = facts_all["cases"][name], _case(arrays, name)
    table = torch.from_numpy(arrays["embed_tokens"])
    assert table.shape == (facts_all["vocab"], facts_all["dim"])
    features = case["in/image_features"].clone().requires_grad_()
    blocks = _images(case, facts, arrays, features)
    items, used = _samples(case, facts, blocks, facts_all["IMAGE_TOKEN_INDEX"])

    batch = collate_flat(items)["inputs"]
    stream = batch.text
    text = torch.nn.functional.embedding(stream.input_ids.clamp(min=0), table)
    rows = torch.cat([blocks[k] for k in used])
    images = batch.inputs.get("image")
    index = stream.target_rows[:0] if images is None else images.slot_index
    flat = merge_embeddings(text, rows, index)

    out = case["out/inputs_embeds"]
    limit = facts["config"].get("tokenizer_model_max_length", flat.shape[0])
    left = facts["config"].get("tokenizer_padding_side") == "left"
    seen = torch.zeros(out.shape[:2], dtype=torch.bool)
    total = torch.zeros(())
    pieces = zip(
        flat.split(stream.seq_lens),
        stream.labels.split(stream.seq_lens),
        stream.position_ids.split(stream.seq_lens),
        strict=True,
    )
    for number, (embeds, labels, positions) in enumerate(pieces):
        embeds, labels, positions = embeds[:limit], labels[:limit], positions[:limit]
        start = out.shape[1] - len(embeds) if left else 0
        span = slice(start, start + len(embeds))
        seen[number, span] = True
        torch.testing.assert_close(embeds, out[number, span], atol=1e-5, rtol=0)
        if facts["returns_labels"]:
            assert torch.equal(labels, case["out/labels"][number, span])
        if facts["returns_position_ids"]:
            assert torch.equal(positions, case["out/position_ids"][number, span])
        total = total + (embeds * case["in/grad_weight"][number, span]).sum()
    # Whatever is not ours is the official padding.
    assert torch.equal(out[~seen], torch.zeros_like(out[~seen]))
    if facts["returns_attention_mask"]:
        assert torch.equal(case["out/attention_mask"].bool(), seen)
    if facts["returns_labels"]:
        assert (case["out/labels"][~seen] == facts_all["IGNORE_INDEX"]).all()
    total.backward()
    torch.testing.assert_close(
        features.grad, case["grad/image_features"], atol=1e-4, rtol=0
    )


@pytest.mark.golden
def test_merge_equals_official_values_labels_masks_and_gradients(goldens):
    facts, arrays = _load(goldens)
    assert facts["cases"]

    for name in facts["cases"]:
        try:
            _check_case(name, facts, arrays)
        except Exception as error:
            raise AssertionError(f"case '{name}': {error}") from error


@pytest.mark.golden
def test_merge_golden_covers_every_array(goldens):
    facts, arrays = _load(goldens)

    named = {key.split("/")[0] for key in arrays.files}

    assert named - {"embed_tokens", "image_newline"} == set(facts["cases"])


def test_merge_refuses_wrong_number_of_embeddings():
    with pytest.raises(ValueError, match="3 embeddings for 2 positions"):
        merge_embeddings(torch.zeros(4, 2), torch.zeros(3, 2), torch.tensor([0, 1]))


def test_merge_tiles_refuses_wrong_number_of_views():
    with pytest.raises(ValueError, match="3 views for 2 x 2 tiles"):
        merge_tiles(torch.zeros(3, 4, 2), (8, 8), (2, 2), (2, 2))


def test_check_names_the_sample_whose_image_does_not_fit():
    from mmvlm.testing import tiny_batch

    batch = tiny_batch(num_images=(1, 0, 2))
    batch.inputs["image"].slot_lens = (16, 16, 15)

    with pytest.raises(ValueError, match=r"sample 'sample-2'.*gives 16 .*has 15"):
        check_inputs(batch, lambda layout: 16, ["image"], {"image"})
