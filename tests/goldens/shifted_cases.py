"""Recipes of the second set: fewer and other cases of the files of texts and numbers.

A recipe changes the content of the file of its name. Records that only official code
can write are a part of the original ones, in another order.
"""

import json
import random

import mmvlm  # noqa: F401  isort: skip

import numpy as np
import torch
from shifted_arrays import MERGES_LEFT_OUT
from shifted_benchmarks import RECIPES as BENCHMARKS
from shifted_masks import eval_segmentation_iou
from shifted_scores import RECIPES as SCORES
from shifting import TESTS, builders

from mmvlm.datasets.samplers.modality_length import (
    length_grouped_indices,
    modality_length_grouped_indices,
    split_to_even_chunks,
)
from mmvlm.datasets.transforms.anyres_tiles import AnyResTiles
from mmvlm.models.language_models.adapters.mmca import allowed_keys, two_softmaxes
from mmvlm.registry import CODECS
from mmvlm.structures import Boxes, PatchTokenCount, Region
from mmvlm.structures.slices import overview_size, slice_grid, slice_size
from mmvlm.structures.tiles import TileTokenCount, unpadded_crop
from mmvlm.text.codecs import kosmos2


def some(records):
    """Return every second record, in another order."""
    kept = records[1::2] or records
    return random.Random(0).sample(kept, len(kept))


# -------------------------------------------------------------- parts of records
def llava_preprocess(content):
    """Keep half of the conversations of each template, under other ids."""
    groups = {}
    for record in content["cases"]:
        renamed = dict(record, id=f"shifted {record['id']}")
        groups.setdefault((record["template"], "error" in record), []).append(renamed)
    content["cases"] = [record for group in groups.values() for record in some(group)]


def grounding_text(content):
    """Keep half of the texts that are written and read."""
    for codec in content.values():
        for key in {"encode", "decode", "token_decode"} & set(codec):
            codec[key] = some(codec[key])


def pink_tasks(content):
    """Keep half of the questions."""
    content["cases"] = some(content["cases"])


def phrase_grounding_eval(content):
    """Leave a picture out and measure the recalls of the others."""
    lost = content["split_file"].pop(0)
    for texts in ("annotations_xml", "sentences_txt"):
        del content[texts][lost]
    for parsed in content["parsed"].values():
        del parsed[lost]
    records = content["shikra_flattened"]
    content["shikra_flattened"] = [r for r in records if r["image_id"] != lost]
    kept = [one for one in content["predictions"] if one["image_id"] != lost]
    content["predictions"] = kept
    case = content["ferret_text"]
    pairs = list(zip(case["images"], case["predictions"], strict=True))
    pairs = [pair for pair in pairs if str(pair[0]["original_img_id"]) != lost]
    case["images"], case["predictions"] = map(list, zip(*pairs, strict=True))
    test = builders(TESTS / "test_evaluation/test_golden_phrase_grounding.py")
    content["recall"], case["merged_recall"] = test.recalls_of(content)


def llava_prepare(content):
    """Leave out the cases that the arrays lack; say their sizes."""
    for name in MERGES_LEFT_OUT:
        del content["cases"][name]
    content.update(vocab=content["vocab"] + 7, dim=6)


# --------------------------------------------------------------- computed numbers
def densefusion_trainable(content):
    """Unfreeze towers of other depths."""
    path = TESTS / "test_models/test_vision_encoders/test_hf_vision.py"
    unfrozen = builders(path).unfrozen
    content.clear()
    for blocks, first in ((7, 5), (4, -1), (3, 0)):
        name = f"from_{first}".replace("-", "minus")
        content[f"{blocks}_blocks_{name}"] = unfrozen(blocks, first)


def llava_anyres(content, tile=280, side=20):
    """Count the tokens of other pictures on smaller tiles."""
    transform = AnyResTiles(size=tile)
    pins = [[cols * tile, rows * tile] for rows, cols in transform.tilings]
    sizes = [[w + 5, h + 9] for w, h in (row["size_wh"] for row in content["rows"])]
    content.update(tile=tile, patch_grid=side, pinpoints=pins, rows=[])
    for width, height in some(sizes):
        layout = transform.layout(height, width)
        rows, cols = layout.extra
        top, bottom, left, right = unpadded_crop(
            (height, width), (rows * side, cols * side)
        )
        patches = PatchTokenCount(tile // side)
        content["rows"].append(
            dict(
                size_wh=[width, height],
                best_wh=[cols * tile, rows * tile],
                grid_wh=[cols, rows],
                tiles=rows * cols,
                unpadded_hw=[bottom - top, right - left],
                num_tokens_unpad=TileTokenCount(patches, True)(layout),
                num_tokens_nounpad=TileTokenCount(patches, False)(layout),
            )
        )


def modality_sampler(content):
    """Group other lengths for other batches and record the draws."""
    cases, chunks = content["cases"], content["split_to_even_chunks"]
    for case in cases:
        lengths = [length + (3 if length > 0 else -3) for length in case["lengths"][5:]]
        case.update(lengths=lengths, batch_size=case["batch_size"] + 1, randperms=[])

        def permute(n, generator, case=case):
            perm = torch.randperm(n, generator=generator).tolist()
            used = generator is not None
            case["randperms"].append(dict(n=n, perm=perm, uses_generator=used))
            return perm

        torch.manual_seed(case["global_seed"])
        seed = case["generator_seed"]
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        both = case["group_by_modality"]
        order = modality_length_grouped_indices if both else length_grouped_indices
        sizes = (case["batch_size"], case["world_size"])
        case["indices"] = order(lengths, *sizes, generator, permute=permute)
    for case in chunks:
        case["lengths"] = [length * 2 + 1 for length in case["lengths"]]
        given = (case["indices"], case["lengths"], case["num_chunks"])
        case["chunks"] = split_to_even_chunks(*given)
    content.update(cases=some(cases), split_to_even_chunks=some(chunks))


def mmca_mask(content):
    """Mask other sequences of text (1), pictures (2) and padding (0)."""
    content["cases"] = []
    for kinds in (
        [1, 2, 1, 2, 2, 1],
        [2, 2, 2],
        [1, 1, 2, 1, 0],
        [2, 1, 2, 1, 2, 1, 1],
    ):
        types, size = torch.tensor([kinds]), len(kinds)
        image, text, causal = allowed_keys(types, size)
        new_image, new_text, _ = allowed_keys(torch.tensor([[*kinds, 1]]), 1)
        scores = torch.randn(size, size)
        both = {"img": image & causal, "text": text & causal}
        case = dict(name=str(kinds), token_type=kinds, scores=scores.tolist())
        for key, mask in both.items():
            case[f"allow_{key}"] = mask[0].int().tolist()
            case[f"row_has_allowed_{key}"] = mask[0].any(-1).int().tolist()
        case["decode_allow_img"] = new_image[0, 0, :-1].int().tolist()
        case["decode_allow_text"] = new_text[0, 0, :-1].int().tolist()
        for key, safe in (("attn_sum_safe", True), ("attn_sum_used", False)):
            weights = two_softmaxes(scores[None, None], types, safe)
            case[key] = weights[0, 0].tolist()
        content["cases"].append(case)


def connectors_small(content, side=320, most=7, patch=16):
    """Slice other pictures into patches of another size."""
    cases, done = content["llava_uhd_slicing"], []
    for width, height in {(w + 90, h + 31) for w, h in (c["size_wh"] for c in cases)}:
        size = (height, width)
        grid = slice_grid(size, side, most)
        cut = slice_size(size, grid, side, patch) if grid else None
        cols = grid[1] if grid else 0
        case = dict(scale_resolution=side, max_slice_nums=most, patch_size=patch)
        case.update(
            size_wh=[width, height],
            source_wh=[*overview_size(size, grid, side, patch)][::-1],
            grid_cols_rows=[*grid][::-1] if grid else None,
            num_slices=grid[0] * cols if grid else 0,
            slice_wh=[*cut][::-1] if grid else None,
            separators=(["comma"] * (cols - 1) + ["newline"])
            * (grid[0] if grid else 0),
        )
        done.append(case)
    content["llava_uhd_slicing"] = done


# ------------------------------------------------------------------ boxes as tokens
def kosmos2_boxes(content, bins=40):
    """Write and read boxes on a finer grid."""
    content["bins"] = bins
    first = content["patch_index_0000_id"]
    for record in content["encode"]:
        pair = kosmos2.box_to_patches(record["box"], bins)
        record.update(
            patch_index=pair,
            tokens=[f"<patch_index_{index:04d}>" for index in pair],
            token_ids=[first + index for index in pair],
            decoded_box=kosmos2.patches_to_box(*pair, bins),
        )
    for record in content["encode_out_of_range"]:
        record["patch_index"] = kosmos2.box_to_patches(record["box"], bins)
    for record in content["decode"]:
        record["box"] = kosmos2.patches_to_box(record["ul"], record["lr"], bins)
    for record in content["insert"]:
        if "error" not in record:
            given = (record["text"], record["bboxes"], bins)
            record["result"] = kosmos2.insert_boxes(*given)
    for key in ("encode", "decode"):
        content[key] = some(content[key])


def ofa_boxes(content, bins=700, side=384):
    """Write boxes of larger pictures in other bins."""
    content.update(num_bins=bins, patch_image_size=side, max_image_size=side)
    options = dict(type="OFACodec", num_bins=bins, image_size=side)
    codec = CODECS.build(options)
    other = CODECS.build(dict(options, decode_by=bins))
    for record in content["boxes"]:
        record.update(w=record["w"] + 11, h=record["h"] + 40)
        size = (record["h"], record["w"])
        text = codec.encode(Region(0, Boxes(np.array([record["box"]]), size)))
        found = [
            c.decode(text, size).boxes(size).xyxy[0].tolist() for c in (codec, other)
        ]
        numbers = [int(word[5:-1]) for word in text.split()]
        record.update(target_text=text, bins=numbers, resized_hw=[side, side])
        record.update(decoded_official=found[0], decoded_mmpretrain=found[1])
        del record["roundtrip_correct"]
    content["boxes"] = some(content["boxes"])


RECIPES = (
    llava_preprocess,
    grounding_text,
    pink_tasks,
    phrase_grounding_eval,
    llava_prepare,
    densefusion_trainable,
    llava_anyres,
    modality_sampler,
    mmca_mask,
    connectors_small,
    kosmos2_boxes,
    ofa_boxes,
    *BENCHMARKS,
    *SCORES,
    eval_segmentation_iou,
)


def write_cases(folder):
    """Write every file of ``RECIPES`` anew into the folder that holds the originals."""
    for recipe in RECIPES:
        torch.manual_seed(0)
        path = folder / f"{recipe.__name__}.json"
        content = json.loads(path.read_text())
        recipe(content)
        path.write_text(json.dumps(content))
