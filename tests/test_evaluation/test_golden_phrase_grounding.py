"""Phrases of captions and names of regions against the official evaluations."""

import json
import tempfile
from pathlib import Path

import pytest

from mmvlm.datasets.readers.flickr30k_entities import (
    boxes_by_entity,
    parse_sentence,
    read_annotation,
)
from mmvlm.evaluation.functional.phrase_grounding import (
    PhraseTarget,
    boxes_of_phrase,
    phrase_hits,
    recall_table,
    sentence_recall,
)
from mmvlm.evaluation.functional.region_naming import names_region, without_denials

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def flickr(goldens):
    return json.loads((goldens / "phrase_grounding_eval.json").read_text())


@pytest.fixture(scope="module")
def tasks(goldens):
    return json.loads((goldens / "eval_ferret_tasks.json").read_text())


def targets_of(folder, annotations, sentences):
    """Phrases that have boxes, by image and sentence, read from files."""
    targets = {}
    for name, xml in annotations.items():
        path = folder / f"{name}.xml"
        path.write_text(xml)
        boxes = boxes_by_entity(read_annotation(str(path))["objects"])
        for number, line in enumerate(sentences[name]):
            own = [
                PhraseTarget(
                    tuple(boxes[p["phrase_id"]]), p["phrase_type"], p["phrase"]
                )
                for p in parse_sentence(line)["phrases"]
                if p["phrase_id"] in boxes
            ]
            if own:
                targets[f"{name}_{number}"] = own
    return targets


def text_recall(images, texts, targets):
    """Recall of captions with boxes, each phrase looked up by its words."""
    hits = []
    for image, text in zip(images, texts, strict=True):
        size = (image["height"], image["width"])
        own = targets[f"{image['original_img_id']}_{image['sentence_id']}"]
        for (start, end), *_ in image["tokens_positive_eval"]:
            words = image["caption"][start:end]
            target = next(t for t in own if t.phrase == words).merged()
            boxes = boxes_of_phrase(text, words, size)
            hits.append((target, phrase_hits(boxes, target)))
    return recall_table(hits)


def recalls_of(flickr):
    """Recall of lists of boxes by kind of target, and of captions with boxes."""
    lines = {k: v.splitlines() for k, v in flickr["sentences_txt"].items()}
    with tempfile.TemporaryDirectory() as folder:
        targets = targets_of(Path(folder), flickr["annotations_xml"], lines)
    predictions = [
        (f"{one['image_id']}_{one['sentence_id']}", one["boxes"])
        for one in flickr["predictions"]
    ]
    by_kind = {
        name: sentence_recall(predictions, targets, merge=name == "MERGED")
        for name in ("ANY", "MERGED")
    }
    case = flickr["ferret_text"]
    texts = [one["text"] for one in case["predictions"]]
    return by_kind, text_recall(case["images"], texts, targets)


def test_recall_of_boxes_and_of_captions_with_boxes(flickr):
    found, of_captions = recalls_of(flickr)

    golden = {**flickr["recall"], "captions": flickr["ferret_text"]["merged_recall"]}
    for name, table in dict(found, captions=of_captions).items():
        assert {str(k): row for k, row in table.items()} == {
            k: pytest.approx(row, abs=1e-9) for k, row in golden[name].items()
        }, name


def test_ferrets_recall(tasks, tmp_path):
    case, golden = tasks["inputs"]["flickr"], tasks["official_score"]
    name = case["images"][0]["original_img_id"]
    xml = {name: case["annotation_xml"]}
    targets = targets_of(tmp_path, xml, {name: case["sentences"]})

    found = text_recall(case["images"], case["predictions"], targets)

    labels = {k: "Upper_bound" if k == -1 else f"Recall@{k}" for k in found}
    flat = {f"{labels[k]}_{c}": v for k, t in found.items() for c, v in t.items()}
    assert flat == pytest.approx(golden["flickr_recall"], abs=1e-6)


def test_names_of_regions(tasks, goldens):
    rec = json.loads((goldens / "rec_eval.json").read_text())["lvis_classification"]
    hits = []
    for row in rec["rows"]:
        assert without_denials(row["text"]) == row["processed"]
        hits.append(names_region(row["text"], row["name"], row["synonyms"]))
        assert hits[-1] == row["correct"], row
    assert sum(hits) / len(hits) == pytest.approx(rec["accuracy"], abs=1e-9)

    rows = tasks["inputs"]["lvis_predictions"]
    right = [names_region(r["text"], r["name"], r["synonyms"]) for r in rows]
    printed = f"Acc:{sum(right) / len(right) * 100:.3f}%"
    assert printed == tasks["official_score"]["lvis"]
