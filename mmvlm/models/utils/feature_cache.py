"""What encoders and connectors made of images, kept from one batch to the next."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from mmvlm.models.connectors.base import Connector, Filled
from mmvlm.models.utils.feed import Feed
from mmvlm.structures import VisionFeatures, VLMBatch

#: What is kept of a key: features of an image's views, or rows of its slots.
Entry = VisionFeatures | torch.Tensor


class FeatureCache:
    """Features and rows by image; the least recently used are dropped.

    An image is known by the pixels that the encoder reads, so that another view
    transform makes another image of it. Weights and dtype are taken to stay.

    Args:
        max_bytes (int): of all tensors that are kept.
    """

    def __init__(self, max_bytes: int = 2**30) -> None:
        self.max_bytes, self.num_bytes = max_bytes, 0
        #: Distinct images of batches that were found, and that had to be computed.
        self.hits, self.misses = 0, 0
        self._kept: OrderedDict[Hashable, Entry] = OrderedDict()

    def fetch(
        self, keys: Sequence[Hashable], make: Callable[[list[int]], Sequence[Entry]]
    ) -> list[Entry]:
        """Return the entries of keys.

        Args:
            keys (Sequence): some may be equal.
            make (Callable): places in ``keys`` to their entries; called at most once,
                for one place of every key that is not kept.
        """
        places = {key: place for place, key in enumerate(keys)}
        found = {key: self._kept.pop(key) for key in places if key in self._kept}
        missing = [place for key, place in places.items() if key not in found]
        self.hits, self.misses = self.hits + len(found), self.misses + len(missing)
        if missing:
            made = make(missing)
            for place, entry in zip(missing, made, strict=True):
                # A part of a batch's tensor would hold the whole of it.
                found[keys[place]] = _map(entry, torch.clone)
                self.num_bytes += _num_bytes(found[keys[place]])
        self._kept.update(found)
        while self.num_bytes > self.max_bytes:
            self.num_bytes -= _num_bytes(self._kept.popitem(last=False)[1])
        return [found[key] for key in keys]

    def clear(self) -> None:
        """Drop all that is kept."""
        self._kept.clear()
        self.num_bytes = 0

    def keeps_rows(self, part: Any) -> bool:
        """Whether a part makes rows of every image by itself, of its features alone."""
        return (
            isinstance(part, Connector)
            and type(part).fill is Connector.fill
            and part.memory_width is None
            and {source.partition(":")[0] for source in part.reads} == {part.source}
            and (len(part.fills) > 1 or part.fills == (part.source,))
        )

    def keeps_features(self, readers: Iterable[Any]) -> bool:
        """Whether features have a reader whose rows are not kept."""
        return not all(map(self.keeps_rows, readers))

    def encode(
        self,
        key: Hashable,
        values: torch.Tensor,
        together: int,
        run: Callable[[torch.Tensor], VisionFeatures],
    ) -> VisionFeatures:
        """Return the features of views.

        Args:
            key (Hashable): encoder, kind of input and layers.
            values (torch.Tensor): (V, 3, H, W), normalised.
            together (int): that many neighbours are encoded together.
            run (Callable): some of the views to their features.
        """
        pieces = values.split(together)

        def make(places: list[int]) -> list[VisionFeatures]:
            features = run(torch.cat([pieces[place] for place in places]))
            ends = [slice(n * together, (n + 1) * together) for n in range(len(places))]
            return [features.map(lambda one, own=own: one[own]) for own in ends]

        found = self.fetch([(key, _digest(one)) for one in pieces], make)
        states = zip(*(one.hidden_states for one in found), strict=True)
        return replace(
            found[0],
            hidden_states=tuple(map(torch.cat, states)),
            maps={
                name: torch.cat([one.maps[name] for one in found])
                for name in found[0].maps
            },
        )

    def fill(
        self,
        connector: Connector,
        kind: str,
        feed: Feed,
        make_feed: Callable[[VLMBatch], Feed],
    ) -> Filled:
        """Return what a connector makes of the inputs of a kind.

        Args:
            connector (Connector): its rows are kept where they can be.
            kind (str): one that it fills.
            feed (Feed): of the whole batch.
            make_feed (Callable): a batch with some of the inputs to its feed.
        """
        inputs = feed.inputs(kind)
        if inputs.shapes or not self.keeps_rows(connector):
            return connector.fill(kind, feed)

        def make(places: list[int]) -> Sequence[torch.Tensor]:
            some = inputs.select(places)
            others = {**feed.batch.inputs, kind: some}
            part = make_feed(replace(feed.batch, inputs=others))
            return connector.fill(kind, part).rows.split(list(some.slot_lens))

        keys = [
            (id(connector), kind, layout, _digest(inputs.of(number)))
            for number, layout in enumerate(map(repr, inputs.layouts))
        ]
        return Filled(torch.cat(self.fetch(keys, make)))


def _digest(values: torch.Tensor) -> tuple:
    raw = values.detach().cpu().contiguous().view(torch.uint8).numpy()
    return tuple(values.shape), hashlib.blake2b(raw, digest_size=16).digest()


def _map(entry: Entry, function: Callable[[torch.Tensor], torch.Tensor]) -> Entry:
    return entry.map(function) if isinstance(entry, VisionFeatures) else function(entry)


def _num_bytes(entry: Entry) -> int:
    sizes: list[int] = []

    def note(one: torch.Tensor) -> torch.Tensor:
        sizes.append(one.nbytes)
        return one

    _map(entry, note)
    return sum(sizes)
