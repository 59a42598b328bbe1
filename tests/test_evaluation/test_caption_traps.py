"""Traps of captions: line ends, tokenizers, the programs in Java."""

import importlib.util
import os
import random

import numpy as np
import pytest
from scorer_records import record

from mmvlm.evaluation import java_captions
from mmvlm.evaluation.functional import captions, ptb
from mmvlm.evaluation.scorers import captions as scorer_of_captions
from mmvlm.registry import SCORERS

ODD = "A cat\u2028sits\x85on\ra\vmat."


@pytest.mark.parametrize("rule", ["ptb_python", "ptb"])
def test_a_line_end_inside_a_caption_moves_no_other_caption(rule):
    """pycocoevalcap's tokenizer gives all later captions to the wrong image."""
    texts = [
        ODD,
        *(f"a {animal} runs fast" for animal in "dog cow fox pig hen".split()),
    ]
    records = [record(i, text, [text]) for i, text in enumerate(texts)]
    scorer = SCORERS.build(dict(type="CaptionScorer", rule=rule))
    totals = scorer.totals(records, [scorer.verdict(one) for one in records])
    assert totals.metrics["cider"] == pytest.approx(1000, abs=1e-6)
    assert ptb.tokenize(ODD) == "a cat sits on a mat"


def test_domains_are_scored_as_sets_of_their_own():
    animals = "dog cow fox pig hen ant".split()
    records = [
        record(i, f"a {a} runs", [f"one {a} runs fast", f"a {a}"], dict(domain=domain))
        for i, (a, domain) in enumerate(zip(animals, ["in", "out"] * 3, strict=True))
    ]
    scorer = SCORERS.build(dict(type="CaptionScorer", rule="ptb_python"))

    def total(rows):
        return scorer.totals(rows, [scorer.verdict(one) for one in rows]).metrics

    metrics, alone = total(records), total(records[::2])
    assert metrics["in/cider"] == alone["cider"] != metrics["cider"]


def test_brackets_stay_in_captions_as_in_the_java_program():
    assert ptb.tokenize("Two (2) dogs, it's 5 p.m.") == (
        "two -lrb- 2 -rrb- dogs it 's 5 p.m."
    )


STUB = """#!/bin/sh
case "$*" in
*meteor*) while read -r line; do case "$line" in
    EVAL*) printf '0.5\\n0.25\\n0.4\\n';; *) echo statistics;; esac; done;;
*broken*) echo no such jar >&2; exit 1;;
*) tr 'A-Z' 'a-z' | sed 's/\\./ ./' LINES;;
esac
"""


@pytest.fixture
def stub_java(tmp_path, monkeypatch):
    """A java that tokenizes and scores, or loses lines."""

    def make(lines="", folder="pycocoevalcap"):
        path = tmp_path / "java"
        path.write_text(STUB.replace("LINES", lines))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setattr(java_captions, "find_java", lambda: tmp_path / folder)
        monkeypatch.setattr(scorer_of_captions, "find_java", lambda: tmp_path / folder)

    return make


def test_java_tokenizes_and_scores(stub_java):
    stub_java()
    texts = ["A cat\u2028sits.", "Two dogs."]
    assert java_captions.tokenize_java(texts) == ["a cat sits", "two dogs"]
    records = [record(i, text, [text]) for i, text in enumerate(texts)]
    scorer = SCORERS.build(dict(type="CaptionScorer", rule="ptb_java"))
    totals = scorer.totals(records, [scorer.verdict(one) for one in records])
    assert totals.metrics["meteor"] == pytest.approx(40)
    assert totals.notes["tokenizer"] == "Stanford PTB (Java)"


def test_java_that_loses_lines_or_fails_is_found_out(stub_java):
    stub_java(lines="| head -1")
    with pytest.raises(RuntimeError, match="returned 1 lines for 2 captions"):
        java_captions.tokenize_java(["a", "b"])
    with pytest.raises(RuntimeError, match="METEOR returned 3 numbers for 1 captions"):
        java_captions.meteor_scores(["a"], [["a"]])
    stub_java(folder="broken")
    with pytest.raises(RuntimeError, match="java failed: no such jar"):
        java_captions.tokenize_java(["a"])


def test_java_is_asked_for_by_name(monkeypatch):
    monkeypatch.setattr(java_captions.importlib.util, "find_spec", lambda name: None)
    assert "pip install pycocoevalcap" in java_captions.find_java()
    with pytest.raises(RuntimeError, match="pycocoevalcap is not installed"):
        java_captions.tokenize_java(["a"])
    scorer = SCORERS.build(dict(type="CaptionScorer", rule="ptb_java"))
    one = record(0, "a cat", ["a cat"])
    with pytest.raises(RuntimeError, match="pycocoevalcap is not installed"):
        scorer.totals([one], [scorer.verdict(one)])
    totals = SCORERS.build(dict(type="CaptionScorer")).totals(
        [one], [scorer.verdict(one)]
    )
    assert (
        totals.notes["meteor"].startswith("not computed")
        and "meteor" not in totals.metrics
    )


@pytest.mark.skipif(
    importlib.util.find_spec("pycocoevalcap") is None,
    reason="needs pycocoevalcap (pip install pycocoevalcap==1.2)",
)
def test_caption_scores_equal_pycocoevalcap():
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    generator = random.Random(0)

    def caption():
        return " ".join(generator.choices("abcdefg", k=generator.randrange(1, 9)))

    refs = {i: [caption() for _ in range(1 + i % 3)] for i in range(40)}
    hyps = {i: [caption()] for i in refs}
    ours = captions.CiderFrequencies(list(refs.values()))
    cider = [ours.score(hyps[i][0], refs[i]) for i in refs]
    assert cider == pytest.approx(list(Cider().compute_score(refs, hyps)[1]), abs=1e-9)
    rouge = [captions.rouge_l(hyps[i][0], refs[i]) for i in refs]
    assert rouge == pytest.approx(list(Rouge().compute_score(refs, hyps)[1]), abs=1e-9)
    counts = np.sum([captions.bleu_counts(hyps[i][0], refs[i]) for i in refs], axis=0)
    bleu, _ = Bleu(4).compute_score(refs, hyps, verbose=0)
    assert captions.bleu_of_counts(counts) == pytest.approx(bleu, abs=1e-9)
