"""Files of answers: what a killed writer leaves, what is missing or too much."""

import json
import os
import random

import pytest

from mmvlm.evaluation.store import (
    AnswerReader,
    AnswerWriter,
    IncompleteAnswers,
    keep_sorted,
    match,
    repair,
)


def record(number, text="yes", finish="stop"):
    return dict(uid=f"pope/{number}/q", text=text, finish=finish, reference="yes")


UIDS = [record(number)["uid"] for number in range(4)]


def test_answers_are_read_while_ranks_write(tmp_path):
    reader = AnswerReader(tmp_path)
    writers = [AnswerWriter(tmp_path, rank) for rank in range(2)]
    writers[0].append([record(0), record(2, "no\u2028\n")])

    assert [one["uid"] for one in reader.new()] == [UIDS[0], UIDS[2]]

    writers[1].append([record(1)])
    assert [one["uid"] for one in reader.new()] == [UIDS[1]]
    assert list(reader.new()) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_torn_line_is_dropped_and_counted_wherever_it_is_cut(tmp_path, seed):
    writer = AnswerWriter(tmp_path, 0)
    writer.append([record(0), record(1, "a" * 70_000)])
    whole = writer.path.read_bytes()
    cut = random.Random(seed).randrange(1, len(whole))
    os.truncate(writer.path, cut)
    lines = whole[:cut].count(b"\n")

    assert len(list(AnswerReader(tmp_path).new())) == lines
    assert repair(tmp_path) == int(not whole[:cut].endswith(b"\n"))

    AnswerWriter(tmp_path, 0).append([record(2)])
    found = [one["uid"] for one in AnswerReader(tmp_path).new()]
    assert found == [*UIDS[:lines], UIDS[2]]


def test_a_damaged_line_inside_a_file_names_it(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"uid": "a", "text": ""}\n{"uid"\n{"uid": "b", "text": ""}\n')

    with pytest.raises(ValueError, match=r"answers.jsonl.*byte 25 is no JSON"):
        list(AnswerReader(tmp_path).new())


def test_a_full_disk_names_the_file(tmp_path):
    writer = AnswerWriter(tmp_path, 0)
    writer._file = open("/dev/full", "ab", buffering=0)

    with pytest.raises(OSError, match=r"No space left.*answers.rank0.jsonl"):
        writer.append([record(0)])


def test_files_of_ranks_become_one_in_the_order_of_the_set(tmp_path):
    for rank in range(3):
        AnswerWriter(tmp_path, rank).append([record(3 - rank)])
    (tmp_path / "answers.jsonl").write_text(json.dumps(record(0)) + "\n")

    answers = match(list(AnswerReader(tmp_path).new()), UIDS)
    keep_sorted(tmp_path, answers.records)

    assert [path.name for path in AnswerReader(tmp_path).paths] == ["answers.jsonl"]
    assert [one["uid"] for one in AnswerReader(tmp_path).new()] == UIDS


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([0, 1, 3], r"pope: 1 of 4 questions have no answer \('pope/2/q'\)"),
        ([0, 1, 2, 3, 9], r"1 answers are to no question of the set \('pope/9/q'\)"),
        ([0, 1, 2, 3, (1, "no")], r"1 questions have several answers that differ"),
        ([0, (7, "no")], r"3 of 4 questions.*1 answers are to no question"),
    ],
)
def test_incomplete_answers_are_refused(records, message):
    found = [record(*(one if isinstance(one, tuple) else [one])) for one in records]
    answers = match(found, UIDS)

    with pytest.raises(IncompleteAnswers, match=message):
        answers.check("pope")


def test_answers_given_twice_alike_become_one():
    answers = match([record(n) for n in (3, 1, 2, 0, 1, 1)], UIDS)

    answers.check("pope")
    assert [one["uid"] for one in answers.records] == UIDS
    assert answers.merged == 2


def test_a_question_that_failed_may_be_answered_later():
    failed = record(1, "", "error")
    for order in ([failed, record(1)], [record(1), failed]):
        answers = match([record(0), *order, record(2), record(3)], UIDS)

        answers.check("pope")
        assert answers.records[1]["text"] == "yes"


def test_questions_that_share_a_uid_are_refused():
    with pytest.raises(ValueError, match="1 questions share their uid"):
        match([], [*UIDS, UIDS[0]])
