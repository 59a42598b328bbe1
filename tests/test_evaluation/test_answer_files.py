"""Answer files of other toolboxes: what could not be read, and what is no text."""

import json

import pytest

from mmvlm.evaluation.answer_files import (
    ENDINGS,
    READERS,
    WRITERS,
    join,
    read_lmms_eval,
)


def question(number):
    return dict(
        uid=f"x/{number}/q",
        question_id=number + 5,
        question=f"What is {number}?",
        reference="cat",
        meta=dict(category="a"),
        finish=None,
    )


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("lost", [(), (1,), (0, 1, 2)])
def test_a_question_that_failed_stays_so(tmp_path, form, lost):
    """An empty text in its place would be a yes of POPE."""
    asked = [question(number) for number in range(3)]
    answers = [
        dict(
            one,
            text="" if n in lost else "cat",
            finish="error" if n in lost else "stop",
        )
        for n, one in enumerate(asked)
    ]
    path = tmp_path / f"m{ENDINGS[form]}"

    WRITERS[form](path, answers, "m")

    assert join(asked, READERS[form](path)) == answers
    assert ("finish" in path.read_text()) is bool(lost)


def test_a_question_that_cannot_be_read_has_no_answer_of_others():
    (found,) = join([dict(question(0), finish="error")], [dict(key=5, text="yes")])

    assert found["finish"] == "error"


def test_likelihoods_are_no_texts(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(dict(doc_id=3, resps=[[[-1.5, True]]])))

    with pytest.raises(
        ValueError, match=r"document 3 was answered with -1\.5, no text"
    ):
        read_lmms_eval(path)
