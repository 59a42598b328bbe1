"""Fetch one file over HTTP: retries with growing pauses, size limit, whole bodies."""

from __future__ import annotations

import http.client
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from urllib.parse import urlsplit

#: Answers of 4xx that may be other ones a moment later.
_TRY_AGAIN = (408, 425, 429)


class Refused(ValueError):
    """What no further try can change."""


class Unreachable(OSError):
    """What another try may change."""


class Fetcher:
    """Fetch URLs; safe to use from many threads.

    Args:
        tries (int): requests for one URL, at least 1.
        timeout (float): seconds that a server may be silent.
        backoff (float): seconds before the second try; doubled before every further
            one, with up to half of it added by chance. A server's ``Retry-After`` is
            obeyed up to ``max_pause``.
        max_pause (float): longest pause in seconds.
        max_bytes (int): larger bodies are refused.

    """

    def __init__(
        self,
        tries: int = 4,
        *,
        timeout: float = 60.0,
        backoff: float = 1.0,
        max_pause: float = 60.0,
        max_bytes: int = 1 << 26,
    ) -> None:
        if tries < 1:
            raise ValueError(f"tries={tries}: expected at least 1.")
        self.tries, self.timeout, self.backoff = tries, timeout, backoff
        self.max_pause, self.max_bytes = max_pause, max_bytes
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let every thread leave its pauses and try no more."""
        self._stopped.set()

    def pause(self, seconds: float) -> None:
        """Wait between two tries."""
        self._stopped.wait(seconds)

    def fetch(self, url: str, check: Callable[[bytes], None]) -> tuple[bytes, int]:
        """Return the body of a URL and the number of requests that it took.

        Args:
            url (str): ``http`` or ``https``.
            check (Callable): takes the body; raises :class:`Refused` where another
                try is useless and :class:`Unreachable` where it is not.

        Raises:
            Refused: at once, for another scheme, an answer such as 404, a body that
                is too large, or what ``check`` refuses.
            Unreachable: with the last reason, when all tries failed.

        """
        if urlsplit(url).scheme not in ("http", "https"):
            raise Refused(f"'{url:.100}' is no http or https address")
        for number in range(1, self.tries + 1):
            wanted_pause = 0.0
            try:
                body = self._body(url)
                check(body)
                return body, number
            except urllib.error.HTTPError as error:
                with error:
                    wanted_pause = _seconds(error.headers.get("Retry-After"))
                reason = f"answer {error.code} {error.reason}"
                if 400 <= error.code < 500 and error.code not in _TRY_AGAIN:
                    raise Refused(reason) from error
            except Unreachable as error:
                reason = str(error)
            except (OSError, http.client.HTTPException) as error:
                reason = f"{type(error).__name__}: {error}".rstrip(": ")
            if number < self.tries and not self._stopped.is_set():
                own = self.backoff * 2 ** (number - 1) * random.uniform(1, 1.5)
                self.pause(min(max(own, wanted_pause), self.max_pause))
            if self._stopped.is_set():
                break
        raise Unreachable(f"{reason} ({self.tries} tries)")

    def _body(self, url: str) -> bytes:
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "mmvlm"})
        except ValueError as error:
            raise Refused(f"'{url:.100}': {error}") from error
        with urllib.request.urlopen(request, timeout=self.timeout) as response:
            body = response.read(self.max_bytes + 1)
            length = response.headers.get("Content-Length", "")
        if len(body) > self.max_bytes:
            raise Refused(f"more than {self.max_bytes} bytes")
        if length.isdigit() and int(length) != len(body):
            raise Unreachable(f"cut: {len(body)} of {length} bytes")
        return body


def _seconds(value: str | None) -> float:
    """Read a ``Retry-After`` header; 0 for none and for dates."""
    return float(value) if value is not None and value.isdigit() else 0.0
