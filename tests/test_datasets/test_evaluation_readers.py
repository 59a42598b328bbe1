"""Readers of benchmarks: what is special to each, and what evaluation must see."""

import base64
import json
import re

import numpy as np
import pytest
from qa_helpers import (
    SKIP,
    dump,
    own_cache,  # noqa: F401
    reasons,
    said,
    talks,
    written,
)

from mmvlm.datasets.bad_samples import BadRecord
from mmvlm.registry import DATASETS
from mmvlm.structures import Region
from mmvlm.structures.masks import rle_area

IMAGE = base64.b64encode(b"x" * 60).decode()
HEAD = "index\tquestion\tA\tB\tC\tanswer\tcategory\thint\timage\n"


def table(folder, *rows, head=HEAD, **options):
    """Return the config of a table."""
    path = folder / "set.tsv"
    path.write_text(head + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return dict(
        type="OptionTSVDataset", data_root=str(folder), ann_file="set.tsv", **options
    )


def row(index, image=IMAGE, **cells):
    base = dict(question="What?", A="a", B="b", C="", answer="B", category="x", hint="")
    return "\t".join([str(index), *map(str, {**base, **cells}.values()), image])


def test_a_table_gives_letters_hints_and_everything_else(tmp_path):
    config = table(tmp_path, row(7, hint="Look."), row("q8", C="nan", answer="A"))

    first, second = talks(config, evaluate=True)

    assert said(first)[0].split("\n") == [
        *("Hint: Look.", "Question: What?", "Options:", "A. a", "B. b"),
        "Please select the correct answer from the options above.",
    ]
    assert (first.meta["question_id"], second.meta["question_id"]) == (7, "q8")
    assert (first.meta["reference"], second.meta["reference"]) == ("B", "A")
    assert first.meta["choices"] == second.meta["choices"] == ["a", "b"]
    assert first.meta["category"] == "x" and "image" not in first.meta
    assert first.images == [b"x" * 60]


def test_an_image_may_lie_in_another_row_or_be_several(tmp_path):
    other = base64.b64encode(b"y" * 60).decode()
    config = table(
        tmp_path,
        row(1),
        row(1000001, "1"),
        row(3, IMAGE),
        row(4, f"['{other}', '1']"),
        row(5, ""),
    )

    found = talks(config)

    assert [talk.images for talk in found] == [
        *([b"x" * 60],) * 3,
        [b"y" * 60, b"x" * 60],
        [],
    ]
    data = DATASETS.build(config)
    paths = [data.facts_at(n)["path"] for n in range(4)]
    assert len(set(paths[:3])) == 1 and paths[3] != paths[0]
    assert len(DATASETS.build({**config, "with_image": True})) == 4
    with pytest.raises(ValueError, match="needs two different sets of 1 image"):
        talks(config, shuffle_images=True, indices=[0, 1, 2])


def test_quoted_cells_hold_line_breaks_and_tabs(tmp_path):
    config = table(tmp_path, row(1, question='"One\n""two""\tthree"'), row(2, "1"))

    first, second = talks(config)

    assert first.meta["question"] == 'One\n"two"\tthree'
    assert second.images == [b"x" * 60]


@pytest.mark.parametrize(
    ("kind", "indices", "groups"),
    [
        ("circular", [5, 1000005, 2000005, 6], [5, 5, 5, 6]),
        ("pairs", [1, 2, 3, 4], [0, 0, 1, 1]),
    ],
)
def test_items_are_grouped_by_their_index(tmp_path, kind, indices, groups):
    config = table(tmp_path, *(row(index) for index in indices), item_groups=kind)

    assert [talk.meta["group"] for talk in talks(config)] == groups


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(2, answer="C"), "'answer' must be one of ['A', 'B'], got 'C'"),
        (row(2, answer="AB"), "'answer' must be one of"),
        (row(2, question=""), "'question' is an empty text"),
        (row(2, "99"), "'image' is '99': no row of it has an image"),
        (row(2, "['a"), "is no list of texts"),
        (row(2, "*" * 80), "is no base64"),
        ("2\twhat", "row 2 has 2 cells of 9"),
    ],
)
def test_a_damaged_row_is_counted_in_its_place(tmp_path, bad, reason):
    found = talks(table(tmp_path, row(1), bad, row(3)), **SKIP)

    assert [isinstance(one, BadRecord) for one in found] == [False, True, False]
    assert re.search(re.escape(reason), reasons(found)[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected columns 'index' and 'question'"),
        ("index\tanswer\n1\tA\n", "expected columns 'index' and 'question'"),
        ("index\tquestion\tquestion\n", "each once"),
        (f"{HEAD}{row(1)}", "ends inside its last row: it was cut"),
        (f"{HEAD}\udcff\n", "is no table of UTF-8 text"),
    ],
)
def test_a_table_that_is_none_is_named(tmp_path, text, message):
    config = table(tmp_path)
    path = tmp_path / "set.tsv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(ValueError, match=f"set.tsv'.*{message}"):
        talks(config)


def test_mme_reads_both_layouts_and_leaves_the_request_out(tmp_path):
    samples, (config,) = written("mme", tmp_path, "test", num=4)

    found = talks(config, evaluate=True)

    assert len(found) == 2 * len(samples)
    first, second = found[0], found[1]
    assert first.meta["question_id"] == second.meta["question_id"]
    assert first.id != second.id and first.images == second.images
    assert first.meta["question_id"].startswith(first.meta["category"] + "/")
    assert "Please answer" not in said(first)[0]
    assert first.meta["line"] == f"{first.meta['question']} Please answer yes or no."
    assert {t.meta["reference"] for t in found} == {"Yes", "No"}
    folders = {talk.images[0].count("/images/") for talk in found}
    assert folders == {0, 1}
    # Without its image a question keeps its task.
    (image,) = tmp_path.rglob(first.images[0].rpartition("/")[2])
    image.rename(tmp_path / "gone")
    again = talks(config, evaluate=True)
    assert [one.meta["category"] for one in again] == [
        one.meta["category"] for one in found
    ]


def test_pope_keeps_the_ids_of_its_files_apart(tmp_path):
    _, (config,) = written("pope", tmp_path, "test", num=3)

    found = talks(config, evaluate=True)

    names = [talk.id.split("/")[0] for talk in found]
    assert sorted(set(names)) == ["adversarial", "popular", "random"]
    assert names == [talk.meta["category"] for talk in found]
    third = len(found) // 3
    ids = [talk.meta["question_id"] for talk in found]
    assert ids == [*range(1, third + 1)] * 3
    with pytest.raises(FileNotFoundError, match=r"1 of 2 files of .* do not exist"):
        talks(config, ann_file="pope/coco_pope_{random,gone}.json")


def test_questions_of_llava_stand_with_answers_and_contexts(tmp_path):
    _, (config,) = written("llava_bench", tmp_path, "test", num=3)

    found = talks(config, evaluate=True)

    assert all(t.meta["context"].startswith("The picture shows") for t in found)
    assert all(t.meta["reference"] == said(t)[1] for t in found)
    bare = talks({**config, "answer_file": None, "context_file": None}, evaluate=True)
    assert {t.meta["reference"] for t in bare} == {None}
    assert [len(said(t)) for t in bare] == [1] * len(found)


def test_a_question_without_its_answer_is_damaged(tmp_path):
    _, (config,) = written("llava_bench", tmp_path, "test", num=3)
    path = tmp_path / "llava-bench-in-the-wild/answers_gpt4.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))

    found = talks(config, **SKIP)

    assert reasons(found) == ["'answers_gpt4.jsonl' has nothing of it."]


def test_mmmu_asks_with_one_image_or_all(tmp_path):
    _, (config,) = written("mmmu", tmp_path, "test", num=6)

    first = talks(config, evaluate=True)
    every = talks(config, images="all")

    assert {len(talk.images) for talk in first} == {1}
    assert {len(talk.images) for talk in every} == {1, 2}
    kinds = {len(talk.meta.get("choices", ())) > 0 for talk in first}
    assert kinds <= {True, False} and {t.meta["num_images"] for t in first} == {1, 2}
    asked = next(talk for talk in first if "choices" in talk.meta)
    assert said(asked)[0].startswith(f"{asked.meta['question']}\n\n(A) ")
    assert said(asked)[0].endswith(
        "\n\n\nAnswer with the option's letter from the given choices directly."
    )


@pytest.fixture
def flat_box(tmp_path):
    """RefCOCO with one box of no extent and one outside of its image."""
    _, (config,) = written("refcoco", tmp_path, "test", num=4, image_format="png")
    path = tmp_path / "refcoco/instances.json"
    tables = json.loads(path.read_text())
    tables["annotations"][0]["bbox"] = [3.0, 4.0, 0.0, 5.0]
    tables["annotations"][1]["bbox"] = [-50.0, 4.0, 10.0, 5.0]
    dump(path, tables)
    return config


def test_every_box_is_scored_as_the_file_has_it(flat_box):
    trained = talks(flat_box, **SKIP)
    scored = talks(flat_box, evaluate=True)

    assert reasons(trained) and not reasons(scored)
    boxes = [talk.meta["reference"] for talk in scored]
    assert [3.0, 4.0, 3.0, 9.0] in boxes and [-50.0, 4.0, -40.0, 9.0] in boxes
    assert {turn.role for talk in scored for turn in talk.turns} == {"user"}
    # Behind a codec only the answers are left out that no box can give.
    steps = [dict(type="WriteRegions", codec=dict(type="LLaVACodec"))]
    data = DATASETS.build(dict(flat_box, evaluate=True, pipeline=steps))
    asked = [data.item_at(n)["conversation"] for n in range(len(data))]
    assert [len(talk.turns) for talk in asked].count(1) == 4 < len(data)
    sizes = {(talk.meta["width"], talk.meta["height"]) for talk in scored}
    assert sizes == {(48, 48)}
    assert all(isinstance(talk.meta["question_id"], int) for talk in scored)


def test_a_region_is_described_and_its_box_is_in_the_question(tmp_path):
    _, (config,) = written("refcoco", tmp_path, "test", num=4, image_format="png")

    found = talks(config, per="ref", task=dict(type="RegionCaption"), evaluate=True)

    for talk in found:
        assert len(talk.meta["reference"]) == 2
        assert any(isinstance(part, Region) for part in talk.turns[0].parts)


def test_masks_are_references_also_where_there_is_no_target(tmp_path):
    _, (config,) = written("reason_seg", tmp_path, "test", num=4)
    root = tmp_path / "reason_seg/ReasonSeg/val"
    path = sorted(root.glob("*.json"))[0]
    path.write_text(
        '{"text": ["the thing"], "is_sentence": false, "shapes": []}', encoding="utf-8"
    )
    task = dict(type="ReasoningSegmentation", take="first", ask_empty=True)

    found = talks(config, task=task, evaluate=True)
    assert all(len(talk.turns) == 1 for talk in found)
    codec = dict(type="WriteRegions", codec=dict(type="ShikraCodec"))
    written_as_boxes = talks(config, task=task, evaluate=True, pipeline=[codec])
    assert [len(talk.turns) for talk in written_as_boxes][:2] == [1, 2]

    areas = [rle_area(talk.meta["reference"]["masks"][0]) for talk in found]
    assert areas[0] == 0 and np.all(np.array(areas[1:]) > 0)
    assert "the thing" in said(found[0])[0]
    assert "no question whose answer is a mask" in reasons(talks(config))[0]


def test_what_is_scored_must_be_one_thing(tmp_path):
    _, (config,) = written("refcoco", tmp_path, "train", num=4, image_format="png")

    with pytest.raises(Exception, match="instances could be asked about"):
        talks(config, per="image", evaluate=True)


@pytest.mark.parametrize("boxes", ["separate", "merged"])
def test_phrases_are_scored_with_all_their_boxes(tmp_path, boxes):
    _, configs = written("flickr30k_entities", tmp_path, "test", num=6)
    task = dict(type="PhraseGrounding", ask="all")

    found = talks(configs[0], task=task, boxes=boxes, evaluate=True)

    for talk in found:
        phrases = talk.meta["reference"]
        assert phrases and all(one["phrase"] in said(talk)[0] for one in phrases)
        assert all(len(box) == 4 for one in phrases for box in one["boxes"])
        if boxes == "merged":
            assert {len(one["boxes"]) for one in phrases} == {1}


def test_every_object_of_lvis_is_asked_about_once(tmp_path):
    _, (config,) = written("lvis", tmp_path, "test", num=4)
    whole = DATASETS.build(config)
    count = sum(len(whole.annotation_at(n).instances) for n in range(len(whole)))
    config = dict(config, per="instance", task=dict(type="RegionNaming"))

    found = talks(config, evaluate=True)

    assert len(found) == count
    assert len({talk.meta["question_id"] for talk in found}) == count
    for talk in found:
        reference = talk.meta["reference"]
        text = said(talk)[0]
        assert reference["name"] in text and reference["name"] in said(talk)[1]
        assert any(name in text for name in talk.meta["absent_names"])
    with pytest.raises(ValueError, match="per='x': expected one of"):
        talks(config, per="x")
