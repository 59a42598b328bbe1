"""Answers that are scored again: of a folder, of other toolboxes, of judges."""

import json

import pytest
from letters import NUM_ITEMS, read_lines, write_letters

from mmvlm.apis.benchmarks import BenchmarkOptions, run_benchmarks
from mmvlm.apis.rescoring import rescore, write_answers
from mmvlm.datasets.tiny_scenes.benchmarks import write_benchmarks
from mmvlm.evaluation.answer_files import WRITERS
from mmvlm.evaluation.judging import judge_replies
from mmvlm.evaluation.store import IncompleteAnswers


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_letters(tmp_path_factory.mktemp("data"))


@pytest.fixture
def run(config_file, checkpoint, data, tmp_path):
    def run():
        options = BenchmarkOptions(num_workers=0, data_root=str(data))
        path = str(data / "letters.py")
        return run_benchmarks(config_file, checkpoint, path, tmp_path / "out", options)

    return run


@pytest.mark.parametrize("form", ["mmvlm", *WRITERS])
def test_answers_of_every_format_give_the_score_of_the_run(run, data, tmp_path, form):
    (row,) = run()
    path = tmp_path / "out/letters/answers.jsonl"
    if form != "mmvlm":
        (path,) = write_answers(tmp_path / "out", form, tmp_path / "files", "model")

    (scored,) = rescore(
        [path], benchmark=str(data / "letters.py"), form=form, data_root=str(data)
    )

    for key in ("score", "interval", "strict", "answered", "metrics"):
        assert scored.row[key] == row[key], key


@pytest.mark.parametrize("form", WRITERS)
def test_files_of_texts_hold_sets_with_repeated_ids_and_no_regions(
    config_file, tmp_path, form
):
    names = ["pope", "ocrbench"]  # ids begin anew in each file
    of_regions = ["reason_seg_val", "grefcoco_seg_val", "grand_f_val"]
    formats = ["pope", "ocrbench", "reason_seg", "grefcoco", "grand_f"]
    write_benchmarks(tmp_path / "data", num=14, seed=1, formats=formats)
    root = str(tmp_path / "data")
    options = BenchmarkOptions(data_root=root, answers="reference", num_workers=0)
    names += of_regions
    rows = run_benchmarks(config_file, None, names, tmp_path / "out", options)

    paths = write_answers(tmp_path / "out", form, tmp_path / "files", "m")

    assert [path.stem for path in paths] == ["m_ocrbench", "m_pope"]
    for path, row in zip(paths, (rows[1], rows[0]), strict=True):
        name = row["benchmark"]
        (scored,) = rescore([path], benchmark=name, form=form, data_root=root)
        assert scored.row["metrics"] == row["metrics"]
    for name in of_regions:
        with pytest.raises(ValueError, match=f"{name}: its scorer takes boxes or"):
            rescore([paths[0]], benchmark=name, form=form, data_root=root)


def test_a_run_is_scored_again_by_its_folder_alone(run, tmp_path):
    (row,) = run()

    (scored,) = rescore([tmp_path / "out"])

    assert scored.row["score"] == row["score"]
    path = tmp_path / "out/letters/answers.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[1:]))
    with pytest.raises(IncompleteAnswers, match="1 of 23 questions have no answer"):
        rescore([tmp_path / "out"])
    (scored,) = rescore([tmp_path / "out"], allow_partial=True)
    assert "partial: 1 of 23" in scored.row["note"]
    written = (tmp_path / "out", "llava", tmp_path / "files", "m")
    with pytest.raises(IncompleteAnswers, match="1 of 23 questions have no answer"):
        write_answers(*written)
    (file,) = write_answers(*written, allow_partial=True)
    assert len(read_lines(file)) == NUM_ITEMS - 1


def test_judges_replies_are_scored_later_and_failures_never(
    config_file, checkpoint, tmp_path
):
    write_benchmarks(tmp_path / "data", num=14, seed=1, formats=["mm_vet"])
    options = BenchmarkOptions(
        data_root=str(tmp_path / "data"), answers="empty", num_workers=0
    )
    out = tmp_path / "out"

    (row,) = run_benchmarks(config_file, None, "mm_vet", out, options)

    assert row["score"] is None and "not judged" in row["note"]
    asked = read_lines(out / "mm_vet/judge_requests.jsonl")
    assert len(asked) == row["answered"] and asked[0]["body"]["messages"]
    path = tmp_path / "replies.jsonl"
    rows = [dict(uid=one["custom_id"], reply="0.5") for one in asked]
    rows[0]["reply"] = None
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))

    (scored,) = rescore([out], replies=judge_replies(path))

    assert scored.row["score"] == 50.0
    assert scored.row["metrics"]["judge_failed"] == 1
