"""LLaVA's JSON conversations."""

from __future__ import annotations

import json

import pytest

from mmvlm.structures import Image, Text
from mmvlm.text.llava_format import parse_llava_conversation


def record(*values, **fields):
    turns = [
        {"from": ("human", "gpt")[n % 2], "value": value}
        for n, value in enumerate(values)
    ]
    return dict(id="000000033471", conversations=turns, **fields)


@pytest.mark.golden
def test_normalised_texts_equal_llava(goldens):
    data = json.loads((goldens / "llava_preprocess.json").read_text())
    checked = 0
    for case in data["cases"]:
        if case["mm_use_im_start_end"] or "mmtag" in case["template"]:
            continue  # those tags are the template's business
        tagged = sum("<image>" in t["value"] for t in case["conversations"])
        talk = parse_llava_conversation(
            case,
            images=["x.png"] * tagged if case["has_image"] else [],
            collapse_image_tags=True,
            drop_leading_answer=False,
        )
        texts = [
            "".join(p.text if isinstance(p, Text) else "<image>" for p in turn.parts)
            for turn in talk.turns
        ]
        assert texts == [t["value"] for t in case["conversations_normalized"]]
        checked += 1
    assert checked


def test_single_tag_moves_to_the_front():
    talk = parse_llava_conversation(
        record(" Look at <image> now. ", "Yes."), images=["a.png"]
    )

    assert talk.turns[0].parts == (Image(0), Text("\nLook at  now."))
    assert talk.id == "000000033471" and talk.images == ["a.png"]
    talk.check()


def test_several_tags_stay_and_number_the_images():
    talk = parse_llava_conversation(
        record("<image>\n<image>\nCompare.", "Same.", "And <image>?", "No."),
        images=["a.png", "b.png", "c.png"],
    )

    assert talk.turns[0].parts == (Image(0), Text("\n"), Image(1), Text("\nCompare."))
    assert talk.turns[2].parts == (Image(2), Text("\nAnd ?"))
    talk.check()


def test_tag_without_image_is_text():
    raw = record("What does <image> mean?", "A tag.")

    talk = parse_llava_conversation(raw, images=[])

    assert talk.turns[0].parts == (Text("What does <image> mean?"),)


def test_other_fields_become_meta_and_a_leading_answer_is_counted():
    raw = record("q", "a", task="count")
    raw["conversations"].insert(0, {"from": "gpt", "value": "I start."})

    talk = parse_llava_conversation(raw, images=[])
    kept = parse_llava_conversation(raw, images=[], drop_leading_answer=False)

    assert talk.meta == {"task": "count", "dropped_turns": 1}
    assert [turn.role for turn in talk.turns] == ["user", "assistant"]
    assert [turn.role for turn in kept.turns] == ["assistant", "user", "assistant"]


def test_system_turn_is_read():
    raw = record("q", "a")
    raw["conversations"].insert(0, {"from": "system", "value": "Be brief."})

    assert parse_llava_conversation(raw, images=[]).turns[0].role == "system"


@pytest.mark.parametrize(
    ("raw", "images", "message"),
    [
        (
            record("<image>\n<image>\nWhat?", "A cat."),
            ["coco/000000033471.jpg"],
            r"^sample 1042 of llava-665k: 2 <image> placeholders but 1 image "
            r"\('coco/000000033471.jpg'\)\.$",
        ),
        (record("What?", "A."), ["a.png"], "0 <image> placeholders but 1 image"),
        (record("<image>", "A."), ["a", "b"], "1 <image> placeholder but 2 images"),
        (dict(id="7"), [], "1042 of llava-665k: 'conversations' must be a list of"),
        (dict(conversations=[]), [], "'conversations' must be a list of turns"),
        (dict(conversations=["hi"]), [], "turn 0 must be an object with 'from' and"),
        (
            dict(conversations=[{"from": "bot", "value": "x"}]),
            [],
            r"turn 0 has from='bot', expected one of \['human', 'gpt'",
        ),
        (
            dict(conversations=[{"from": "gpt", "value": 3}]),
            [],
            "turn 0 has a value of type int, expected text",
        ),
        (
            dict(conversations=[{"from": "gpt", "value": "<image>"}]),
            ["a.png"],
            "the first turn is an answer that holds an <image>",
        ),
    ],
)
def test_damaged_records_name_the_sample(raw, images, message):
    with pytest.raises(ValueError, match=message):
        parse_llava_conversation(raw, images=images, where="sample 1042 of llava-665k")


def test_record_id_names_the_sample_without_place():
    with pytest.raises(ValueError, match="sample '000000033471': 0 <image>"):
        parse_llava_conversation(record("q", "a"), images=["a.png"])


def test_tags_inside_sentences_are_text_where_the_images_are_shown_already():
    def talk(asked, said, again="And?"):
        turns = zip(
            ("human", "gpt", "human", "gpt"), (asked, said, again, None), strict=True
        )
        turns = [{"from": who, "value": text} for who, text in turns]
        return parse_llava_conversation(dict(conversations=turns), images=["a.png"])

    answer = talk("<image>\nq", "write <image> there")
    question = talk("<image>\nq", "a", "what is <image> in HTML?")

    assert len(answer.image_parts) == len(question.image_parts) == 1
    assert answer.turns[1].text == "write <image> there"
    assert question.turns[2].text == "what is <image> in HTML?"
    assert question.turns[3].text == ""
