"""Replies piece by piece: generation in a thread, text out of a queue."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any

from mmvlm.structures import VLMBatch
from mmvlm.text.replies import reply_text, stop_strings


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
    model: Any, context: Any, batch: VLMBatch, options: dict[str, Any]
) -> Iterator[str]:
    """Yield the reply to a batch of one prompt as it is generated.

    A text goes out when no further token can change it: whole characters only,
    nothing that may become a stop string, no space at either end.

    Args:
        model (VisionLanguageModel): bound to ``context``.
        context (VLMContext): tokenizer and template.
        batch (VLMBatch): one sample.
        options (dict): generation arguments.

    Raises:
        Exception: whatever the generation raised.

    """
    stops = [*context.template.stop_strings, *stop_strings(options)]
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
            (sample,) = model.predict(batch, None, streamer=Streamer(queue), **options)
            outcome["text"] = sample.pred_text
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
            ready = reply_text(context.tokenizer, ids, stops, ended=False)
            if len(ready) > len(sent) and ready.startswith(sent):
                yield ready[len(sent) :]
                sent = ready
    finally:
        # A consumer that stops listening ends the generation too.
        stopped.set()
        thread.join()
    if "error" in outcome:
        raise outcome["error"]
    final = outcome["text"]
    if final.startswith(sent):
        if final[len(sent) :]:
            yield final[len(sent) :]


class _Stopped(Exception):
    """Nobody listens to the stream any more."""
