"""Two runs compared: groups that count as one, answers that judges rated."""

import json
from dataclasses import replace

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
        rows = [dict(text=name, meta=dict(capability=["ocr"])) for _ in grades]
        folder = written(tmp_path / name, BENCHMARK, rows)
        if judge:
            uids = [f"mm_vet/{number}/q" for number in range(len(grades))]
            replies = zip(uids, grades, strict=True)
            write_replies(folder, judge, {uid: [grade] for uid, grade in replies})
        return tmp_path / name

    return run


def written(run, benchmark, rows):
    """Write answers as a run keeps them; returns the benchmark's folder."""
    folder = run / benchmark.name
    folder.mkdir(parents=True)
    uids = [f"{benchmark.name}/{number}/q" for number in range(len(rows))]
    write_benchmark(folder, benchmark)
    write_expected(folder, uids)
    rest = dict(finish="stop", reference="A")
    lines = [
        json.dumps(
            dict(rest, uid=uid, index=n, cluster=str(row["meta"].get("group", n))) | row
        )
        for n, (uid, row) in enumerate(zip(uids, rows, strict=True))
    ]
    (folder / "answers.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_runs_are_compared_where_both_have_ratings(run):
    first = run("a", ["0.0", "0.5", None, "1.0"])
    second = run("b", ["1.0", "0.5", "1.0", None])

    (one,) = compare_runs(first, second, draws=200)

    assert (one.before, one.after, one.items) == (25, 75, 2)
    assert [flip.first["uid"] for flip in one.flips] == ["mm_vet/0/q"]


def test_where_groups_count_mcnemar_counts_groups(tmp_path):
    """Rotations of one question are no independent items."""
    scorer = dict(type="ChoiceScorer", average="groups")
    benchmark = replace(BENCHMARK, name="circular", scorer=scorer, headline="acc")
    for name, letters in (("a", "BBBBBBBB"), ("b", "AAAAAAAB")):
        metas = [dict(options=["x", "y"], group=n // 4) for n in range(8)]
        rows = [dict(text=t, meta=m) for t, m in zip(letters, metas, strict=True)]
        written(tmp_path / name, benchmark, rows)

    (one,) = compare_runs(tmp_path / "a", tmp_path / "b", draws=200)

    assert (one.before, one.after, len(one.flips)) == (0, 50, 7)
    assert one.mcnemar == 1  # one of two groups


def test_records_of_several_phrases_are_not_right_or_wrong_by_their_counts(tmp_path):
    """One phrase of three found, or none: no record is right."""
    benchmark = replace(
        BENCHMARK,
        name="phrases",
        scorer=dict(type="PhraseGroundingScorer"),
        headline="recall@1",
    )
    target, other = [1, 1, 9, 9], [20, 20, 30, 30]
    phrases = [dict(phrase=p, types=["other"], boxes=[target]) for p in "xyz"]

    def write(name, found):
        rows = [
            dict(
                text="",
                reference=phrases[:count],
                meta=dict(
                    width=64,
                    height=48,
                    pred_regions=[
                        dict(phrase=p, boxes=[target if n < hits else other])
                        for n, p in enumerate("xyz"[:count])
                    ],
                ),
            )
            for count, hits in found
        ]
        written(tmp_path / name, benchmark, rows)

    write("a", [(3, 0)] * 6)
    write("b", [(3, 1)] * 6)
    (one,) = compare_runs(tmp_path / "a", tmp_path / "b", draws=200)
    assert (one.before, one.after) == pytest.approx((0, 100 / 3))
    assert one.mcnemar is None

    write("c", [(3, 0)] * 6)
    write("d", [(3, 3)] * 6)
    (one,) = compare_runs(tmp_path / "c", tmp_path / "d", draws=200)
    assert one.mcnemar == pytest.approx(2 / 2**6)  # whole records


def test_answers_without_a_judge_or_of_two_are_not_compared(run):
    first = run("a", ["0.0"])

    with pytest.raises(ValueError, match=r"b/mm_vet' are not judged; run .* --judge"):
        compare_runs(first, run("b", ["1.0"], judge=None))
    with pytest.raises(ValueError, match="two judges do not compare: gpt and llama"):
        compare_runs(first, run("c", ["1.0"], judge="llama"))
