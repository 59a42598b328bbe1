"""GranD-f's four layouts say the same; phrases, masks and places are checked."""

import json

import numpy as np
import pytest
from grounding_helpers import annotations, build, make_image, write_scenes

from mmvlm.datasets.bad_samples import DataError
from mmvlm.registry import CODECS, DATA_TASKS, DATASETS
from mmvlm.structures import Boxes, Region
from mmvlm.structures.masks import mask_to_rle, polygons_to_rle, rle_to_mask

SIZE = (30, 40)
CAPTION = "A brown dog runs after a red ball on the grass."
RINGS = dict(dog=[2.0, 3.0, 12.0, 3.0, 12.0, 20.0, 2.0, 20.0])
RINGS["ball"] = [20.0, 5.0, 28.0, 5.0, 28.0, 13.0, 20.0, 13.0]
DOG, BALL = "A brown dog", "a red ball"
PLACES = {DOG: [0, 11], BALL: [23, 33]}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))


def rle(name):
    return polygons_to_rle([RINGS[name]], SIZE)


def whole(**edit):
    """The layout of human annotations; the dog in two pieces."""
    dog = rle_to_mask(rle("dog"))
    upper, lower = dog.copy(), dog.copy()
    upper[10:], lower[:10] = 0, 0
    groundings = {
        BALL: dict(token_positives=PLACES[BALL], rle_masks=[rle("ball")]),
        DOG: dict(
            token_positives=PLACES[DOG],
            rle_masks=[mask_to_rle(upper), mask_to_rle(lower)],
        ),
    }
    return {"file_name": "a.jpg", "caption": CAPTION, "groundings": groundings, **edit}


def layouts():
    refs = [
        dict(sentence=one.lower(), segmentation=[RINGS[key]])
        for one, key in ((DOG, "dog"), (BALL, "ball"))
    ]
    image = dict(id=7, file_name="a.jpg", caption=CAPTION, width=40, height=30)
    flickr = [
        dict(image_id=7, tokens_positive=[PLACES[one]], sam_mask=rle(key))
        for one, key in ((DOG, "dog"), (BALL, "ball"))
    ]
    labels = dict(image_id="a", caption=CAPTION, labels=[DOG, BALL])
    masks = [dict(image_id="a", segmentation=rle(key)) for key in ("dog", "ball")]
    return dict(
        human=[whole()],
        refcocog=[{"7": dict(img_file_name="a.jpg", caption=CAPTION, refs=refs)}],
        flickr=dict(images=[image], annotations=flickr),
        reference=(
            dict(images=[dict(id="a")], annotations=[labels]),
            dict(images=[dict(id="a")], annotations=masks),
        ),
    )


def write(folder, value):
    make_image(folder / "images" / "a.jpg", SIZE[::-1])
    config = dict(type="GranDfDataset", data_root=str(folder), image_prefix="images")
    if isinstance(value, tuple):
        value, masks = value
        (folder / "masks.json").write_text(json.dumps(masks))
        config["masks_file"] = "masks.json"
    (folder / "a.json").write_text(json.dumps(value))
    return dict(config, ann_file="a.json")


@pytest.mark.parametrize("layout", sorted(layouts()))
def test_layouts_say_the_same(tmp_path, layout):
    (found,) = annotations(build(write(tmp_path, layouts()[layout])))

    (caption,) = found.captions
    assert caption.text == CAPTION and found.size == SIZE
    by_place = sorted(caption.spans, key=lambda span: span.start)
    assert [[one.start, one.end] for one in by_place] == list(PLACES.values())
    for span, key in zip(by_place, ("dog", "ball"), strict=True):
        (index,) = span.instances
        mask = rle_to_mask(found.instances[index].rle)
        assert np.array_equal(mask, rle_to_mask(rle(key)))
    if layout == "reference":
        assert found.meta["question_id"] == "a"
        wanted = found.meta["reference"]
        assert wanted["labels"] == [DOG, BALL] and wanted["caption"] == CAPTION


def test_quotation_marks_around_a_caption_move_its_phrases(tmp_path):
    quoted = whole(caption=f'"{CAPTION}"')
    for one in quoted["groundings"].values():
        one["token_positives"] = [place + 1 for place in one["token_positives"]]

    (found,) = annotations(build(write(tmp_path, [quoted])))

    text = found.captions[0].text
    said = [text[span.start : span.end] for span in found.captions[0].spans]
    assert text == CAPTION and sorted(said) == sorted(PLACES)


def test_what_cannot_be_grounded_stays_text_and_is_named(tmp_path):
    refs = layouts()["refcocog"]
    refs[0]["7"]["refs"][0]["sentence"] = "a cat"
    (found,) = annotations(build(write(tmp_path, refs)))
    assert [i.name for i in found.instances] == [BALL]
    assert found.meta["ungrounded"] == ["a cat"]

    empty = whole()
    empty["groundings"][BALL]["rle_masks"] = [mask_to_rle(np.zeros(SIZE))]
    (found,) = annotations(build(write(tmp_path, [empty])))
    assert found.meta["ungrounded"] == [BALL] and len(found.captions[0].spans) == 1


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (dict(caption=3), "'caption'"),
        (dict(file_name=None), "'file_name'"),
        (dict(groundings=[]), "'groundings'"),
        (dict(groundings={"x": dict(token_positives=[0], rle_masks=[])}), "not two"),
        (
            dict(groundings={"x": dict(token_positives=[5, 99], rle_masks=[])}),
            r"5\.\.99",
        ),
        (dict(groundings={"x": dict(token_positives=[0, 3], rle_masks=[])}), "no mask"),
        (
            dict(
                groundings={"x": dict(token_positives=[0, 3], rle_masks=[{"size": 1}])}
            ),
            "RLE",
        ),
    ],
)
def test_damage_is_named(tmp_path, edit, reason):
    data = build(write(tmp_path, [whole(**edit)]))
    with pytest.raises(DataError, match=reason):
        data[0]


def test_labels_without_their_masks_are_damage(tmp_path):
    captions, masks = layouts()["reference"]
    masks["annotations"].pop()
    with pytest.raises(DataError, match="2 'labels', but 1 masks"):
        build(write(tmp_path, (captions, masks)))[0]


def test_what_is_scored_is_asked_even_where_no_phrase_is_grounded(tmp_path):
    captions, masks = layouts()["reference"]
    captions["annotations"][0]["labels"] = ["a cat", "a blue ball"]
    config = write(tmp_path, (captions, masks))

    talk = DATASETS.build(config, default_args=dict(evaluate=True))[0]["conversation"]

    assert talk.turns[-1].text == CAPTION
    assert talk.meta["reference"]["labels"] == ["a cat", "a blue ball"]
    assert len(talk.meta["reference"]["masks"]) == 2


def test_a_caption_is_said_with_a_token_per_phrase(tmp_path):
    config = write(tmp_path, [whole()])
    talk = DATASETS.build(config)[0]["conversation"]
    codec = CODECS.build(dict(type="RegionTokenCodec", phrase_marks=["<p>", "</p>"]))

    regions = dict(input=[], output=[])
    (text,) = codec.write(talk.turns[-1].parts, "assistant", regions)

    assert text.text == (
        "<p> A brown dog </p> [SEG] runs after <p> a red ball </p> [SEG] on the grass."
    )
    assert [one.phrase for one in regions["output"]] == [DOG, BALL]
    assert [text.text[m.start : m.stop] for m in text.marks] == ["[SEG]"] * 2
    read = codec.decode(text.text, SIZE)
    assert [one.phrase for one in read.regions] == [DOG, BALL]
    assert [text.text[a:b].startswith("<p>") for a, b in read.spans] == [True, True]
    loose = codec.decode("</p> [SEG] <p> <p> x </p>[SEG] <p> y [SEG]", SIZE)
    assert [one.phrase for one in loose.regions] == [None, "x", None]
    with pytest.raises(ValueError, match="two tokens"):
        CODECS.build(dict(type="RegionTokenCodec", phrase_marks=["<p>"]))


def test_phrases_without_masks_stay_words(tmp_path):
    writer = write_scenes("flickr30k_entities", tmp_path, ["train"])
    (found, *_) = annotations(build(writer.readers("train")[0]))
    rng = np.random.default_rng(0)
    boxes = DATA_TASKS.build(dict(type="GroundedCaption"))

    assert any(isinstance(p, Region) for p in boxes.turns(found, rng)[1].parts)
    with pytest.raises(ValueError, match="no caption with a grounded phrase"):
        DATA_TASKS.build(dict(type="GroundedCaption", kind="mask")).turns(found, rng)
    with pytest.raises(ValueError, match="kind='point'"):
        DATA_TASKS.build(dict(type="GroundedCaption", kind="point"))
    assert Boxes(np.zeros((0, 4)), SIZE).size == SIZE
