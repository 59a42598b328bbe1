"""Codecs against the texts and verdicts of the systems' own code."""

import json
import re

import numpy as np
import pytest

from mmvlm.registry import CODECS
from mmvlm.structures import Boxes, Region
from mmvlm.text.codecs import ferret, kosmos2, pink, qwen_vl, shikra, visionllm
from mmvlm.text.codecs.base import Found
from mmvlm.text.token_tree import TokenTree

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def golden(goldens):
    return json.loads((goldens / "grounding_text.json").read_text())


@pytest.fixture(scope="module")
def kosmos(goldens):
    return json.loads((goldens / "kosmos2_boxes.json").read_text())


@pytest.fixture(scope="module")
def ofa(goldens):
    return json.loads((goldens / "ofa_boxes.json").read_text())


def build(name, **kwargs):
    return CODECS.build(dict(type=name, **kwargs))


def boxes_of(record, rows=None):
    return Boxes(np.array(rows or record["boxes"]), (record["h"], record["w"]))


def region_of(record, **kwargs):
    return Region(0, boxes_of(record), **kwargs)


def point_of(record):
    return Region(0, boxes_of(record, [[*record["point"]] * 2]), "point")


def rows_of(found):
    """Groups of rows, as the golden file has them; an error is its class."""
    if any(not isinstance(item, Found) for item in found):
        return dict(ok=False, error="ValueError")
    return dict(ok=True, value=[item.values for item in found])


# ------------------------------------------------------------------- Shikra
def test_shikra_writes_the_official_texts(golden):
    for record in golden["shikra"]["encode"]:
        region = region_of(record)

        assert (
            build("ShikraCodec", geometry="stretch").encode(region) == record["string"]
        )
        assert build("ShikraCodec").encode(region) == record["square_string"]
        small = build("ShikraCodec", brackets="round").encode(region)
        assert small == record["small_brackets"]
        tokens = build("ShikraCodec", tokens=True)
        assert tokens.encode(region) == record["token_string"]
        assert tokens.encode(point_of(record)) == record["token_point_string"]
        assert build("ShikraCodec").encode(point_of(record)) == record["point_string"]


def test_shikra_reads_as_the_official_decoder(golden):
    for record in golden["shikra"]["decode"]:
        text = record["text"]
        for kind, key in (("box", "boxes"), ("point", "points")):
            assert rows_of(shikra.read_numbers(text, kind)) == record[key], text
        answer = dict(ok=True, value=shikra.rec_answer(text))
        assert answer == record["rec_answer"], text
        small = shikra.read_numbers(text, "box", "round")
        assert rows_of(small) == record["small_bracket_boxes"], text


def test_shikra_reads_tokens_as_the_official_decoder(golden):
    for record in golden["shikra"]["token_decode"]:
        for kind, key in (("box", "boxes"), ("point", "points")):
            found = shikra.read_tokens(record["text"], kind)
            assert rows_of(found) == record[key], record["text"]


def test_shikra_fills_placeholders_like_the_official_formatter(golden):
    codec = build("ShikraCodec")
    for case in golden["shikra"]["placeholder"]:
        # The record's boxes are fractions: a square of side 1 keeps them.
        parts = iter(case["sentence"].split("<boxes>"))
        text = next(parts)
        for indices, rest in zip(case["boxes_seq"], parts, strict=True):
            rows = np.array([case["boxes"][index] for index in indices])
            text += codec.encode(Region(0, Boxes(rows, (1, 1)))) + rest
        assert text == case["result"]


# ------------------------------------------------------------------- Ferret
def test_ferret_writes_the_official_texts(golden):
    codec = build("FerretCodec")
    for record in golden["ferret"]["encode"]:
        assert codec.encode(region_of(record)) == " ".join(record["strings"])
        x, y = record["regulated"][0][:2]
        point = Region(0, boxes_of(record, [[x, y, x, y]]), "point")
        assert codec.encode(point) == record["point_string"]
        asked = codec.encode(point, role="user")
        assert asked == f"{record['point_string']} <region_fea>"


def test_ferret_reads_pixels_as_the_official_evaluation(golden):
    codec = build("FerretCodec")
    for record in golden["ferret"]["encode"]:
        size = (record["h"], record["w"])
        (text,) = [" ".join(record["strings"])]
        found = codec.decode(text, size).boxes(size).xyxy
        assert found.tolist() == record["decoded_pixels"]


def test_ferret_parsers_give_the_official_verdicts(golden):
    parsers = dict(
        eval_parser=ferret.eval_entities, template_parser=ferret.template_entities
    )
    for record in golden["ferret"]["decode"]:
        size = (record["h"], record["w"])
        for key, parser in parsers.items():
            try:
                got = dict(
                    ok=True, value=[list(x) for x in parser(record["text"], size)]
                )
            except (ValueError, IndexError) as error:
                got = dict(ok=False, error=type(error).__name__)
            assert got == record[key], (key, record["text"])


# ------------------------------------------------------------------ Qwen-VL
def test_qwen_vl_writes_the_expected_texts(golden):
    codec = build("QwenVLCodec")
    for record in golden["qwen_vl"]["encode"]:
        assert codec.encode(region_of(record, phrase="the object")) == record["string"]


@pytest.mark.parametrize("decode_at, key", [("eval", "eval_pixels"), ("draw", None)])
def test_qwen_vl_reads_its_own_texts(golden, decode_at, key):
    codec = build("QwenVLCodec", decode_at=decode_at)
    for record in golden["qwen_vl"]["encode"]:
        size = (record["h"], record["w"])
        found = codec.decode(record["string"], size)
        rows = found.boxes(size).xyxy
        assert found.regions[0].phrase == "the object"
        if key:
            np.testing.assert_allclose(rows, record[key], rtol=1e-12)
        else:
            np.testing.assert_array_equal(rows.astype(int), record["draw_pixels"])


def test_qwen_vl_evaluation_box(golden):
    for record in golden["qwen_vl"]["decode"]:
        box, status = qwen_vl.eval_box(record["text"])
        assert status == record["status"], record["text"]
        expected = [float(value) for value in record["eval_box"]]
        np.testing.assert_array_equal(box, expected, err_msg=record["text"])


# --------------------------------------------------------------------- PINK
def test_plain_writes_the_official_texts(golden):
    for record in golden["plain"]["encode"]:
        written = build("PinkCodec").encode(region_of(record))
        assert written == " ".join(record["strings"])


def test_plain_evaluation_box(golden):
    for record in golden["plain"]["decode"]:
        assert pink.eval_box(record["text"]) == record["box"], record["text"]


# ---------------------------------------------------------------- VisionLLM
def test_visionllm_offsets_and_tokens(golden):
    for record in golden["visionllm"]["encode"]:
        size = (record["h"], record["w"])
        texts = []
        for item, row in zip(record["objects"], record["boxes"], strict=True):
            codec = build("VisionLLMCodec", location=item["location"])
            unit = codec.to_frame(Boxes(np.array([row]), size))[0]
            offsets = visionllm.encode_offsets(unit, item["location"])
            assert offsets == item["offsets"]
            tokens = [f"<c{item['cls']}>", *(f"<p{value}>" for value in offsets)]
            assert tokens == item["tokens"]
            texts.append(" ".join(tokens))

            found = codec.decode(texts[-1], size).boxes(size)
            np.testing.assert_allclose(found.xyxy[0], item["decoded"], rtol=1e-9)
            np.testing.assert_allclose(
                found.clip().xyxy[0], item["decoded_clipped"], rtol=1e-9
            )
        assert " ".join(texts) == record["string"]


def test_visionllm_reads_and_polygons(golden):
    for record in golden["visionllm"]["decode"]:
        assert visionllm.read_objects(record["text"]) == record["objects"]
    polygon = golden["visionllm"]["polygon"]
    flat = np.array(polygon["points"]).reshape(-1)
    offsets = visionllm.encode_offsets(flat, polygon["location"])
    assert np.reshape(offsets, (-1, 2)).tolist() == polygon["offsets"]


# ----------------------------------------------------------------- Kosmos-2
def test_kosmos2_cells(kosmos):
    bins = kosmos["bins"]
    codec = build("Kosmos2Codec", grid=bins)
    for record in kosmos["encode"]:
        pair = kosmos2.box_to_patches(record["box"], bins)
        assert list(pair) == record["patch_index"]
        box = kosmos2.patches_to_box(*pair, bins)
        np.testing.assert_allclose(box, record["decoded_box"], rtol=0, atol=1e-9)
        square = Boxes(np.array([record["box"]]), (1, 1))
        text = codec.encode(Region(0, square))
        assert text == f"<object>{''.join(record['tokens'])}</object>"
    for record in kosmos["encode_out_of_range"]:
        assert (
            list(kosmos2.box_to_patches(record["box"], bins)) == record["patch_index"]
        )
    for record in kosmos["encode_errors"]:
        with pytest.raises(ValueError, match="has no area"):
            kosmos2.box_to_patches(record["box"], bins)
    for record in kosmos["decode"]:
        box = kosmos2.patches_to_box(record["ul"], record["lr"], bins)
        np.testing.assert_allclose(box, record["box"], rtol=0, atol=1e-9)


def test_kosmos2_special_tokens_are_the_released_ones(kosmos):
    tokens = build("Kosmos2Codec", grid=kosmos["bins"]).special_tokens

    patches = [token for token in tokens if token.startswith("<patch_index")]
    tags = [token for token in tokens if token not in patches]
    assert set(tags) <= set(kosmos["tag_token_ids"])
    for record in kosmos["encode"]:
        ids = [
            kosmos["patch_index_0000_id"] + patches.index(t) for t in record["tokens"]
        ]
        assert ids == record["token_ids"]


def test_kosmos2_inserts_boxes(kosmos):
    bins = kosmos["bins"]
    for record in kosmos["insert"]:
        if "error" in record:
            with pytest.raises(ValueError, match=r"phrases|area"):
                kosmos2.insert_boxes(record["text"], record["bboxes"], bins)
            continue
        written = kosmos2.insert_boxes(record["text"], record["bboxes"], bins)
        assert written == record["result"]


def test_kosmos2_cleans_texts(golden):
    for record in golden["kosmos2"]["decode"]:
        text, entities = kosmos2.clean_entities(record["text"])
        expected, want = record["result"]["value"]
        assert text == expected, record["text"]
        assert [(n, list(s)) for n, s, _ in entities] == [(n, s) for n, s, _ in want]
        for (_, _, boxes), (_, _, rows) in zip(entities, want, strict=True):
            np.testing.assert_allclose(boxes, rows, rtol=0, atol=1e-9)


# ---------------------------------------------------------------------- OFA
def test_ofa_bins(ofa):
    options = dict(num_bins=ofa["num_bins"], image_size=ofa["patch_image_size"])
    official = build("OFACodec", **options)
    other = build("OFACodec", **options, decode_by=ofa["num_bins"])
    for record in ofa["boxes"]:
        size = (record["h"], record["w"])
        region = Region(0, Boxes(np.array([record["box"]]), size))
        text = official.encode(region)
        assert text == record["target_text"]
        assert [int(n) for n in re.findall(r"\d+", text)] == record["bins"]
        for codec, key in (
            (official, "decoded_official"),
            (other, "decoded_mmpretrain"),
        ):
            found = codec.decode(text, size).boxes(size).xyxy[0]
            np.testing.assert_allclose(found, record[key], rtol=0, atol=1e-3)


def test_ofa_tree_allows_what_the_trie_and_its_constraint_allow(ofa):
    case = ofa["trie"]
    tree = TokenTree(case["sequences"], case["eos"])
    for record in case["next"]:
        assert tree.allowed(record["prefix"]) == record["allowed"], record
    plain = case["apply_constraint"]
    found = [tree.allowed(row) for row in plain["input_ids"]]
    assert found == plain["allowed_last_step"]
    for step in (value for key, value in case.items() if key.startswith("prompt_")):
        prompts, rows = step["decoder_prompts"], step["input_ids"]
        beams = len(rows) // len(prompts)
        found = [
            tree.allowed_behind(prompts[number // beams], row)
            for number, row in enumerate(rows)
        ]
        assert found == step["allowed"]


# ------------------------------------------------------- all damaged texts
def _cut_short():
    """Return what every codec writes of a box, without its end."""
    region = Region(0, Boxes(np.array([[4.0, 8.0, 30.0, 40.0]]), (48, 64)))
    CODECS.import_from_location()
    codecs = [build(name) for name in CODECS.module_dict]
    written = [c.encode(region) for c in codecs if c.writes_coordinates]
    return [text[:end] for text in written for end in range(1, len(text))]


def test_no_codec_raises_on_any_damaged_text(golden):
    texts = [
        record["text"] for part in golden.values() for record in part.get("decode", [])
    ]
    texts += [record["text"] for record in golden["shikra"]["token_decode"]]
    assert texts
    texts += _cut_short()
    CODECS.import_from_location()
    for name in CODECS.module_dict:
        codec = build(name)
        verdicts = {codec.decode(text, (48, 64)).verdict for text in texts}
        assert verdicts <= {"ok", "none", "malformed"}
        assert "malformed" in verdicts or not codec.writes_coordinates, name
