"""How a model's parts are wired: who reads what, and who fills which slots."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from mmvlm.models.connectors.base import Connector, Filled
from mmvlm.models.heads.base import Head
from mmvlm.models.vision_encoders.base import VisionEncoder
from mmvlm.structures import Inputs, ViewLayout, VisionEncoderSpec, VLMBatch
from mmvlm.structures.vision import count_of_kind

from .assembly import encoder_of, untouched
from .feed import Feed, parse_source
from .freezing import is_frozen
from .media import flat_tokens
from .merge import check_inputs, merge_embeddings, unique_views
from .own_grids import grid_options
from .token_context import FlatTokens


class PartRouting:
    """Base of models of named parts: inputs to features to rows of the text.

    Subclasses have ``encoders``, ``connectors`` and ``heads`` (name to module), a
    ``language_model``, ``token_count``, ``requested_views`` and ``modalities``.
    """

    #: Whether every rank must run every part in every step; set by the engine.
    touch_all_parts = False
    #: Whether weights are gathered when a part runs; set by the engine.
    is_sharded = False
    #: Whether equal images of a batch are encoded once: True in inference, ``always``
    #: also in training, by encoders that are frozen.
    share_equal_views: bool | str = True
    #: Keeps what was made of images from one batch of inference to the next.
    feature_cache: Any = None

    def _find(self, source: str) -> tuple[str, str, VisionEncoderSpec]:
        """Return the encoder of a source, the kind of its inputs, and its spec."""
        name = encoder_of(self.encoders, source)
        encoder = self.encoders[name]
        kind = source if source in encoder.reads else encoder.reads[0]
        return name, kind, encoder.spec

    def _readers(self, name: str, kind: str) -> dict[Any, list]:
        """Return who reads an encoder's features of a kind, and which layers."""
        found: dict[Any, list] = {}
        # Where ranks gather weights, runs for all kinds must be as deep.
        kinds = self.encoders[name].reads if self.is_sharded else (kind,)
        keys = [(name, one) for one in kinds]
        for part in (*self.connectors.values(), *self.heads.values()):
            for source, layer in map(parse_source, part.reads):
                if layer is not None and self._find(source)[:2] in keys:
                    found.setdefault(part, []).append(layer)
        return found

    def _encode(self, batch: VLMBatch, name: str, kind: str, *, graph: bool) -> list:
        """Run an encoder once for all its readers; see :class:`Feed`."""
        encoder, wanted = self.encoders[name], self._readers(name, kind)
        layers = list(wanted.values())
        if len(wanted) > 1:
            index = encoder.spec.layer_index
            known = {index(one) for own in layers for one in own if one != "*"}
            layers = [sorted(known)]
        chosen = [layer for own in layers for layer in own if layer != "*"] or [-1]
        connectors = [part for part in wanted if isinstance(part, Connector)]
        inputs = batch.inputs[kind]
        if self.is_sharded and inputs.shapes:
            # Each size is a run of its own, and ranks that gather weights must all
            # make as many.
            sizes = len(set(inputs.shapes))
            raise ValueError(
                f"samples {list(batch.sample_ids)}: '{kind}' of {sizes} sizes in one "
                "batch; where weights are sharded (FSDP, ZeRO-3) all must have one "
                "size. Give the view transform a fixed size, or train under DDP."
            )
        cache = self.feature_cache
        cache = cache if cache and cache.keeps_features(wanted) else None
        run = partial(self._run_encoder, encoder, kind, graph=graph, cache=cache)
        return [
            (numbers, run(one, chosen, connectors))
            for numbers, one in inputs.same_shapes()
        ]

    def _run_encoder(
        self,
        encoder: VisionEncoder,
        kind: str,
        inputs: Inputs,
        layers: Sequence[int],
        readers: Sequence[Connector],
        *,
        graph: bool,
        cache: Any = None,
    ) -> Any:
        """Encode inputs of one shape; frozen encoders run without graph."""
        other = (kind,) if len(encoder.reads) > 1 and kind != "image" else ()
        views = [one for one in inputs.layouts if isinstance(one, ViewLayout)]
        options = grid_options(encoder, readers, views)
        values = inputs.values
        # Equal pixels in other grids are other views.
        resting = is_frozen(encoder) and self.share_equal_views == "always"
        share = self.share_equal_views and (resting or not graph) and not options
        if share:
            # Where places matter, only whole images can be equal.
            first, place = unique_views(values, encoder.views_together)
            values = values[first]

        def run(some: torch.Tensor) -> Any:
            return encoder(some, tuple(layers), *other, **options)

        if share and not graph and cache is not None:
            key = (id(encoder), kind, tuple(layers))
            features = cache.encode(key, values, encoder.views_together, run)
        else:
            with torch.set_grad_enabled(graph and not is_frozen(encoder)):
                features = run(values)
        if share:
            features = features.map(lambda state: state[place])
        features.layouts = tuple(inputs.layouts)
        return features

    def feed(self, batch: VLMBatch) -> Feed:
        """Return what parts read of a batch; encoders run when they are read."""
        # A connector whose parts are all frozen reads without graph, which is not yet
        # inference.
        encode = partial(self._encode, graph=torch.is_grad_enabled())
        return Feed(batch, encode, self._find)

    def _sources(self, part: Connector) -> list[tuple[str, str]]:
        """Return the encoders whose features a part reads, and of which kinds."""
        sources = map(parse_source, part.reads)
        return [self._find(one)[:2] for one, layer in sources if layer is not None]

    def _towers(self, part: Connector) -> list[VisionEncoder]:
        """Return the encoders whose features a part reads."""
        return [self.encoders[name] for name, _ in self._sources(part)]

    def _fill(self, connector: Connector, kind: str, feed: Feed) -> Filled:
        """Let a connector fill; without graph when all that it runs is frozen."""
        frozen = all(is_frozen(one) for one in (connector, *self._towers(connector)))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            cache = self.feature_cache
            if cache is None or torch.is_grad_enabled():
                return connector.fill(kind, feed)
            return cache.fill(connector, kind, feed, self.feed)

    def prepare(self, batch: VLMBatch) -> tuple[Feed, FlatTokens]:
        """Return the feed with embeddings, and what is known of the tokens."""
        readers = (*self.connectors.values(), *self.heads.values())
        reads = {parse_source(one)[0] for part in readers for one in part.reads}
        kinds = {
            k for name in reads & set(self.encoders) for k in self.encoders[name].reads
        }
        taken = reads - set(self.encoders) | kinds | set(self.modalities)
        check_inputs(batch, self.token_count, self.modalities, taken)
        embeds = self.language_model.embed(batch.prompt.input_ids.clamp(min=0))
        feed, memory, nothing = self.feed(batch), None, []
        if self.is_sharded:
            from .even_gathers import run_encoders

            nothing.append(run_encoders(self, feed))
        for connector in self.connectors.values():
            kinds = [k for k in connector.fills if len(batch.inputs.get(k, ()))]
            for kind in kinds:
                filled = self._fill(connector, kind, feed)
                index = batch.inputs[kind].slot_index
                embeds = merge_embeddings(embeds, filled.rows, index)
                if filled.memory is not None:
                    memory = (kind, filled.memory)
            if self.touch_all_parts:
                nothing.append(self._touch(connector, kinds, feed))
        for part in nothing:
            if isinstance(part, torch.Tensor):
                embeds = embeds + part.to(embeds.dtype) * 0
        feed.embeds = embeds
        return feed, flat_tokens(batch, memory)

    def example(self, reads: Sequence[str]) -> VLMBatch:
        """Return a batch of a black image for all that is read, and a question."""
        device = next(self.language_model.parameters()).device
        word = torch.ones(1, 1, dtype=torch.int64, device=device)
        inputs = dict(question=Inputs(word, (0,), parent=(0,)))
        for source, layer in map(parse_source, reads):
            if layer is None:
                continue
            name, kind, spec = self._find(source)
            size, together = (spec.image_size,) * 2, self.encoders[name].views_together
            layout = self.requested_views if kind == "image" else None
            layout = layout or ViewLayout(size, size, together)
            views = torch.zeros(layout.num_views, 3, *layout.view_size, device=device)
            length = 0
            if kind in self.modalities:
                length = count_of_kind(self.token_count, kind)(layout)
            inputs[kind] = Inputs(views, (0,), (layout,), slot_lens=(length,))
        return VLMBatch({}, inputs)

    def _touch(
        self, connector: Connector, filled: Sequence[str], feed: Feed
    ) -> torch.Tensor | int:
        """Run what no input of this batch reached; what it gives is not used.

        Ranks that exchange gradients of a part, or gather its weights, must all run
        it; else the others wait for ever.
        """
        kind, sources = connector.fills[0], set(self._sources(connector))
        runs = not self.is_sharded or sources <= feed.lent.keys()
        if runs and not filled and kind in [own for _, own in sources]:
            example = self.feed(self.example(connector.reads))
            example.known.update(feed.lent)
            rows, memory = self._fill(connector, kind, example)
            return rows.sum() + (0 if memory is None else memory.sum())
        if set(filled) == set(connector.fills):
            return 0
        towers = () if self.is_sharded else self._towers(connector)
        return sum(map(untouched, (connector, *dict.fromkeys(towers))))

    def _touch_head(self, head: Head, feed: Feed) -> torch.Tensor | int:
        """Touch a head without targets; where ranks need it, what it reads too.

        Nobody waits for encoders that learn nothing; those in shards have all run.
        """
        total = untouched(head)
        reads = head.reads if self.touch_all_parts and not self.is_sharded else ()
        for kind, layer in map(parse_source, reads):
            if layer is None or feed.has(kind):
                continue
            if is_frozen(self.encoders[encoder_of(self.encoders, kind)]):
                continue
            example = self.example([f"{kind}:{layer}"])
            for _, features in self.feed(example).groups(kind):
                total = total + sum(s.sum() * 0 for s in features.hidden_states)
        return total
