"""Have answers rated by a judge, and keep what it said beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmvlm.utils.files import write_atomic

from .chat_client import ChatClient
from .scorers.judged import JudgedScorer
from .store import lines

Record = dict[str, Any]
Replies = dict[str, list[str | None]]

#: What a judge is to be asked, in OpenAI's batch format; what it said, by uid.
REQUESTS, REPLIES = "judge_requests.jsonl", "judge_replies.jsonl"
#: Replies of judges to requests, for all benchmarks of a run.
CACHE = "judge_cache.jsonl"
#: Share of requests without a reply beyond which there is no score.
_MOST_FAILED = 0.2


class JudgeFailed(RuntimeError):
    """A judge left too much unsaid for a score."""


class Judge:
    """Ask a judge about answers.

    A reply that holds no rating is paid for and kept, and the judge is asked again.

    Args:
        client (ChatClient): asks the judge.
        runs (int): replies per answer.
        attempts (int): requests per run until a reply can be read.
    """

    def __init__(self, client: ChatClient, runs: int = 1, attempts: int = 3) -> None:
        if runs < 1 or attempts < 1:
            raise ValueError(f"a judge needs runs and attempts, not {runs}, {attempts}")
        self.client, self.runs, self.attempts = client, runs, attempts

    @property
    def name(self) -> str:
        """Name of the model that judges."""
        return self.client.endpoint.model

    def facts(self) -> dict[str, Any]:
        """Return requests, tokens and cost so far, for a row of results."""
        return {"judge_usage": asdict(self.client.usage)}

    def replies(self, scorer: JudgedScorer, records: Sequence[Record]) -> Replies:
        """Return what the judge says of the answers that need one, by uid.

        A failure is None.

        Raises:
            JudgeFailed: for more than a fifth of failures, or any where nobody is
                asked. Replies that came are kept.
        """
        needing = [one for one in records if scorer.needs_judge(one)]
        found: Replies = {one["uid"]: [] for one in needing}
        errors: dict[str, str] = {}
        for run in range(self.runs):
            for uid, text in self._run(scorer, needing, run, errors).items():
                found[uid].append(text)
        self._check(errors, len(needing))
        return found

    def _run(
        self,
        scorer: JudgedScorer,
        records: Sequence[Record],
        run: int,
        errors: dict[str, str],
    ) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        left = records
        for attempt in range(self.attempts):
            bodies = [
                self.client.endpoint.body(
                    scorer.messages(one, attempt), **scorer.judge_settings(attempt)
                )
                for one in left
            ]
            replies = self.client.ask(bodies, run=run, attempt=attempt)
            again = []
            for record, reply in zip(left, replies, strict=True):
                if reply.text is None:
                    errors[record["uid"]] = reply.error
                elif not scorer.is_readable(reply.text):
                    again.append(record)
                # What an earlier attempt said stays where this one failed.
                found[record["uid"]] = reply.text or found.get(record["uid"])
            left = again
        return found

    def _check(self, errors: dict[str, str], count: int) -> None:
        is_offline = self.client.endpoint.url is None
        if len(errors) <= (0 if is_offline else _MOST_FAILED * count):
            return
        shown = ", ".join(repr(uid) for uid in list(errors)[:3])
        cure = "Name a judge with --judge URL" if is_offline else "Run it again"
        raise JudgeFailed(
            f"the judge '{self.name}' gave no reply about {len(errors)} of {count} "
            f"answers ({shown}{', ...' if len(errors) > 3 else ''}): "
            f"{next(iter(errors.values()))}. {cure}; what it said is kept in "
            f"'{self.client.cache.path}'."
        )


def judge_requests(scorer: JudgedScorer, records: Sequence[Record]) -> dict[str, str]:
    """Return the file of what a judge is to be asked, one request per line.

    The judge's name is left to whoever sends them.
    """
    rows = [
        dict(
            custom_id=one["uid"],
            method="POST",
            url="/v1/chat/completions",
            body=dict(messages=scorer.messages(one), **scorer.judge_settings()),
        )
        for one in records
        if scorer.needs_judge(one)
    ]
    return {REQUESTS: lines(rows)}


def judge_replies(path: str | os.PathLike) -> Replies:
    """Return the replies of judges by uid, None where one failed.

    Args:
        path (str | PathLike): JSON lines, ``{"uid", "reply"}`` or what OpenAI's batch
            service gives back; several of one uid are several runs.

    Raises:
        ValueError: naming the line, for one that is neither.
    """
    found: Replies = {}
    with open(path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            row = json.loads(line)
            uid = row.get("custom_id", row.get("uid"))
            if uid is None:
                raise ValueError(f"'{path}', line {number}: no 'uid' or 'custom_id'.")
            found.setdefault(uid, []).append(_reply(row))
    return found


def _reply(row: dict[str, Any]) -> str | None:
    if "reply" in row:
        return row["reply"]
    try:
        return row["response"]["body"]["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None


def write_replies(folder: str | os.PathLike, judge: str, replies: Replies) -> None:
    """Write down what a judge said of the answers in a folder."""
    rows = [
        dict(uid=uid, judge=judge, reply=text)
        for uid, texts in replies.items()
        for text in texts
    ]
    write_atomic(Path(folder, REPLIES), lines(rows))


def own_replies(folder: str | os.PathLike) -> tuple[Replies | None, str | None]:
    """Return what a judge said of the answers in a folder, and which judge; or None."""
    path = Path(folder, REPLIES)
    if not path.is_file():
        return None, None
    with open(path, encoding="utf-8", newline="\n") as file:
        names = {json.loads(line)["judge"] for line in file}
    return judge_replies(path), ", ".join(sorted(names)) or None


def add_replies(records: Sequence[Record], replies: Replies) -> None:
    """Put replies into the records that they are about; others stay without."""
    for record in records:
        if record["uid"] in replies:
            record["judge_replies"] = replies[record["uid"]]
