"""GLaMM's scores: pairs of masks, phrases found, and records of whole captions."""

import numpy as np
import pytest

from mmvlm.evaluation.functional.grounded_conversation import (
    count_matches,
    iou_matrix,
    paired_miou,
    shared_words,
)
from mmvlm.evaluation.scorers.grounded_conversation import GroundedConversationScorer
from mmvlm.structures.masks import mask_to_rle

SIZE = (20, 24)


def box(x1, y1, x2, y2):
    mask = np.zeros(SIZE, np.uint8)
    mask[y1:y2, x1:x2] = 1
    return mask


def drawn(rng, count):
    corners = [
        np.sort(rng.integers(0, 20, (2, 2)), axis=0).ravel() for _ in range(count)
    ]
    return [box(*one) for one in corners]


def plain_miou(ious):
    """The best pair first, over lists."""
    rows, columns, found = set(range(len(ious))), set(range(len(ious[0]))), []
    while rows and columns:
        value, row, column = max((ious[r][c], -r, -c) for r in rows for c in columns)
        if value <= 0:
            break
        found.append(value)
        rows.remove(-row)
        columns.remove(-column)
    return float(np.mean(found)) if found else 0.0


def test_pairs_are_those_of_the_plain_rule():
    rng = np.random.default_rng(0)
    for _ in range(60):
        first, second = drawn(rng, rng.integers(1, 6)), drawn(rng, rng.integers(1, 6))
        dense = [[(a & b).sum() / max((a | b).sum(), 1) for b in second] for a in first]
        sparse = iou_matrix(*([mask_to_rle(m) for m in ms] for ms in (first, second)))
        assert np.allclose(sparse, dense)
        assert paired_miou(sparse) == pytest.approx(plain_miou(dense))
    assert paired_miou(np.zeros((0, 3))) == paired_miou(np.zeros((2, 2))) == 0.0


def test_the_first_pair_that_is_no_match_ends_the_search():
    ious = np.array([[0.9, 0.1], [0.2, 0.8]])
    names = ["a dog", "a ball"]

    assert count_matches(ious, names, ["the dog", "ball"], shared_words) == 2
    assert count_matches(ious, names, ["dog", "a cat"], shared_words) == 1
    # The better mask has the wrong words: the official code stops there.
    assert count_matches(ious, names, ["a cat", "a ball"], shared_words) == 0
    assert count_matches(ious * 0.5, names, names, shared_words) == 0
    assert count_matches(ious, names, ["a dog"], shared_words) == 1
    assert count_matches(np.zeros((2, 0)), names, [], shared_words) == 0


def record(number, *said, finish="stop"):
    left, right = box(0, 0, 10, 10), box(12, 4, 20, 18)
    regions = [
        dict(kind="mask", phrase=phrase, boxes=[], rles=[] if m is None else [rle(m)])
        for phrase, m in said
    ]
    reference = dict(
        caption="A dog and a ball.",
        labels=["A dog", "a ball"],
        masks=[rle(left), rle(right)],
    )
    return dict(
        **dict(uid=f"r{number}", cluster=f"c{number}", reference=reference, text=""),
        **dict(finish=finish, meta=dict(pred_regions=regions)),
    )


def rle(mask):
    return mask_to_rle(mask) if isinstance(mask, np.ndarray) else mask


def test_records_are_scored_by_image_and_by_phrase():
    left, right, half = box(0, 0, 10, 10), box(12, 4, 20, 18), box(0, 0, 10, 5)
    damaged = dict(size=[3, 3], counts="09")
    records = [
        record(0, ("the ball", right), ("dog", left)),
        record(1, ("dog", half)),
        record(2),
        record(3, ("dog", left), ("ball", None)),
        record(4, ("x", damaged), ("dog", left)),
        record(5, finish="error"),
    ]
    scorer = GroundedConversationScorer()

    verdicts = [scorer.verdict(one) for one in records]
    totals = scorer.totals(records, verdicts)

    scores = [one["score"] for one in verdicts]
    assert scores == pytest.approx([1, 0.5, 0, 1, 1, 0])
    assert [one["parsed"] for one in verdicts] == [True, True, *[False] * 4]
    assert totals.metrics["miou"] == pytest.approx(100 * 3.5 / 6)
    assert totals.metrics["recall"] == pytest.approx(100 * 5 / 12)
    assert totals.metrics["parse_failures"] == 4 and "recall" in totals.notes
    value = totals.statistic(totals.units.sum(0))
    assert float(value) == pytest.approx(totals.metrics["miou"])
    own = record(6)
    own["meta"] = dict(scorer.reference_answer(own))
    assert scorer.verdict(own)["score"] == 1 and scorer.verdict(own)["found"] == 2


def test_a_question_that_could_not_be_read_is_wrong():
    lost = dict(record(1, finish="error"), reference="")
    records = [record(0, ("dog", box(0, 0, 10, 10))), lost]
    scorer = GroundedConversationScorer()

    totals = scorer.totals(records, [scorer.verdict(one) for one in records])

    assert totals.metrics["miou"] == pytest.approx(50)
    assert totals.metrics["recall"] == pytest.approx(100 / 3)  # a phrase is missed
    assert (totals.metrics["num_phrases"], totals.metrics["num"]) == (3, 2)


def test_bert_compares_phrases(tmp_path):
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "ball"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    BertModel(BertConfig(vocab_size=8, intermediate_size=16, **sizes)).save_pretrained(
        tmp_path
    )

    scorer = GroundedConversationScorer("bert", str(tmp_path))

    assert scorer.similarity("a dog", "a dog") == pytest.approx(1, abs=1e-5)
    assert scorer.similarity("a dog", "ball") < 1
    assert scorer.verdict(record(0, ("A dog", box(0, 0, 10, 10))))["found"] == 1
