"""Run benchmarks: one model, many sets of questions, one folder."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

import mmvlm
from mmvlm.apis.loading import as_config, load_model
from mmvlm.apis.published import published_row, published_scores, system_of
from mmvlm.config.benchmarks import find_benchmarks
from mmvlm.datasets.processor import VLMProcessor
from mmvlm.engine.benchmarks.answering import (
    FileAnswers,
    empty_answers,
    reference_answers,
    settings_of,
)
from mmvlm.engine.benchmarks.choosing import flips_of, model_answers
from mmvlm.engine.benchmarks.identity import benchmark_facts, model_facts
from mmvlm.engine.benchmarks.planner import BatchPolicy
from mmvlm.engine.benchmarks.questions import Questions
from mmvlm.engine.benchmarks.ranks import Ranks
from mmvlm.engine.benchmarks.run import BenchmarkRun, folder_of, with_blind
from mmvlm.engine.benchmarks.serving import (
    SERVER_PIPELINE,
    ServerAnswers,
    check_server_does,
    shown_prompt,
)
from mmvlm.engine.hooks.provenance_hook import git_state, versions
from mmvlm.engine.optimizers.optim_wrapper import precision
from mmvlm.engine.runner.identity import data_facts
from mmvlm.engine.runner.rng import preserved_rng
from mmvlm.evaluation.benchmark import Benchmark
from mmvlm.evaluation.chat_client import ChatClient, Endpoint
from mmvlm.evaluation.judging import CACHE, Judge, judge_requests
from mmvlm.evaluation.scorers.judged import JudgedScorer
from mmvlm.evaluation.scoring import rule_of, under_rule
from mmvlm.evaluation.tables import write_tables
from mmvlm.models.utils.feature_cache import FeatureCache
from mmvlm.registry import SCORERS
from mmvlm.utils.files import write_atomic
from mmvlm.visualization.radar import draw_radar

#: What may answer in place of the model.
ANSWERS = ("model", "reference", "empty")
#: Replies of a served model, in the folder of a benchmark.
SERVED = "served.jsonl"


@dataclass
class BenchmarkOptions:
    """How benchmarks are run.

    Args:
        data_root (str | None): folder that stands in for ``data``.
        limit (int | None): only the first questions of each benchmark.
        only (Sequence[str]): only the questions with these uids, and the benchmarks
            that have some.
        answers (str): ``model``; ``reference``: with the right answers, which shows
            what the data folder and the scorer give at most; ``empty``; or a file of
            answers by uid.
        rule (str | None): of the scorers, in place of the benchmarks' own.
        blind (str | None): ``shuffle``: with the images of other questions;
            ``text``: without any.
        fresh (bool): drop older answers.
        allow_partial (bool): score although answers are missing, which rows say.
        stop_on_error (bool): end at an image that cannot be read; by default its
            question is counted as wrong.
        policy (BatchPolicy): what a batch may hold.
        deterministic (bool): each question by itself, see :class:`ModelAnswers`; half
            precision is warned of without it, see :meth:`BenchmarkRun.flips`.
        num_workers (int): processes that read images, per rank.
        judge (Endpoint | None): rates the answers of judged benchmarks; without a URL
            its replies must be known. None: requests are written down instead.
        judge_runs (int): replies of the judge per answer.
        server (Endpoint | None): a served model, which answers in place of the
            config's.
        published (str | None): config whose published scores stand beside the run's,
            unless it is blind or under another rule than the benchmark's own; None:
            the config itself, where its model answers.
    """

    data_root: str | None = None
    limit: int | None = None
    only: Sequence[str] = ()
    answers: str = "model"
    rule: str | None = None
    blind: str | None = None
    fresh: bool = False
    allow_partial: bool = False
    stop_on_error: bool = False
    policy: BatchPolicy = field(default_factory=BatchPolicy)
    deterministic: bool = False
    num_workers: int = 2
    judge: Endpoint | None = None
    judge_runs: int = 1
    server: Endpoint | None = None
    published: str | None = None

    def __post_init__(self) -> None:
        for is_wrong, message in self._contradictions():
            if is_wrong:
                raise ValueError(message)
        if self.published is not None:
            published_scores(self.published)

    def _contradictions(self) -> Iterator[tuple[bool, str]]:
        """Yield whether options speak against each other, and the way out."""
        answers, is_served = self.answers, self.server is not None
        yield (
            is_served and answers != "model",
            f"answers={answers!r}: a server answers by itself. Leave out --answers, or "
            "--server.",
        )
        yield (
            self.deterministic and (is_served or answers != "model"),
            "deterministic: it is a way to run the config's own model, which does not "
            f"answer here. Leave out --deterministic, or "
            f"{'--server' if is_served else '--answers'}.",
        )
        yield (
            self.limit is not None and bool(self.only),
            "limit and only: the second names the questions by itself. Leave out "
            "--limit, or --only.",
        )
        yield (
            self.limit is not None and self.limit < 1,
            f"limit={self.limit}: expected 1 or more. Leave out --limit to ask all.",
        )
        yield (
            self.judge_runs < 1,
            f"judge_runs={self.judge_runs}: expected 1 or more (--judge-runs).",
        )

    @property
    def selection(self) -> dict[str, Any]:
        """What decides which questions are asked, and of what."""
        names = ("limit", "only", "answers", "blind", "deterministic")
        found = {name: getattr(self, name) for name in names}
        found["only"] = list(self.only)
        if self.server is not None:
            found["server"] = self.server.model
            found["server_options"] = dict(self.server.options)
        return {key: value for key, value in found.items() if value != "model"}


def run_benchmarks(
    config: str | os.PathLike | Config,
    checkpoint: str | os.PathLike | None,
    benchmarks: str | Sequence[str],
    out: str | os.PathLike,
    options: BenchmarkOptions | None = None,
    *,
    cfg_options: dict | None = None,
    tiny: bool = False,
) -> list[dict[str, Any]]:
    """Ask a model the questions of benchmarks and score its answers.

    Answers are kept as they come: a run that was killed goes on where it was, with any
    number of processes. All processes call; the first one scores.

    Args:
        config (str | PathLike | Config): see :func:`load_model`.
        checkpoint (str | PathLike | None): see :func:`load_model`.
        benchmarks (str | Sequence[str]): see :func:`find_benchmarks`.
        out (str | PathLike): folder of answers and results.
        options (BenchmarkOptions | None): how they are run.
        cfg_options (dict | None): as ``--cfg-options``.
        tiny (bool): the config's tiny twin.

    Returns:
        list[dict]: a row of results per benchmark; empty on ranks other than 0.

    Raises:
        ValueError: for options that speak against each other, and for questions that
            no benchmark has.
        OtherIdentity: when the folder holds answers of another model or data.
        IncompleteAnswers: when questions are left without an answer.
        RankLost: when another process is gone.
    """
    options, out = options or BenchmarkOptions(), Path(out)
    chosen = _chosen(benchmarks, options)
    for one in chosen:  # files that are missing show before weights are read
        Questions(
            under_rule(one, options.rule),
            data_root=options.data_root,
            limit=options.limit,
            only=_only(one, options),
        )
    judge, begin = _judge(options, out), time.time()
    ranks = Ranks.from_environment(out)
    with preserved_rng():
        source = _Source.load(config, checkpoint, options, cfg_options, tiny)
        runs = [_run(one, source, out, options) for one in chosen]

        identity: dict[str, Any] = {}

        def prepare() -> None:
            identity["model"] = source.facts()
            for run in runs:
                own = benchmark_facts(
                    *(run.benchmark, run.questions.dataset, run.questions.gen),
                    **options.selection,
                )
                identity[run.benchmark.name] = own
                run.prepare({**identity["model"], **own}, options.fresh)

        try:
            ranks.begin(prepare)
            for run in runs:
                run.run_share(ranks)
            if ranks.rank:
                return []
            rows = [_finished(run, ranks, source, options, judge=judge) for run in runs]
            ranks.meet()
        finally:
            ranks.end()
    facts = dict(processes=ranks.world_size, seconds=round(time.time() - begin, 1))
    write_run(out, source, options, identity=identity, **facts)
    rows = [with_blind(out, row) for row in rows]
    write_tables(out, rows)
    draw_radar(out / "radar.png", rows)
    return rows


def _finished(
    run: BenchmarkRun,
    ranks: Ranks,
    source: _Source,
    options: BenchmarkOptions,
    *,
    judge: Judge | None,
) -> dict[str, Any]:
    """Wait for the other ranks' answers to a benchmark; return its row of results."""
    ranks.wait_for(
        lambda rank: run.is_done(ranks, rank),
        f"other ranks' answers to {run.benchmark.name}",
    )
    scored = run.finish(
        allow_partial=options.allow_partial,
        judge=judge,
        facts=_facts(run, source, options),
    )
    return scored.row


def _chosen(
    benchmarks: str | Sequence[str], options: BenchmarkOptions
) -> list[Benchmark]:
    """Return the benchmarks that are run: of chosen questions, those that have some."""
    chosen = find_benchmarks(benchmarks)
    for uid in options.only:
        if not any(uid.startswith(f"{one.name}/") for one in chosen):
            raise ValueError(
                f"only={uid!r}: a uid begins with the name of its benchmark, here "
                f"{', '.join(one.name for one in chosen)}. Take it from the "
                "answers.jsonl of a run."
            )
    return [one for one in chosen if not options.only or _only(one, options)]


def _only(benchmark: Benchmark, options: BenchmarkOptions) -> list[str]:
    """Return which of the chosen questions are those of a benchmark."""
    return [uid for uid in options.only if uid.startswith(f"{benchmark.name}/")]


def _judge(options: BenchmarkOptions, out: Path) -> Judge | None:
    if options.judge is None:
        return None
    return Judge(ChatClient(options.judge, out / CACHE), options.judge_runs)


def _questions(
    benchmark: Benchmark, source: _Source, options: BenchmarkOptions
) -> Questions:
    is_served = options.server is not None
    return Questions(
        benchmark,
        source.processor,
        pipeline=SERVER_PIPELINE if is_served else (),
        gen=settings_of(None if is_served else source.cfg, benchmark),
        data_root=options.data_root,
        limit=options.limit,
        only=_only(benchmark, options),
        blind=options.blind,
        stop_on_error=options.stop_on_error,
    )


def _run(
    benchmark: Benchmark, source: _Source, out: Path, options: BenchmarkOptions
) -> BenchmarkRun:
    questions = _questions(under_rule(benchmark, options.rule), source, options)
    # Scores of a blind run, or of another rule, do not compare.
    compares = not options.blind and rule_of(questions.benchmark) == rule_of(benchmark)
    benchmark = questions.benchmark
    policy = knows = None
    if options.server is not None:
        check_server_does(questions)
        folder = folder_of(out, benchmark.name, options.blind)
        client = ChatClient(options.server, folder / SERVED)
        answer = ServerAnswers(client, questions.gen)
    elif options.answers == "model":
        answer = model_answers(
            *(source.model, questions, options.policy, source.dtype, source.cache),
            deterministic=options.deterministic,
        )
        policy = answer.policy
    elif options.answers == "reference":
        answer = reference_answers(SCORERS.build(dict(benchmark.scorer)))
    elif options.answers == "empty":
        answer = empty_answers
    else:
        answer = _answers_of_file(options.answers, questions)
        knows = answer.knows
    return BenchmarkRun(
        *(out, questions, answer),
        policy=policy,
        knows=knows,
        num_workers=options.num_workers,
        system=(options.published or source.system) if compares else None,
    )


def _answers_of_file(path: str, questions: Questions) -> FileAnswers:
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"answers={path!r}: expected one of {list(ANSWERS)} or a file."
        )
    return FileAnswers(path, questions)


def _facts(
    run: BenchmarkRun, source: _Source, options: BenchmarkOptions
) -> dict[str, Any]:
    """Return what a row of results says besides its scores."""
    facts = {key: value for key, value in options.selection.items() if value}
    if source.model is not None:
        facts |= flips_of(
            *(run, source.model, options.policy, source.dtype),
            deterministic=options.deterministic,
        )
    return facts | published_row(run.system, run.benchmark.name)


@dataclass
class _Source:
    """A model that answers, or what prompts need of it."""

    cfg: Config
    processor: VLMProcessor | None = None
    model: Any = None
    checkpoint: str | None = None
    #: Of images, for all benchmarks.
    cache: FeatureCache = field(default_factory=lambda: FeatureCache())

    @classmethod
    def load(
        cls,
        config: Any,
        checkpoint: Any,
        options: BenchmarkOptions,
        cfg_options: dict | None,
        tiny: bool,
    ) -> _Source:
        """Load the model, or only what prompts need where it answers nothing."""
        if options.server is not None:
            return cls(as_config(config, cfg_options, tiny))
        if options.answers != "model":
            return cls.without_weights(as_config(config, cfg_options, tiny))
        device = None
        if torch.cuda.is_available():
            number = int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()
            torch.cuda.set_device(number)
            device = f"cuda:{number}"
        loaded = load_model(
            *(config, checkpoint), device=device, cfg_options=cfg_options, tiny=tiny
        )
        path = None if checkpoint is None else os.fspath(checkpoint)
        return cls(loaded.cfg, loaded.processor, loaded.model, path)

    @classmethod
    def without_weights(cls, cfg: Config) -> _Source:
        """Return what prompts need, built without memory for a weight."""
        from mmvlm.config.meta_model import build_on_meta

        processor = VLMProcessor.from_config(
            cfg, build_on_meta(cfg.model.to_dict()).eval()
        )
        if processor is None:
            raise ValueError("the config names no tokenizer and chat_template.")
        return cls(cfg, processor)

    @functools.cached_property
    def system(self) -> str | None:
        """Shipped config whose published scores are those of the model."""
        return None if self.model is None else system_of(self.cfg)

    @property
    def dtype(self) -> torch.dtype | None:
        """Autocast of the config's tests."""
        return precision((self.cfg.get("test_cfg") or {}).get("dtype"))

    def facts(self) -> dict[str, Any]:
        """Return what answers depend on besides the benchmark."""
        if self.model is None:
            return {}
        facts = model_facts(self.cfg, self.model, self.processor)
        return facts | dict(autocast=str(self.dtype))


def write_run(
    out: Path, source: _Source, options: BenchmarkOptions, **facts: Any
) -> None:
    """Write ``run.json``: all that a reader of the results may want to know."""
    first = None if source.model is None else next(source.model.parameters())
    content = dict(
        command=sys.argv,
        checkpoint=source.checkpoint,
        **options.selection,
        data_root=options.data_root,
        rule=options.rule,
        device="none" if first is None else str(first.device),
        dtype=str(source.dtype or getattr(first, "dtype", None)),
        batch=vars(options.policy),
        **facts,
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        git=git_state(Path(mmvlm.__file__).parent),
        versions=versions(),
        config=source.cfg.pretty_text,
    )
    write_atomic(out / "run.json", json.dumps(content, indent=1, default=str) + "\n")


def check_data(
    config: str | os.PathLike | Config,
    benchmarks: str | Sequence[str],
    options: BenchmarkOptions | None = None,
    *,
    cfg_options: dict | None = None,
    tiny: bool = False,
) -> str:
    """Look at the files and prompts of benchmarks; no weight is read.

    Args:
        config (str | PathLike | Config): see :func:`run_benchmarks`, as all others.
        benchmarks (str | Sequence[str]): which ones.
        options (BenchmarkOptions | None): which questions.
        cfg_options (dict | None): as ``--cfg-options``.
        tiny (bool): the config's tiny twin.

    Returns:
        str: per benchmark the files' version, counts, and one prompt.

    Raises:
        FileNotFoundError: naming a file that is missing.
        ValueError: for what the run itself would refuse.
    """
    options = options or BenchmarkOptions()
    cfg = as_config(config, cfg_options, tiny)
    is_served = options.server is not None
    source = _Source(cfg) if is_served else _Source.without_weights(cfg)
    found = []
    for one in _chosen(benchmarks, options):
        questions = _questions(under_rule(one, options.rule), source, options)
        if is_served:
            check_server_does(questions)
        elif options.answers not in ANSWERS:
            _answers_of_file(options.answers, questions)
        found.append(_description(questions))
    return "\n\n".join(found)


def _description(questions: Questions) -> str:
    """Describe the questions of a benchmark in words."""
    benchmark, count = questions.benchmark, len(questions)
    published = benchmark.num_items
    compared = "" if published in (None, count) else f" (published: {published})"
    facts = data_facts(questions.dataset)
    first, item = questions[0].record, questions[0].item
    size = "" if questions.processor is None else _prompt_tokens(questions)
    if questions.processor is None and item is not None:
        first["prompt"] = shown_prompt(item)
    shown = first["prompt"] or first["meta"].get("error") or first["question"]
    return "\n".join(
        [
            f"{benchmark.name}: {benchmark.title}, {benchmark.split}",
            f"  data version {benchmark.data_version}, content "
            f"{' '.join(str(v) for k, v in facts.items() if k.endswith('content'))}",
            f"  {count} questions{compared}, {size}decoding {questions.gen}",
            *_judge_requests(questions, first),
            f"  prompt of {first['uid']}:",
            *(f"    | {line}" for line in str(shown).splitlines()),
        ]
    )


def _prompt_tokens(questions: Questions) -> str:
    return f"{int(questions.lengths.sum())} tokens of prompts, "


def _judge_requests(questions: Questions, record: dict[str, Any]) -> list[str]:
    """Say what judging will take, a token being about four letters."""
    scorer = SCORERS.build(dict(questions.benchmark.scorer))
    if not isinstance(scorer, JudgedScorer) or record["reference"] is None:
        return []
    first = judge_requests(scorer, [dict(record, finish="stop")])
    letters = sum(map(len, first.values()))
    count = len(questions)
    return [
        f"  up to {count} requests to a judge, about {count * letters // 4} tokens "
        "beside the answers"
    ]
