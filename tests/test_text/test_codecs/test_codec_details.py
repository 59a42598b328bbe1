"""What single codecs do beyond the contract and the goldens."""

import numpy as np
import pytest

from mmvlm.registry import CODECS
from mmvlm.structures import Boxes, Region, Text

SIZE = (480, 640)


def build(name, **kwargs):
    return CODECS.build(dict(type=name, **kwargs))


def region(*rows, **kwargs):
    return Region(0, Boxes(np.array(rows, dtype=float), SIZE), **kwargs)


DOG = (64.0, 48.0, 320.0, 240.0)


@pytest.mark.parametrize(
    "codec, text",
    [
        (dict(type="ShikraCodec"), "a dog[0.100,0.200,0.500,0.500]"),
        (dict(type="FerretCodec"), "a dog [100, 100, 500, 500]"),
        (
            dict(type="Kosmos2Codec"),
            "<phrase> a dog</phrase>"
            "<object><patch_index_0099><patch_index_0495></object>",
        ),
        (
            dict(type="QwenVLCodec"),
            "<ref>a dog</ref><box>(100,100),(500,500)</box>",
        ),
        (dict(type="PinkCodec"), "a dog [0.100,0.100,0.500,0.500]"),
        (dict(type="LLaVACodec"), "a dog [0.1, 0.2, 0.5, 0.5]"),
        (dict(type="VisionLLMCodec"), "a dog <c0> <p-205> <p-205> <p0> <p0>"),
        (dict(type="OFACodec"), "a dog <bin_100> <bin_100> <bin_500> <bin_500>"),
        (dict(type="RegionTokenCodec"), "a dog [SEG]"),
        (dict(type="RegionTokenCodec", write_phrases=False), "[SEG]"),
    ],
)
def test_one_region_in_every_syntax(codec, text):
    assert CODECS.build(codec).encode(region(DOG, phrase="a dog")) == text


@pytest.mark.parametrize("name", ["FerretCodec", "QwenVLCodec"])
def test_truncating_codecs_come_back_within_half_a_bin_from_its_centre(name):
    codec = build(name, decode_at="centre")
    rng = np.random.default_rng(0)
    for _ in range(100):
        low, extent = rng.uniform(0, 400, 2), rng.uniform(1, 70, 2)
        row = np.concatenate([low, low + extent])
        found = codec.decode(codec.encode(region(row)), SIZE).boxes(SIZE).xyxy[0]
        assert (np.abs(found - row) / [640, 480, 640, 480]).max() <= 0.0005 + 1e-9


def test_kosmos2_comes_back_within_half_a_cell_unless_in_one_row_or_column():
    codec = build("Kosmos2Codec")
    rng = np.random.default_rng(0)
    for _ in range(200):
        low, extent = rng.uniform(0, 300, 2), rng.uniform(20.1, 100, 2)
        row = np.concatenate([low, low + extent])
        found = codec.decode(codec.encode(region(row)), SIZE).boxes(SIZE).xyxy[0]
        assert (np.abs(found - row) / [640, 480, 640, 480]).max() <= 1 / 64 + 1e-9


def test_kosmos2_puts_the_space_into_the_phrase_and_asks_for_grounding():
    codec = build("Kosmos2Codec")
    (part,) = codec.write((Text("I see "), region(DOG, phrase="a dog")), "assistant")
    assert part.text.startswith("I see<phrase> a dog</phrase><object>")

    assert codec.opens_question(True) == "<grounding>"
    assert codec.opens_question(False) == ""
    assert build("Kosmos2Codec", grounding_tag=False).opens_question(True) == ""


def test_kosmos2_writes_corners_outside_as_the_nearest_cell():
    text = build("Kosmos2Codec").encode(region((-50, -50, 700, 500)))
    assert text == "<object><patch_index_0000><patch_index_1023></object>"
    with pytest.raises(ValueError, match="has no area"):
        build("Kosmos2Codec").encode(region((5, 5, 5, 9)))


def test_kosmos2_reads_its_text_with_the_spaces_of_the_processor():
    spaced, tight = build("Kosmos2Codec", spaces=True), build("Kosmos2Codec")
    item = region(DOG, (0, 0, 9, 9), phrase="dogs")
    text = f"See {spaced.encode(item)} there"
    assert "<object> <patch_index_0099> <patch_index_0495> </delim" in text

    found = tight.decode(text, SIZE)

    assert found.verdict == "ok" and found.regions[0].phrase == "dogs"
    ((start, end),) = found.spans
    assert text[:start] == "See " and text[end:] == " there"


@pytest.mark.parametrize(
    "codec, kind, role, text",
    [
        (dict(type="PinkCodec", add_marks=True), "expression", "user", "<des>x</des>"),
        (dict(type="PinkCodec", add_marks=True), "category", "user", "<cls>x</cls>"),
        (dict(type="PinkCodec", add_marks=True), "predicate", "user", "<rel>x</rel>"),
        (dict(type="PinkCodec", add_marks=True), "question", "user", "<qes>x</qes>"),
        (dict(type="PinkCodec", add_marks=True), "option", "user", "<opt>x</opt>"),
        (dict(type="PinkCodec", add_marks=True), "category", "assistant", "x"),
        (dict(type="PinkCodec"), "category", "user", "x"),
        (dict(type="QwenVLCodec"), "expression", "user", "<ref>x</ref>"),
        (dict(type="QwenVLCodec"), "category", "user", "x"),
        (dict(type="QwenVLCodec", mark_expressions=False), "expression", "user", "x"),
        (dict(type="Kosmos2Codec"), "expression", "user", "<phrase> x</phrase>"),
        (dict(type="ShikraCodec"), "expression", "user", "x"),
    ],
)
def test_words_are_marked_in_questions(codec, kind, role, text):
    assert CODECS.build(codec).write((Text("x", kind),), role) == [Text(text)]


def test_pink_marks_boxes_of_questions_and_reads_four_loose_numbers():
    codec = build("PinkCodec", add_marks=True)
    assert codec.encode(region(DOG), "user").startswith("<loc>[0.100,")

    found = codec.decode("left 0.100, top 0.100, right 0.500, bottom 0.500", SIZE)
    assert found.verdict == "ok"
    np.testing.assert_allclose(found.boxes(SIZE).xyxy[0], DOG)


def test_pink_rounds_ties_as_a_product_with_the_reciprocal_does():
    codec = build("PinkCodec")
    for x in range(1, 640):
        row = (0, 0, x, 480)
        assert codec.encode(region(row)) == f"[0.000,0.000,{x * (1 / 640):.3f},1.000]"
    # A division rounds some of them otherwise.
    assert f"{24 * (1 / 640):.3f}" != f"{24 / 640:.3f}"


def test_ferret_marks_features_in_questions_only():
    codec = build("FerretCodec")
    shown = "[100, 100, 500, 500]"
    assert codec.encode(region(DOG), "user") == f"{shown} <region_fea>"
    assert codec.encode(region(DOG), "assistant") == shown
    plain = build("FerretCodec", feature_token=None)
    assert plain.encode(region(DOG), "user") == shown
    assert plain.special_tokens == ()


def test_ferret_names_what_it_reads():
    found = build("FerretCodec").decode(
        "A cat [1, 2, 3, 4]. A dog [9, 9, 99, 99] and [5, 6].", SIZE
    )
    assert [item.phrase for item in found.regions] == ["A cat", "A dog", None]
    assert [item.kind for item in found.regions] == ["box", "box", "point"]


def test_qwen_vl_reads_bare_pairs_and_named_blocks():
    text = "(1,2),(3,4) <ref>a dog</ref><box>(5,6),(7,8)</box><box>(1,1),(9,9)</box>"
    found = build("QwenVLCodec", decode_at="draw").decode(text, (1000, 1000))
    assert [item.phrase for item in found.regions] == [None, "a dog"]
    assert found.boxes((1000, 1000)).xyxy.tolist() == [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
        [1, 1, 9, 9],
    ]


def test_visionllm_names_categories_by_class_tokens():
    codec = build("VisionLLMCodec", categories=["cat", "dog"])
    text = codec.encode(region(DOG, phrase="dog"))
    assert text == "<c1> <p-205> <p-205> <p0> <p0>"
    assert codec.decode(text, SIZE).regions[0].phrase == "dog"
    with pytest.raises(ValueError, match="'bus' is none of its 2 categories"):
        codec.encode(region(DOG, phrase="bus"))


def test_region_tokens_stand_one_per_box():
    codec = build("RegionTokenCodec", token="<bbox>", before_phrase=True)
    assert codec.encode(region(DOG, DOG, phrase="dogs")) == "<bbox> <bbox> dogs"
    assert len(codec.decode("see <bbox> and <bbox>", SIZE).regions) == 2


@pytest.mark.parametrize("marks", [None, ["<p>", "</p>"]])
def test_a_reply_with_the_token_of_questions_names_no_region_by_it(marks):
    """The head has no state for it, so later regions keep theirs."""
    codec = build(
        "RegionTokenCodec", question_token="<bbox>", reads="box", phrase_marks=marks
    )

    found = codec.decode("a [SEG] and <bbox> or [SEG]", SIZE)

    assert found.spans == ((2, 7), (22, 27)) and found.verdict == "malformed"
    (problem,) = found.problems
    assert problem == "character 12: <bbox> stands for a region in questions alone"


@pytest.mark.parametrize(
    "config, match",
    [
        (dict(type="ShikraCodec", brackets="curly"), "brackets='curly'"),
        (dict(type="FerretCodec", decode_at="edge"), "FerretCodec: decode_at='edge'"),
        (dict(type="QwenVLCodec", decode_at="edge"), "QwenVLCodec: decode_at='edge'"),
    ],
)
def test_wrong_options_are_refused(config, match):
    with pytest.raises(ValueError, match=match):
        CODECS.build(config)


def test_shikra_tokens_read_their_own_points():
    codec = build("ShikraCodec", tokens=True)
    point = region((64, 48, 64, 48), kind="point")
    found = codec.decode(f"at {codec.encode(point)}", SIZE)
    assert found.verdict == "ok" and found.regions[0].kind == "point"


def test_boxes_in_their_own_frame_stay_to_the_last_bit():
    boxes = Boxes(np.array([[0.1, 282.97, 33.3, 300.07]]), (333, 777))
    assert boxes.to("pixel") is boxes
    with pytest.raises(ValueError, match="unknown box frame 'mile'"):
        Boxes(boxes.xyxy, boxes.size, "mile").to("mile")
