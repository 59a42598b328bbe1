"""What a benchmark is: data, wording, decoding and scoring, free of any model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .functional.submissions import WRITERS

#: Name of a benchmark: its folder and the start of its uids.
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
#: What belongs to the model and not to the data it is asked about.
_OF_THE_MODEL = ("pipeline", "views", "shuffle_images", "bad_samples", "indices")


@dataclass(frozen=True)
class Benchmark:
    """A set of questions, how they are asked and decoded, and how answers are scored.

    ``configs/_base_/benchmarks/<name>.py`` sets one as ``benchmark = dict(...)``. It
    names no view transform and no chat template: these are the model's. The doctor
    refuses other keys than those below.

    The reader's conversations end with the question, or with the right answer, which
    is left out of the prompt. Their ``meta`` is where evaluation finds what it needs:
    ``question_id`` as the file has it, ``reference`` as the scorer takes it (default:
    the answers, the letter of the right choice, or the text of the answer; None where
    the file hides it), and the value that ``cluster`` names; all else goes into
    ``meta`` of the answer record.

    Args:
        name (str): short name, that of the config file.
        title (str): as tables show it.
        split (str): part of the set: ``val``, ``test``, ``testdev_balanced``, ...
        source (str): paper or repository, and version.
        dataset (dict): reader, config in ``DATASETS``. A relative ``data_root`` begins
            with ``data/``, which ``--data-root`` stands in for.
        scorer (dict): config in ``SCORERS``.
        headline (str): key of the number to report among the scorer's metrics.
        generation (dict): decoding settings of the protocol.
        variant (str): what tells the prompt from others of the same set, for tables.
        num_items (int | None): questions of the published set.
        cluster (str): what items are drawn together in: ``image``, or a key of their
            ``meta``.
        ceiling (float): headline when every answer is the reference.
        chance (float | None): headline of guesses at the published set; None: not
            known. Scorers that find it by the answers put theirs into the row
            (:meth:`~mmvlm.evaluation.scorers.base.Scorer.chance`).
        submission (dict | None): files for a test server: ``type`` (a format of
            :mod:`mmvlm.evaluation.functional.submissions`) and its options. Files
            that it or the scorer names begin with ``data/``, as ``data_root`` does.
        data_version (str | None): release of the files.
    """

    name: str
    title: str
    split: str
    source: str
    dataset: dict
    scorer: dict
    headline: str
    generation: dict = field(default_factory=dict)
    variant: str = ""
    num_items: int | None = None
    cluster: str = "image"
    ceiling: float = 100.0
    chance: float | None = None
    submission: dict | None = None
    data_version: str | None = None

    def __post_init__(self) -> None:
        for key, message in faults(vars(self)):
            raise ValueError(f"benchmark.{key}={getattr(self, key)!r:.80}: {message}")


def faults(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield field and complaint for what the types of the fields do not tell.

    Args:
        values (dict): fields of a :class:`Benchmark`, some may be missing.
    """
    name, number = values.get("name", "a"), values.get("num_items")
    if isinstance(name, str) and not _NAME.fullmatch(name):
        yield "name", "expected lower-case letters, digits, '_', '-' and '.'."
    if isinstance(number, int) and number < 1:
        yield "num_items", "expected at least 1."
    submission = values.get("submission")
    if isinstance(submission, dict) and submission.get("type") not in WRITERS:
        yield "submission", f"'type' must be one of {sorted(WRITERS)}."
    dataset = values.get("dataset")
    for key in _OF_THE_MODEL if isinstance(dataset, dict) else ():
        if key in dataset:
            yield (
                "dataset",
                f"'{key}' is no matter of a benchmark's data; leave it out.",
            )
