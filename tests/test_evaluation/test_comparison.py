"""Two runs whose answers judges rated."""

import json

import pytest

from mmvlm.evaluation.benchmark import Benchmark
from mmvlm.evaluation.comparison import compare_runs
from mmvlm.evaluation.judging import write_replies
from mmvlm.evaluation.store import write_benchmark, write_expected

BENCHMARK = Benchmark(
    name="mm_vet",
    title="MM-Vet",
    split="test",
    source="made here",
    dataset={},
    scorer=dict(type="MMVetScorer"),
    headline="total",
)


@pytest.fixture
def run(tmp_path):
    def run(name, grades, judge="gpt"):
        folder = tmp_path / name / "mm_vet"
        folder.mkdir(parents=True)
        uids = [f"mm_vet/{number}/q" for number in range(len(grades))]
        write_benchmark(folder, BENCHMARK)
        write_expected(folder, uids)
        rows = [
            dict(
                uid=uid,
                index=number,
                text=name,
                finish="stop",
                reference="x",
                meta=dict(capability=["ocr"]),
                cluster=uid,
            )
            for number, uid in enumerate(uids)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "answers.jsonl").write_text(text)
        if judge:
            replies = zip(uids, grades, strict=True)
            write_replies(folder, judge, {uid: [grade] for uid, grade in replies})
        return tmp_path / name

    return run


def test_runs_are_compared_where_both_have_ratings(run):
    first = run("a", ["0.0", "0.5", None, "1.0"])
    second = run("b", ["1.0", "0.5", "1.0", None])

    (one,) = compare_runs(first, second, draws=200)

    assert (one.before, one.after, one.items) == (25, 75, 2)
    assert [flip.first["uid"] for flip in one.flips] == ["mm_vet/0/q"]


def test_answers_without_a_judge_or_of_two_are_not_compared(run):
    first = run("a", ["0.0"])

    with pytest.raises(ValueError, match=r"b/mm_vet' are not judged; run .* --judge"):
        compare_runs(first, run("b", ["1.0"], judge=None))
    with pytest.raises(ValueError, match="two judges do not compare: gpt and llama"):
        compare_runs(first, run("c", ["1.0"], judge="llama"))
