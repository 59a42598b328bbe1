"""Replies piece by piece: generation in a thread, text out of a queue."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any
from weakref import WeakKeyDictionary

from mmvlm.text.replies import stop_strings

_GUARD = threading.Lock()
_LOCKS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def predict_alone(model: Any, *args: Any, **options: Any) -> list[Any]:
    """Return what ``model.predict`` gives, while no other thread asks the model.

    States, masks and forced tokens are caught by hooks on the model's modules: two
    replies at once would get each other's.
    """
    with _GUARD:
        lock = _LOCKS.setdefault(model, threading.Lock())
    with lock:
        return model.predict(*args, **options)


class TokenStreamer:
    """What transformers' ``generate`` puts its tokens into.

    Args:
        queue (Queue): receives each new id, and an exception or None at the end.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def put(self, value: Any) -> None:
        """Take new ids; the (empty) prompt comes first, as a (1, 0) tensor."""
        for token in value.flatten().tolist():
            self.queue.put(token)

    def end(self) -> None:
        """Do nothing: the thread says when it has ended."""


def stream_reply(
    model: Any, processor: Any, data: dict[str, Any], options: dict[str, Any]
) -> Iterator[str]:
    """Yield the reply to a batch of one prompt as it is generated.

    A text goes out when no further token can change it: whole characters only,
    nothing that may become a stop string, no space at either end.

    Args:
        model (VisionLanguageModel): bound to ``processor``.
        processor (VLMProcessor): decodes.
        data (dict): ``inputs`` (a batch of one prompt) and ``data_samples``.
        options (dict): generation arguments.

    Returns:
        VLMDataSample: of the whole reply; None where nobody listened to its end.

    Raises:
        Exception: whatever the generation raised.
    """
    stops = stop_strings(options)
    queue: Queue = Queue()
    stopped = threading.Event()
    outcome: dict[str, Any] = {}

    class Streamer(TokenStreamer):
        def put(self, value: Any) -> None:
            if stopped.is_set():
                raise _Stopped
            super().put(value)

    def work() -> None:
        try:
            (outcome["sample"],) = predict_alone(
                model, **data, streamer=Streamer(queue), **options
            )
        except _Stopped:
            pass
        except BaseException as error:
            outcome["error"] = error
        finally:
            queue.put(None)

    thread = threading.Thread(target=work, name="mmvlm-generate", daemon=True)
    thread.start()
    sent, ids = "", []
    try:
        while (token := queue.get()) is not None:
            ids.append(token)
            ready = processor.decode(ids, stops=stops, ended=False).text
            if len(ready) > len(sent) and ready.startswith(sent):
                yield ready[len(sent) :]
                sent = ready
    finally:
        # A consumer that stops listening ends the generation too.
        stopped.set()
        thread.join()
    if "error" in outcome:
        raise outcome["error"]
    final = outcome["sample"].pred_text
    if final.startswith(sent) and final[len(sent) :]:
        yield final[len(sent) :]
    return outcome["sample"]


class _Stopped(Exception):
    """Nobody listens to the stream any more."""
