"""Ask models behind OpenAI-compatible endpoints; what was paid for is kept."""

from __future__ import annotations

import email.utils
import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mmvlm.utils.files import writing

Body = dict[str, Any]

#: Seconds of the longest pause that a client chooses, and that a server may ask for.
_LONGEST_PAUSE, _LONGEST_RETRY_AFTER = 60.0, 900.0
#: What a wrong key, model or address is answered with: no request would succeed.
_HOPELESS = (401, 403, 404)


class EndpointError(RuntimeError):
    """An endpoint that answers no request at all."""


class _Failure(Exception):
    """One request without a reply."""

    def __init__(
        self, message: str, *, again: bool, after: float | None = None
    ) -> None:
        super().__init__(message)
        self.again, self.after = again, after


@dataclass(frozen=True)
class Endpoint:
    """Where a model is asked, and how.

    Args:
        url (str | None): base URL, such as ``http://localhost:8000/v1``; None: nobody
            is asked, all replies must be known.
        model (str | None): as the server names it. None, where nobody is asked: the
            only one whose replies are known.
        key_env (str): environment variable that holds the key; servers of one's own
            need none.
        options (Mapping): further fields of requests; they win over those of the
            caller, and None drops one.
        concurrency (int): requests that are under way at once.
        timeout (float): seconds until a silent server is given up.
        retries (int): times that a request is sent again.
        pause (float): seconds before the first of these; doubles each time.
        price (tuple[float, float] | None): of a million tokens read and written.
    """

    url: str | None = None
    model: str | None = None
    key_env: str = "OPENAI_API_KEY"
    options: Mapping[str, Any] = field(default_factory=dict)
    concurrency: int = 8
    timeout: float = 300.0
    retries: int = 6
    pause: float = 1.0
    price: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError(
                f"endpoint {self.url!r}: expected a URL such as "
                "http://localhost:8000/v1."
            )
        if self.url is not None and self.model is None:
            raise ValueError(
                f"endpoint {self.url!r}: name the model that is asked "
                "(--judge-model, or --model of a server)."
            )
        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0:
            raise ValueError(
                "an endpoint needs concurrency >= 1, retries >= 0 and timeout > 0."
            )

    def body(self, messages: Sequence[dict], **settings: Any) -> Body:
        """Return the body of a request.

        Args:
            messages (Sequence[dict]): of the chat.
            **settings: further fields, before ``options``.
        """
        fields = {**settings, **self.options}
        fields = {key: value for key, value in fields.items() if value is not None}
        return dict(model=self.model, messages=list(messages), **fields)


@dataclass(frozen=True)
class Reply:
    """What came of a request.

    Args:
        text (str | None): None where none came.
        finish (str | None): why it ended: ``stop``, ``length``, ...
        model (str | None): as the server names itself.
        prompt_tokens (int): read, as the server counts.
        completion_tokens (int): written.
        error (str | None): why there is no text.
        refused (bool): the server will never answer this request.
    """

    text: str | None = None
    finish: str | None = None
    model: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None
    refused: bool = False


@dataclass
class Usage:
    """What requests came to; ``cached`` ones were paid for before.

    Args:
        requests (int): all of them.
        cached (int): of these, known before.
        failed (int): of these, without a reply.
        prompt_tokens (int): read, for cached ones too.
        completion_tokens (int): written, likewise.
        cost (float | None): of these tokens; None without a price.
    """

    requests: int = 0
    cached: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None


class ReplyCache:
    """Replies by hash of their requests, one JSON line each.

    A line is appended and flushed as the reply comes. An unfinished line, left by a
    process that was killed, is passed over.

    Args:
        path (str | PathLike): the file; its folder is created.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._is_torn = False
        #: Models whose replies are known, as requests named them.
        self.models: set[str] = set()

    @cached_property
    def _known(self) -> dict[str, Reply]:
        known: dict[str, Reply] = {}
        content = self.path.read_bytes() if self.path.is_file() else b""
        self._is_torn = bool(content) and not content.endswith(b"\n")
        for line in content.split(b"\n"):
            try:
                row = json.loads(line)
                key, model, reply = row["key"], row["asked"], Reply(**row["reply"])
            except (ValueError, KeyError, TypeError):
                continue
            known[key] = reply
            self.models.add(model)
        return known

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Reply | None:
        """Return the reply to a request, None for an unknown one."""
        return self._known.get(key)

    def add(self, key: str, model: str, reply: Reply) -> None:
        """Keep a reply; it outlives this process once this returns.

        Raises:
            OSError: naming the file, for a full disk.
        """
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        row = dict(key=key, asked=model, time=stamp, reply=asdict(reply))
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        known = self._known  # read before the file grows
        with self._lock, writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab", buffering=0) as file:
                left = memoryview(b"\n" + line if self._is_torn else line)
                self._is_torn = True
                while left:
                    left = left[file.write(left) :]
            self._is_torn = False
            known[key] = reply


def request_key(body: Body, run: int = 0, attempt: int = 0) -> str:
    """Return the hash that a request's reply is kept under.

    Args:
        body (dict): of the request, the model's name included.
        run (int): tells equal requests of several runs apart.
        attempt (int): tells those after an unreadable reply apart.
    """
    content = json.dumps([body, run, attempt], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


class ChatClient:
    """Ask one model, many requests at a time, each only once.

    Busy, broken and silent servers are asked again after a pause that doubles, or that
    the server names (``Retry-After``). What still has no reply is a failure: it is
    counted, not kept, and asked again by the next process.

    Args:
        endpoint (Endpoint): where and how.
        cache (str | PathLike): file of replies, see :class:`ReplyCache`.

    Raises:
        ImportError: saying what to install, when the package openai is missing.
        ValueError: when nobody is asked and the replies of several models, or of
            none, are known.
    """

    def __init__(self, endpoint: Endpoint, cache: str | os.PathLike) -> None:
        self.cache, self.usage = ReplyCache(cache), Usage()
        if endpoint.model is None:
            if not len(self.cache) or len(self.cache.models) != 1:
                raise ValueError(
                    f"'{cache}' holds replies of {len(self.cache.models)} models "
                    f"({', '.join(sorted(self.cache.models)) or 'none'}): name one."
                )
            endpoint = replace(endpoint, model=min(self.cache.models))
        self.endpoint = endpoint
        self._send = None if endpoint.url is None else _sender(endpoint)
        self._stopped = threading.Event()

    def ask(
        self, bodies: Sequence[Body], *, run: int = 0, attempt: int = 0
    ) -> list[Reply]:
        """Return the replies to requests, in their order.

        Args:
            bodies (Sequence[dict]): see :meth:`Endpoint.body`.
            run (int): see :func:`request_key`.
            attempt (int): likewise.

        Raises:
            EndpointError: when the server knows neither us nor the model.
        """
        keys = [request_key(body, run, attempt) for body in bodies]
        unknown = dict(zip(keys, bodies, strict=True))
        found = {key: self.cache.get(key) for key in unknown}
        unknown = {key: body for key, body in unknown.items() if found[key] is None}
        if self._send is None:
            nobody = Reply(error="nobody is asked, and the reply is not known")
            found.update(dict.fromkeys(unknown, nobody))
        else:
            found.update(self._ask_all(unknown))
        replies = [found[key] for key in keys]
        self._count(replies, len(keys) - len(unknown))
        return replies

    def _ask_all(self, bodies: Mapping[str, Body]) -> dict[str, Reply]:
        with ThreadPoolExecutor(self.endpoint.concurrency) as pool:
            futures = {
                pool.submit(self._ask, key, body): key for key, body in bodies.items()
            }
            try:
                return {futures[one]: one.result() for one in as_completed(futures)}
            except BaseException:
                self._stopped.set()  # replies under way are still kept
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ask(self, key: str, body: Body) -> Reply:
        for number in range(self.endpoint.retries + 1):
            try:
                reply = _parsed(self._send(body))
            except _Failure as failure:
                last = failure
            else:
                self.cache.add(key, body["model"], reply)
                return reply
            is_over = not last.again or number == self.endpoint.retries
            if is_over or self._stopped.wait(self._pause(number, last)):
                break
        return Reply(error=str(last), refused=not last.again)

    def _pause(self, number: int, failure: _Failure) -> float:
        if failure.after is not None:
            return min(failure.after, _LONGEST_RETRY_AFTER)
        seconds = min(self.endpoint.pause * 2**number, _LONGEST_PAUSE)
        return seconds * random.SystemRandom().uniform(0.75, 1.25)

    def _count(self, replies: Sequence[Reply], cached: int) -> None:
        usage, price = self.usage, self.endpoint.price
        usage.requests += len(replies)
        usage.cached += cached
        for reply in replies:
            usage.failed += reply.text is None
            usage.prompt_tokens += reply.prompt_tokens
            usage.completion_tokens += reply.completion_tokens
        if price is not None:
            tokens = usage.prompt_tokens, usage.completion_tokens
            usage.cost = sum(n * p for n, p in zip(tokens, price, strict=True)) / 1e6


def _parsed(content: str) -> Reply:
    """Read the body of a server's answer."""
    try:
        row = json.loads(content)
        choice, usage = row["choices"][0], row.get("usage") or {}
        return Reply(
            text=str(choice["message"]["content"] or ""),
            finish=choice.get("finish_reason"),
            model=row.get("model"),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _Failure(
            f"the server's answer is no chat completion: {content[:80]!r}", again=True
        ) from error


def _sender(endpoint: Endpoint) -> Callable[[Body], str]:
    """Return what sends a body and gives the text that the server answers with."""
    try:
        import openai
    except ImportError as error:
        raise ImportError(
            f"asking {endpoint.url} needs the package openai: pip install "
            "-r requirements/judge.txt"
        ) from error
    client = openai.OpenAI(
        base_url=endpoint.url,
        api_key=os.environ.get(endpoint.key_env) or "none",
        timeout=endpoint.timeout,
        max_retries=0,  # pauses and counts are ours
    )

    def send(body: Body) -> str:
        named = {key: body[key] for key in ("model", "messages")}
        rest = {key: value for key, value in body.items() if key not in named}
        create = client.chat.completions.with_raw_response.create
        try:
            return create(**named, extra_body=rest).text
        except openai.APIStatusError as error:
            code = error.status_code
            if code in _HOPELESS:
                raise EndpointError(
                    f"{endpoint.url} answers {code} for model '{endpoint.model}': "
                    f"{error}. Check the address, the model's name, and the key in "
                    f"the environment variable {endpoint.key_env}."
                ) from error
            again = code in (408, 409, 425, 429) or code >= 500
            after = _seconds(error.response.headers.get("retry-after"))
            message = f"the server answers {code}: {error}"
            raise _Failure(message, again=again, after=after) from error
        except (openai.OpenAIError, ValueError) as error:
            raise _Failure(f"{type(error).__name__}: {error}", again=True) from error

    return send


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds that a header asks to wait: a number, or a date."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        then = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, then.timestamp() - time.time())
