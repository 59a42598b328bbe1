"""What a streamer sees of an encoder-decoder's reply."""

from __future__ import annotations

from typing import Any

import torch


class ReplyStreamer:
    """A streamer that is not shown the token that opens a decoder's reply.

    Args:
        streamer (transformers.generation.streamers.BaseStreamer): shown the rest.
    """

    def __init__(self, streamer: Any) -> None:
        self.streamer, self.begun = streamer, False

    def put(self, value: torch.Tensor) -> None:
        """Take new tokens: the first call brings what opens the reply."""
        self.streamer.put(value if self.begun else value[:, 1:])
        self.begun = True

    def end(self) -> None:
        """Take the end of the reply."""
        self.streamer.end()
