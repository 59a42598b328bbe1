"""Judging boxes of answers, whatever the answers are."""

import numpy as np
import pytest

from mmvlm.evaluation.functional.phrase_grounding import (
    PhraseTarget,
    boxes_of_phrase,
    sentence_recall,
)
from mmvlm.evaluation.functional.referring import PROTOCOLS, judge_box

SIZE, TRUTH = (300, 400), (40.0, 60.0, 200.0, 240.0)
PHRASE = "the dog"
#: What each protocol reads as the true box.
ANSWERS = {
    "llava": "[0.1, 0.27, 0.5, 0.73]",
    "mmfuser": "[[100, 200, 500, 799]]",
    "mmfuser_pad": "[[100, 275, 500, 724]]",
    "shikra": "Answer: [0.100,0.275,0.500,0.725] .",
    "shikra_round": "the dog(0.100,0.275,0.500,0.725)",
    "shikra_tokens": "<b_st><bin_100> <bin_275> <bin_500> <bin_725><b_ed>",
    "ferret": "the dog [100, 200, 500, 800].",
    "kosmos2": "<phrase> the dog</phrase><object><patch_index_0195><patch_index_0816>"
    "</object>",
    "qwen_vl": "<ref>the dog</ref><box>(100,200),(500,800)</box>",
    "pink": "[0.100,0.200,0.500,0.800]",
    "pink_pad": "[0.100,0.275,0.500,0.725]",
    "ofa": "<bin_100> <bin_200> <bin_500> <bin_800>",
    "xtuner": "{<10><20><50><80>}",
}


def judged(protocol, text):
    return judge_box(protocol, text, TRUTH, SIZE, expression=PHRASE)


@pytest.mark.parametrize("protocol", sorted(ANSWERS))
def test_a_right_answer_is_right_in_words_and_behind_a_stop_string(protocol):
    text = ANSWERS[protocol]
    verdict = judged(protocol, text)

    assert verdict.strict and verdict.lenient and verdict.best, verdict
    assert verdict.parsed and verdict.iou > 0.8
    for stop in ("</s>", "<|im_end|>", "###", "\n"):
        assert judged(protocol, text + stop) == verdict


def test_every_protocol_that_reads_texts_has_an_answer_here():
    readers = {name for name, rule in PROTOCOLS.items() if rule.read is not None}
    assert readers == set(ANSWERS)


def test_good_will_takes_numbers_in_another_form():
    verdict = judged("shikra", "[0.1, 0.275, 0.5, 0.725]")
    assert (verdict.strict, verdict.lenient, verdict.parsed) == (False, True, False)

    other = ANSWERS["kosmos2"].replace("the dog", "a cat")
    verdict = judged("kosmos2", other)
    assert (verdict.strict, verdict.lenient, verdict.parsed) == (False, True, False)


def test_regions_are_judged_where_no_text_is_read():
    verdict = judge_box("regions", "no matter", TRUTH, SIZE, regions=[TRUTH])
    assert verdict.strict and verdict.iou == 1.0
    nothing = judge_box("regions", "[0.1, 0.2, 0.3, 0.4]", TRUTH, SIZE)
    assert not nothing.strict and not nothing.lenient and not nothing.parsed
    with pytest.raises(ValueError, match="protocol='voc': expected one of ferret, "):
        judge_box("voc", "", TRUTH, SIZE)


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_no_text_raises(protocol):
    rng = np.random.default_rng(0)
    digits = "9" * 5000
    texts = [
        "",
        f"[{digits}, {digits}, {digits}, {digits}]",
        f"[[{digits}, 1, 2, 3]]",
        f"[[1e999, {digits}, NaN, 3]]",
        "[[" * 3000,
        "[[1, 2, 3]] [[]]",
        f"<box>({digits},inf),(nan,1e999)</box>",
        f"<b_st><bin_{digits}><bin_1><bin_2><bin_3><b_ed>",
        f"<object><patch_index_{digits}><patch_index_1></object>",
        f"<bin_{digits}> <bin_1> <bin_2> <bin_3>",
        '[true, null, "a", {}]',
        "[1,2,3]",
    ]
    pieces = [*"[](),.;<> 0123456789-", "inf", "nan", *ANSWERS.values()]
    for _ in range(300):
        texts.append("".join(rng.choice(pieces, rng.integers(1, 12))))
    for text in texts:
        verdict = judged(protocol, text)
        assert verdict.lenient >= verdict.strict
        assert 0 <= verdict.iou <= 1
        boxes_of_phrase(text, PHRASE, SIZE)


def test_recall_wants_every_sentence_once_and_every_phrase():
    phrase = PhraseTarget((TRUTH,), ("animals",), PHRASE)
    targets = {"1_0": [phrase], "1_1": [phrase, phrase]}
    first, second = ("1_0", [[TRUTH]]), ("1_1", [[TRUTH], []])

    found = sentence_recall([first, second, ("1_0", []), ("9_9", [])], targets)

    assert found[1] == found[-1] == dict(all=2 / 3, animals=2 / 3)
    with pytest.raises(ValueError, match="no prediction for 1 sentences: 1_1"):
        sentence_recall([first], targets)
    with pytest.raises(ValueError, match="sentence 1_1: 1 lists of boxes for 2"):
        sentence_recall([first, ("1_1", [[TRUTH]])], targets)
