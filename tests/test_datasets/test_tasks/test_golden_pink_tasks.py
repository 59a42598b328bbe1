"""PINK's own questions and answers, with its recorded choices replayed."""

import json

import pytest

from mmvlm.datasets.tasks.draws import Draws
from mmvlm.registry import CODECS, DATA_TASKS
from mmvlm.structures import AnnotatedImage, Instance, Relation

pytestmark = pytest.mark.golden


class Replay(Draws):
    """Choices as they were recorded; anything else fails.

    A choice without an alternative is none, unless it was recorded as one.
    """

    def __init__(self, recorded, things):
        self.left = [(kind, value) for kind, value in recorded]
        self.things = things

    def _next(self, kind):
        recorded, value = self.left.pop(0)
        assert recorded == kind
        return value

    def choice(self, options, weights=None):
        assert weights is None
        if len(options) == 1:
            if not self.left or not self._same(options[0], self.left[0][1]):
                return options[0]
        value = self._next("choice")
        found = [option for option in options if self._same(option, value)]
        assert found, (value, options)
        return found[0]

    def integer(self, stop):
        value = self._next("randint")
        assert 0 <= value < stop
        return value

    def chance(self):
        return self._next("random")

    def _same(self, option, value):
        if isinstance(option, Relation):
            ends = (self.things[option.subject].id, self.things[option.object].id)
            return isinstance(value, dict) and (option.predicate, *ends) == (
                value.get("predicate"),
                str(value.get("subject_id")),
                str(value.get("object_id")),
            )
        if isinstance(option, Instance):
            if not isinstance(value, dict) or option.box[:2] != (
                value["x"],
                value["y"],
            ):
                return False
            if "phrase" in value:
                return option.phrases == (value["phrase"],)
            return option.id == str(value["object_id"])
        return option == value


@pytest.fixture(scope="module")
def golden(goldens):
    return json.loads((goldens / "pink_tasks.json").read_text())


@pytest.fixture(scope="module")
def image(golden):
    """What a reader of Visual Genome gives for the golden file's records."""
    objects = [
        Instance(
            (o["x"], o["y"], o["x"] + o["w"], o["y"] + o["h"]),
            o["names"][0],
            id=str(o["object_id"]),
        )
        for o in golden["objects"]
    ]
    places = {item.id: number for number, item in enumerate(objects)}
    regions = [
        Instance(
            (r["x"], r["y"], r["x"] + r["width"], r["y"] + r["height"]),
            phrases=(r["phrase"],),
        )
        for r in golden["regions"]
    ]
    relations = tuple(
        Relation(
            places[str(r["subject"]["object_id"])],
            r["predicate"],
            places[str(r["object"]["object_id"])],
        )
        for r in golden["relationships"]
    )
    width, height = golden["image_wh"]
    return AnnotatedImage(
        "1.jpg", (height, width), (*objects, *regions), relations, id="1"
    )


def tasks(stubs):
    return dict(
        VisualGrounding=dict(
            type="ReferringComprehension", templates=stubs["VisualGrounding"]
        ),
        RegionGroundingCaption=dict(
            type="RegionCaption", templates=stubs["RegionGroundingCaption"], names=False
        ),
        Relation=dict(
            type="RelationQuestion",
            between=stubs["Relation_type1"],
            boxes=stubs["Relation_type2"],
            names=stubs["Relation_type3"],
            both=stubs["Relation_type4"],
            unique=False,
        ),
        CoarseLocation=dict(
            type="CoarseLocation",
            both=stubs["CoarseLocation_Type1"],
            names=stubs["CoarseLocation_Type2"],
            boxes=stubs["CoarseLocation_Type3"],
        ),
        Detection=dict(
            type="CategoryDetection",
            by_name=stubs["Detection_Type1"],
            by_example=stubs["Detection_Type2"],
        ),
        Counting=dict(
            type="CategoryCounting",
            by_name=stubs["Counting_Type1"],
            by_example=stubs["Counting_Type2"],
        ),
    )


def test_every_case_is_reproduced(golden, image):
    built = {
        name: DATA_TASKS.build(config)
        for name, config in tasks(golden["template_stubs"]).items()
    }
    assert golden["cases"]

    for case in golden["cases"]:
        replay = Replay(case["draws"], image.instances)
        codec = CODECS.build(
            dict(
                type="PinkCodec",
                geometry="square_pad" if case["expand2square"] else "stretch",
                add_marks=case["add_marks"],
            )
        )

        turns = built[case["task"]].turns(image, replay)

        question, answer = (codec.write(turn.parts, turn.role) for turn in turns)
        assert [part.text for part in question] == [case["question"]], case
        assert [part.text for part in answer] == [case["answer"]], case
        assert replay.left == []
