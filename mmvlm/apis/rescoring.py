"""Score answers that are on disk: of our runs and of other toolboxes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmvlm.apis.published import published_row, published_scores
from mmvlm.config.benchmarks import find_benchmarks
from mmvlm.engine.benchmarks.questions import Questions
from mmvlm.evaluation.answer_files import ENDINGS, READERS, WRITERS, join
from mmvlm.evaluation.benchmark import Benchmark
from mmvlm.evaluation.judging import add_replies, own_replies
from mmvlm.evaluation.scoring import Scored, rule_of, score, under_rule
from mmvlm.evaluation.store import (
    AnswerReader,
    Answers,
    benchmark_folders,
    match,
    num_torn,
    read_benchmark,
    read_expected,
    read_records,
)
from mmvlm.registry import SCORERS

#: The system behind the protocols in which other toolboxes ask.
_REFERENCE = "llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k"
#: What is asked, the answers, who judged them, whose published scores compare.
_Found = tuple[Benchmark, Answers, str | None, str | None]


def rescore(
    paths: Iterable[str | os.PathLike],
    *,
    benchmark: str | None = None,
    rule: str | None = None,
    form: str = "mmvlm",
    data_root: str | None = None,
    allow_partial: bool = False,
    replies: Mapping[str, list] | None = None,
    published: str | None = None,
    **options: Any,
) -> list[Scored]:
    """Score answers again; neither the model nor, for our own files, data are read.

    Args:
        paths (Iterable[str | PathLike]): folders of runs, or files of answers.
        benchmark (str | None): only this one of a run; needed for files.
        rule (str | None): of the scorer, in place of the benchmark's.
        form (str): ``mmvlm``, ``llava``, ``lmms-eval`` or ``vlmevalkit``. Answers of
            other toolboxes are held against the data of the benchmark.
        data_root (str | None): folder that stands in for ``data``.
        allow_partial (bool): score although answers are missing, which rows say.
        replies (Mapping | None): of judges by uid, see :func:`judge_replies`; None:
            those that the run was judged with.
        published (str | None): config whose published scores stand beside; None: that
            of the run, and LLaVA-1.5 7B beside answers of other toolboxes.
        **options: see :func:`score`: ``draws``, ``seed``.

    Raises:
        IncompleteAnswers: when answers are missing, foreign or contradict each other.
        ValueError: for files without a benchmark, an unknown format, or a config
            without published scores.
    """
    if published is not None:
        published_scores(published)
    if form != "mmvlm" and form not in READERS:
        raise ValueError(f"format '{form}': expected one of {['mmvlm', *READERS]}.")
    scored = []
    for path in map(Path, paths):
        if path.is_dir() and form != "mmvlm":
            raise ValueError(
                f"'{path}' is the folder of a run, whose answers are our own. Leave "
                f"out --format {form}, or name the file in that format."
            )
        found = _of_run if path.is_dir() else _of_file
        for own, answers, judge, system in found(path, benchmark, form, data_root):
            one = under_rule(own, rule)
            facts = published_row(published or system, one.name)
            if rule_of(one) != rule_of(own):
                facts = {}  # scores of another rule do not compare
            if not allow_partial:
                answers.check(one.name)
            if replies is not None:
                # What a judge was not heard of is a failure, not a question to ask.
                nothing = {record["uid"]: [None] for record in answers.records}
                add_replies(answers.records, nothing | dict(replies))
                judge = "replies"
            scored.append(score(one, answers, judge=judge, facts=facts, **options))
    return scored


def _folders(run: str | os.PathLike, name: str | None) -> dict[str, Path]:
    """Return the folders of a run's benchmarks, or of one of them.

    Raises:
        FileNotFoundError: when there is none.
    """
    folders = benchmark_folders(run)
    if name is not None:
        folders = {key: value for key, value in folders.items() if key == name}
    if not folders:
        raise FileNotFoundError(
            f"'{run}' holds no answers"
            + ("" if name is None else f" to '{name}'")
            + "; name a folder that tools/test.py --benchmarks wrote."
        )
    return folders


def _of_run(
    run: Path, name: str | None, form: str, data_root: str | None
) -> list[_Found]:
    found = []
    for folder in _folders(run, name).values():
        records = list(AnswerReader(folder).new())
        answers = match(records, read_expected(folder), num_torn(folder))
        replies, judge = own_replies(folder)
        add_replies(answers.records, replies or {})
        items, facts = read_benchmark(folder)
        found.append((items, answers, judge, facts.get("system")))
    return found


def _of_file(
    path: Path, name: str | None, form: str, data_root: str | None
) -> list[_Found]:
    if name is None:
        raise ValueError(f"'{path}' is a file: say with --benchmark what it answers.")
    (benchmark,) = find_benchmarks(name)
    questions = Questions(benchmark, data_root=data_root)
    if form == "mmvlm":
        records = read_records(path)
    else:
        items = [questions[number].record for number in range(len(questions))]
        _check_text_does(questions.benchmark, form)
        records = join(items, READERS[form](path))
    system = None if form == "mmvlm" else _REFERENCE
    return [(questions.benchmark, match(records, questions.uids), None, system)]


def _check_text_does(benchmark: Benchmark, form: str) -> None:
    """Refuse a file without regions where regions are what is scored.

    Raises:
        ValueError: with the way out.
    """
    if SCORERS.build(dict(benchmark.scorer)).needs_regions:
        raise ValueError(
            f"{benchmark.name}: its scorer takes boxes or masks of the answers, which "
            f"files of the format '{form}' do not hold; score the run's own folder."
        )


def write_answers(
    run: str | os.PathLike,
    form: str,
    folder: str | os.PathLike,
    model: str,
    *,
    benchmark: str | None = None,
    allow_partial: bool = False,
) -> list[Path]:
    """Write the answers of a run as another toolbox does.

    Benchmarks that score regions of the answers are left out, with a warning: such
    files hold texts alone.

    Args:
        run (str | PathLike): folder of a run.
        form (str): ``llava``, ``lmms-eval`` or ``vlmevalkit``.
        folder (str | PathLike): gets a file per benchmark.
        model (str): its name, as the files tell it.
        benchmark (str | None): only this one of the run.
        allow_partial (bool): write what is answered.

    Returns:
        list[Path]: the files.

    Raises:
        IncompleteAnswers: when answers are missing or contradict each other.
        FileNotFoundError: when the run has no such answers.
    """
    if form not in WRITERS:
        raise ValueError(f"format '{form}': expected one of {list(WRITERS)}.")
    written = []
    for name, own in _folders(run, benchmark).items():
        try:
            _check_text_does(read_benchmark(own)[0], form)
        except ValueError as error:
            print_log(str(error), logger="current", level=logging.WARNING)
            continue
        path = Path(folder, f"{model}_{name}{ENDINGS[form]}")
        answers = match(list(AnswerReader(own).new()), read_expected(own))
        if not allow_partial:
            answers.check(name)
        WRITERS[form](path, answers.records, model)
        written.append(path)
    return written


__all__ = ["rescore", "write_answers"]
