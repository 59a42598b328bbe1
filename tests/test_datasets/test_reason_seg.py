"""ReasonSeg: LISA's masks to the pixel, encodings, explanations, damage."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from grounding_helpers import annotations, build, make_image, scenes, write_scenes
from mmengine.config import Config

from mmvlm.datasets.bad_samples import BadRecord, DataError
from mmvlm.datasets.readers.reason_seg import ReasonSegDataset, draw_shapes
from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.scene_masks import object_mask
from mmvlm.datasets.tiny_scenes.writers.reason_seg import (
    explanation_of,
    is_sentence,
    target_of,
    texts_of,
)
from mmvlm.evaluation.metrics.mask_iou import MaskIoUMetric
from mmvlm.structures import Boxes, Region
from mmvlm.structures.masks import mask_to_rle, rle_to_mask

SIZE = (30, 40)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))


def box(x1, y1, x2, y2):
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


def shape(label, points):
    return dict(label=label, labels=[label], points=points, shape_type="polygon")


def content(**changes):
    shapes = [
        shape("target", box(2.7, 3.2, 12.1, 13.9)),
        shape("Ignored area", box(10, 3, 30, 20)),
        shape("FLAG", box(0, 0, 39, 29)),
    ]
    value = dict(
        text=["What is tall?", "the tall one"], is_sentence=True, shapes=shapes
    )
    return {**value, **changes}


@pytest.fixture
def write(tmp_path):
    """Write files of a split with their images; gives the reader's arguments."""

    def function(*files, explanations=None):
        for number, value in enumerate(files):
            raw = value if isinstance(value, bytes) else json.dumps(value).encode()
            make_image(tmp_path / "train" / f"{number}.jpg")
            (tmp_path / "train" / f"{number}.json").write_bytes(raw)
        arguments = dict(data_root=str(tmp_path), ann_file="train")
        if explanations is not None:
            (tmp_path / "explanatory").mkdir(exist_ok=True)
            text = json.dumps(explanations)
            (tmp_path / "explanatory" / "train.json").write_text(text)
            arguments["explanatory_file"] = "explanatory/train.json"
        return arguments

    return function


def read(arguments, **options):
    return build(dict(type="ReasonSegDataset", **arguments), **options)


def official(shapes, size):
    """The rule of LISA's specification, written out."""
    kept, areas = [], []
    for item in shapes:
        if item["label"].lower() == "flag":
            continue
        alone = np.zeros(size, np.uint8)
        points = np.array([item["points"]], dtype=np.int32)
        cv2.polylines(alone, points, True, 1, 1)
        cv2.fillPoly(alone, points, 1)
        kept.append((item, points))
        areas.append(alone.sum())
    mask = np.zeros(size, np.uint8)
    for number in list(np.argsort(areas)[::-1].astype(np.int32)):
        item, points = kept[number]
        value = 255 if "ignore" in item["label"].lower() else 1
        cv2.polylines(mask, points, True, value, 1)
        cv2.fillPoly(mask, points, value)
    return mask


def test_a_file_becomes_questions_a_target_and_what_is_not_scored(write):
    (seen,) = annotations(read(write(content(author="x"))))

    mask = official(content()["shapes"], SIZE)
    (target,) = seen.instances
    assert np.array_equal(rle_to_mask(target.rle), mask == 1)
    assert np.array_equal(rle_to_mask(seen.meta["ignore"]), mask == 255)
    assert target.box == (2, 3, 13, 14)  # the smaller target lies on top
    assert target.meta["shapes"] == content()["shapes"]
    assert [q.question for q in seen.questions] == ["What is tall?", "the tall one"]
    assert all(q.instances == (0,) for q in seen.questions)
    assert [q.meta["is_sentence"] for q in seen.questions] == [True, True]
    assert (seen.id, seen.image, seen.size) == ("0", "0.jpg", SIZE)
    assert seen.meta["author"] == "x" and seen.meta["encoding"] == "utf-8"


def test_masks_equal_the_official_rule_for_random_shapes():
    rng = np.random.default_rng(8)
    labels = ("target", "ignore", "flag", "Target 2", "IGNORE ME")
    for _ in range(60):
        shapes = [
            shape(
                str(rng.choice(labels)),
                (rng.random((int(rng.integers(1, 9)), 2)) * (60, 50) - 10).tolist(),
            )
            for _ in range(int(rng.integers(0, 6)))
        ]
        assert np.array_equal(draw_shapes(shapes, SIZE), official(shapes, SIZE))


def test_old_encodings_are_read_and_counted(write, monkeypatch):
    text = json.dumps(content(text=["What\u2019s tall?"]), ensure_ascii=False)
    arguments = write(text.encode("cp1252"), text.encode("utf-8"))
    told = []
    log = lambda line, **_: told.append(line)  # noqa: E731
    monkeypatch.setattr("mmvlm.datasets.readers.reason_seg.print_log", log)

    first, second = annotations(read(arguments))

    assert first.questions[0].question == second.questions[0].question
    assert (first.meta["encoding"], second.meta["encoding"]) == ("cp1252", "utf-8")
    assert told == ["dataset 'train': 2 files, 1 of them in cp1252."]


def test_explanations_belong_to_their_image(write):
    items = [dict(image="1.jpg", query="What is tall?", outputs="The tree is.")]
    arguments = write(content(), content(), explanations=items)

    first, second = annotations(read(arguments))

    assert {q.rationale for q in first.questions} == {""}
    assert {q.rationale for q in second.questions} == {"The tree is."}
    plain = {k: v for k, v in arguments.items() if k != "explanatory_file"}
    assert annotations(read(plain))[1].questions[0].rationale == ""


def test_a_changed_file_is_read_again(write):
    arguments = write(content(), content())
    read(arguments)

    write(content(text=["Another question?"]))

    assert annotations(read(arguments))[0].questions[0].question == "Another question?"


def test_without_a_target_there_is_nothing_to_ask(write):
    shapes = [shape("ignore", box(1, 1, 5, 5))]
    data = ReasonSegDataset(**write(content(shapes=shapes), content(shapes=[])))

    assert [data[i].kind for i in range(2)] == ["nothing to ask"] * 2


def test_the_mixtures_test_asks_without_a_target_and_scores_an_empty_mask(write):
    path = Path(__file__).parents[2] / "configs/_base_/datasets/lisa_mix.py"
    task = Config.fromfile(path).test_dataloader.dataset.task
    write_regions = dict(type="WriteRegions", codec=dict(type="RegionTokenCodec"))
    steps = dict(task=task, pipeline=[write_regions])
    data = read(write(content(shapes=[]), content()), **steps)
    drawn = mask_to_rle(np.eye(*SIZE, dtype=np.uint8))
    said = Region(0, Boxes([[0, 0, 9, 9]], SIZE), kind="mask", rles=(drawn,))

    found = {}
    for name, reply in (("none", ()), ("some", (said,))):
        metric = MaskIoUMetric()
        for index, item in enumerate(data[n] for n in range(2)):
            wanted = item["marked_regions"]
            assert item["conversation"].turns[1].text.count("[SEG]") == 1
            assert len(wanted) == 1
            sample = dict(sample_id=str(index), index=index, gt_text="[SEG].")
            sample |= dict(pred_text="", gt_regions=wanted, pred_regions=reply)
            metric.process(None, [sample])
        found[name] = metric.evaluate(2)

    assert found["none"]["mask/num"] == 2
    assert found["none"]["mask/giou"] == pytest.approx(0.5, abs=1e-4)
    assert found["some"]["mask/giou"] < 0.4


@pytest.mark.parametrize(
    "value, message",
    [
        (b'{"text": [', "'.*0.json' is not valid JSON"),
        (b"\x81\x8d", "'.*0.json' is neither UTF-8 nor cp1252"),
        ([1], "expected a JSON object"),
        (dict(text=["a"]), r"no field \['is_sentence', 'shapes'\]"),
        (content(text=[]), "'text' must be a list of questions"),
        (content(text=["a", " "]), "'text' holds no text or an empty one"),
        (content(is_sentence="yes"), "'is_sentence' must be true or false"),
        (content(shapes={}), "'shapes' must be a list"),
        (content(shapes=[dict(points=[])]), "shape 0: expected 'label' and 'points'"),
        (content(shapes=[shape("a", [])]), "shape 0: 'points' must be a list"),
        (content(shapes=[shape("a", [[1, 2, 3]])]), "a point must be two finite"),
        (content(shapes=[shape("a", [[1, float("nan")]])]), "a point must be two fin"),
        (content(shapes=[shape("a", [[1, 1e30]])]), "a point must be two finite"),
    ],
)
def test_damaged_files_are_named_and_follow_the_policy(write, value, message):
    arguments = write(value, content())

    with pytest.raises(DataError, match=message):
        read(arguments)[0]
    lenient = read(arguments, bad_samples=dict(policy="skip"))

    assert isinstance(lenient[0], BadRecord) and len(lenient) == 2
    assert lenient[1]["conversation"].id == "1"


def test_missing_images_folders_and_explanations_are_named(write, tmp_path):
    arguments = write(content())
    (tmp_path / "train" / "0.jpg").unlink()

    with pytest.raises(DataError, match=r"image '.*0.jpg' does not exist"):
        read(arguments)[0]
    with pytest.raises(FileNotFoundError, match=r"annotation folder '.*val' does not"):
        read({**arguments, "ann_file": "val"})
    with pytest.raises(
        FileNotFoundError, match=r"explanatory_file '.*' does not exist"
    ):
        read(arguments, explanatory_file="no.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"folder '.*empty' has no \.json file"):
        read({**arguments, "ann_file": "empty"})
    with pytest.raises(ValueError, match="item 0: expected a list of objects"):
        read(write(content(), explanations=[dict(image="0.jpg")]))
    with pytest.raises(ValueError, match="item 0: expected a list of objects"):
        read(write(content(), explanations=[3]))


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_survive_to_the_pixel(tmp_path, split):
    (config,) = write_scenes("reason_seg", tmp_path).readers(split)

    read_back = {seen.id: seen for seen in annotations(build(config))}

    assert len(read_back) == len(scenes(split))
    explained = 0
    for sample in scenes(split):
        seen = read_back[f"{image_number(sample):07d}"]
        assert [q.question for q in seen.questions] == texts_of(sample)
        assert seen.meta["is_sentence"] == is_sentence(sample)
        target, reason = target_of(sample), seen.questions[0].rationale
        explained += bool(reason)
        assert reason in ("", explanation_of(target))
        mask = object_mask(sample.scene, target)
        found = rle_to_mask(seen.instances[0].rle)
        outer = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        filled = cv2.drawContours(np.zeros_like(mask), outer, -1, 1, -1)
        assert np.array_equal(found, filled)
        if target.kind == "shape":
            assert np.array_equal(found, mask)
    assert explained == (len(scenes()) // 3 if split == "train" else 0)


def test_the_task_asks_and_answers_with_the_mask(tmp_path):
    (config,) = write_scenes("reason_seg", tmp_path, ["train"]).readers("train")
    task = dict(type="ReasoningSegmentation", take="first", explain=False)
    data = ReasonSegDataset(
        **{k: v for k, v in config.items() if k != "type"}, task=task
    )

    talk = data[0]["conversation"]

    assert len(talk.turns) == 2
    (found,) = [p for p in talk.turns[1].parts if isinstance(p, Region)]
    assert found.kind == "mask" and found.boxes.size == (48, 48)
    assert {"ignore", "is_sentence"} <= set(talk.meta)
