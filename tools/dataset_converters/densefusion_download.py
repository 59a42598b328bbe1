"""Fetch DenseFusion's images: in parallel, checked, and resumable at any moment."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Generator
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from contextlib import closing
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import PIL.Image
from fetch import Fetcher, Refused, Unreachable

from mmvlm.datasets.io.jsonl import JSONLine, JSONLines
from mmvlm.datasets.readers.densefusion import row_of
from mmvlm.datasets.transforms.loading import LoadImages
from mmvlm.utils.files import write_atomic

OK, REFUSED, FAILED = "ok", "refused", "failed"


@dataclass(frozen=True)
class Result:
    """What became of one row.

    Args:
        row (int): position in the file, from 0.
        status (str): ``ok``; ``refused``: no further try can help (404, no
            image, damaged row); ``failed``: the next run tries again.
        image_id (str): of the row.
        url (str): of the row.
        size (int): bytes of the file.
        tries (int): requests; 0 for a file that was there.
        reason (str): why it is not ``ok``.
    """

    row: int
    status: str
    image_id: str = ""
    url: str = ""
    size: int = 0
    tries: int = 0
    reason: str = ""


@dataclass
class Summary:
    """Counts of a download.

    Args:
        total (int): rows.
        ok (int): rows with a good file.
        refused (int): rows without hope.
        failed (int): rows that another run may get.
        fetched (int): of ``ok``, files that this run fetched.
    """

    total: int
    ok: int = 0
    refused: int = 0
    failed: int = 0
    fetched: int = 0

    def add(self, result: Result, is_new: bool) -> None:
        """Count a result of this run or, not ``is_new``, of an earlier one."""
        setattr(self, result.status, getattr(self, result.status) + 1)
        self.fetched += is_new and result.status == OK and result.tries > 0

    def __str__(self) -> str:
        done = self.ok + self.refused + self.failed
        return (
            f"{done} of {self.total} rows: {self.ok} ok ({self.fetched} fetched now), "
            f"{self.refused} refused, {self.failed} failed"
        )


class Journal:
    """Results of rows, a line each, in the order in which they came.

    A line that a killed run left unfinished is passed over.

    Args:
        path (str): is made with the first result.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.results: dict[int, Result] = {}
        torn = False
        if os.path.exists(path):
            with open(path, "rb") as file:
                for line in file:
                    torn = not line.endswith(b"\n")
                    try:
                        result = Result(**json.loads(line))
                    except (ValueError, TypeError):  # cut: the row is done again
                        continue
                    self.results[result.row] = result
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        self._file = open(path, "ab", buffering=0)
        if torn:
            self._file.write(b"\n")

    def add(self, result: Result) -> None:
        """Write a result in one piece."""
        self._file.write((json.dumps(vars(result)) + "\n").encode())
        self.results[result.row] = result

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def check_image(data: bytes) -> None:
    """Decode an image as the readers do.

    Raises:
        Refused: when the bytes are no image, or one that is too large.
        Unreachable: when an image begins and cannot be decoded to its end.
    """
    try:
        PIL.Image.open(io.BytesIO(data)).close()
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as e:
        raise Refused(f"no image: it starts with {data[:16]!r}") from e
    try:
        LoadImages()(dict(conversation=SimpleNamespace(images=[data])))
    except ValueError as error:
        raise Unreachable(str(error)) from error


def download(
    json_file: str,
    output_path: str,
    json_out_file: str,
    *,
    num_workers: int = 2,
    fetcher: Fetcher | None = None,
    image_prefix: str = "",
    retry_refused: bool = False,
    progress: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Fetch the image of every row and write the rows that have one.

    A row's file is ``{output_path}/{image_id}.png`` as in the official tool, whatever
    its bytes are. It appears under its name only when it is whole and decodes. Three
    files are written:

    - ``json_out_file``: the rows with a good image, in order, with the field
      ``image`` (``image_prefix`` and the file's name), at the end;
    - ``json_out_file + ".quarantine.jsonl"``: the other rows with reasons, at the end;
    - ``json_out_file + ".results.jsonl"``: the result of every row as it comes, from
      which an interrupted run goes on.

    A good file that is there already is kept and not fetched.

    Args:
        json_file (str): DenseFusion's JSON lines.
        output_path (str): folder of the images.
        json_out_file (str): rows with images.
        num_workers (int): images at a time; threads, for they wait.
        fetcher (Fetcher | None): how URLs are fetched.
        image_prefix (str): in front of ``image``; the official tool's value is
            ``output_path`` itself.
        retry_refused (bool): try rows that an earlier run refused.
        progress (Callable): takes the counts, about twice a second.

    Raises:
        ValueError: for a damaged ``json_file``.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers={num_workers}: expected at least 1.")
    lines = JSONLines(json_file)
    os.makedirs(output_path, exist_ok=True)
    journal = Journal(f"{json_out_file}.results.jsonl")
    summary = Summary(len(lines))
    work = _Work(json_file, output_path, fetcher or Fetcher(), retry_refused)
    reported_at = time.monotonic()
    outcomes = _run(work, lines, journal.results, num_workers)
    with closing(journal), closing(outcomes):
        for result, is_new in outcomes:
            if is_new:
                journal.add(result)
            summary.add(result, is_new)
            if time.monotonic() - reported_at > 0.5:
                progress(summary)
                reported_at = time.monotonic()
    progress(summary)
    _write_rows(lines, journal.results, json_out_file, image_prefix)
    return summary


def _run(
    work: _Work, lines: JSONLines, known: dict[int, Result], num_workers: int
) -> Generator[tuple[Result, bool], None, None]:
    """Yield every row's result, and whether it is new, as they come."""
    pool = ThreadPoolExecutor(num_workers)
    running: set[Future] = set()
    try:
        for row in range(len(lines)):
            line = lines[row]
            result = work.settled(row, line, known.get(row))
            if result is not None:
                yield result, result != known.get(row)
                continue
            if len(running) >= 4 * num_workers:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from ((future.result(), True) for future in done)
            running.add(pool.submit(work.get, row, line.value))
        yield from ((future.result(), True) for future in as_completed(running))
    except BaseException:  # an interrupt closes this generator: do not wait long
        work.fetcher.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _Work:
    """What is done for one row."""

    def __init__(
        self, json_file: str, output_path: str, fetcher: Fetcher, retry_refused: bool
    ) -> None:
        self.json_file, self.output_path = json_file, output_path
        self.fetcher, self.retry_refused = fetcher, retry_refused
        self._first: dict[str, int] = {}

    def settled(self, row: int, line: JSONLine, known: Result | None) -> Result | None:
        """Return the result of a row that needs no request, else None."""
        try:
            name, url = self._name_and_url(line)
        except ValueError as error:
            return Result(row, REFUSED, reason=str(error))
        first = self._first.setdefault(name, line.number)
        if first != line.number:
            reason = f"image_id of line {first} again; one file cannot be both"
            return Result(row, REFUSED, name, url, reason=reason)
        if known is None or (known.image_id, known.url) != (name, url):
            return None
        if known.status == REFUSED and not self.retry_refused:
            return known
        path = self._path(name)
        same = os.path.isfile(path) and os.path.getsize(path) == known.size
        return known if known.status == OK and same else None

    def get(self, row: int, fields: dict) -> Result:
        """Keep the file of a row, or fetch it."""
        name, url = str(fields["image_id"]), fields["url"]
        path = self._path(name)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                data = file.read()
            try:
                check_image(data)
                return Result(row, OK, name, url, len(data))
            except (Refused, Unreachable):
                pass  # what an other tool left half is fetched again
        try:
            data, tries = self.fetcher.fetch(url, check_image)
        except Refused as error:
            return Result(row, REFUSED, name, url, tries=1, reason=str(error))
        except Unreachable as error:
            tries = self.fetcher.tries
            return Result(row, FAILED, name, url, tries=tries, reason=str(error))
        write_atomic(path, data)
        return Result(row, OK, name, url, len(data), tries)

    def _path(self, name: str) -> str:
        return os.path.join(self.output_path, file_name(name))

    def _name_and_url(self, line: JSONLine) -> tuple[str, str]:
        fields = row_of(line, self.json_file)
        where = f"line {line.number} of '{self.json_file}'"
        name, url = fields.get("image_id"), fields.get("url")
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        if (
            not isinstance(name, str)
            or not 0 < len(name) <= 200
            or name.startswith(".")
            or any(c in "/\\\0" for c in name)
        ):
            raise ValueError(f"{where}: image_id={name!r:.80} is no name of a file.")
        if not isinstance(url, str):
            raise ValueError(f"{where}: url={url!r:.80} is no address.")
        return name, url


def file_name(image_id: str) -> str:
    """Return the official name of an image's file; it tells nothing of its bytes."""
    return f"{image_id}.png"


def _write_rows(
    lines: JSONLines, results: dict[int, Result], json_out_file: str, prefix: str
) -> None:
    """Write the rows with an image, and those without, each file at once."""

    def good(file: Any) -> None:
        for row in range(len(lines)):
            result = results[row]
            if result.status == OK:
                image = os.path.join(prefix, file_name(result.image_id))
                text = json.dumps({**lines[row].value, "image": image})
                file.write(f"{text}\n".encode())

    def bad(file: Any) -> None:
        for row in range(len(lines)):
            result = results[row]
            if result.status != OK:
                new = dict(line=lines[row].number, image_id=result.image_id)
                new |= dict(url=result.url, status=result.status, reason=result.reason)
                file.write(f"{json.dumps(new)}\n".encode())

    write_atomic(json_out_file, good)
    write_atomic(f"{json_out_file}.quarantine.jsonl", bad)
