"""The meta-architecture: encoders, connectors, a language model, heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseModel

from mmvlm.models.connectors.base import Connector
from mmvlm.models.heads.base import Head, LossTerm, check_terms
from mmvlm.models.language_models.base import LanguageModel
from mmvlm.models.utils.assembly import (
    build_connectors,
    build_heads,
    build_part,
    build_preprocessor,
    check_read,
    encoder_of,
    specs_of,
    untouched,
)
from mmvlm.models.utils.feed import Feed
from mmvlm.models.utils.freezing import freeze_part, num_elements, rest_frozen
from mmvlm.models.utils.loss import summed_token_loss, union_of_rows
from mmvlm.models.utils.media import check_media, with_media_width
from mmvlm.models.utils.routing import PartRouting
from mmvlm.models.utils.token_context import use_tokens
from mmvlm.models.vision_encoders.base import VisionEncoder
from mmvlm.registry import MODELS
from mmvlm.structures import (
    Inputs,
    TokenCount,
    TokenStream,
    ViewLayout,
    VisionEncoderSpec,
    VLMBatch,
    VLMDataSample,
)
from mmvlm.structures.region_needs import RegionNeeds
from mmvlm.structures.vision import TokenCounts

#: Term of the token loss among the counts and denominators of a batch.
TEXT_TERM = "text"


@MODELS.register_module()
class VisionLanguageModel(PartRouting, BaseModel):
    """Inputs go through encoders and connectors into the slots of the text.

    Every system of encoders, connectors, a language model and heads is a config of
    this class. A part says what it reads (``image:-2``, ``image_hi:*``, ``question``)
    and the model routes by that; each encoder runs once for all its readers. Without
    encoders and connectors it is a text-only model.

    Args:
        language_model (dict | LanguageModel): config or module.
        vision_encoder (dict | VisionEncoder | None): short for
            ``encoders=dict(vision_encoder=...)``.
        connector (dict | Connector | None): short for
            ``connectors=dict(connector=...)``.
        encoders (Mapping | None): name to config or module. A config may set
            ``reads``, the kinds of inputs that the encoder takes.
        connectors (Mapping | None): name to config or module of what fills slots. A
            config gets ``vision_spec`` and ``out_width`` from its neighbours and may
            set ``source``, the encoder or kind that it reads, and ``fills``.
        heads (Mapping | None): name to config or module of a :class:`Head`, which
            gets ``in_width``.
        train_parts (dict | None): part name to rule (see :func:`freeze_part`);
            parts that are not named are trained, or frozen but for their
            adapters when they have LoRA.
        generation (dict | None): defaults of ``predict``
            (:func:`generate_from_embeds`).
        share_equal_views (bool | str): in inference, encode equal images of a batch
            once (several questions about one image); ``always``: in training, too,
            where the encoder is frozen, at the price of reading sums on the host.
        text_weight (float): of the cross entropy of the text, as ``weight`` of a head
            is of its losses; the ``loss`` returned has it.
        max_logits (int): logits held at once by the loss, elements.
        data_preprocessor (dict | torch.nn.Module | None): default
            ``VLMDataPreprocessor`` with the encoders' normalisation.
        init_cfg (dict | None): mmengine initialisation.

    Raises:
        ValueError: an encoder that nothing reads, an unknown part or rule in
            ``train_parts``, or widths or kinds of inputs that do not fit.
    """

    def __init__(
        self,
        language_model: dict | LanguageModel,
        vision_encoder: dict | VisionEncoder | None = None,
        connector: dict | Connector | None = None,
        *,
        encoders: Mapping[str, dict | VisionEncoder] | None = None,
        connectors: Mapping[str, dict | Connector] | None = None,
        heads: Mapping[str, dict | Head] | None = None,
        train_parts: dict | None = None,
        generation: dict | None = None,
        share_equal_views: bool | str = True,
        text_weight: float = 1.0,
        max_logits: int = 2**25,
        data_preprocessor: dict | torch.nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if vision_encoder is not None:
            encoders = dict(vision_encoder=vision_encoder, **(encoders or {}))
        if connector is not None:
            connectors = dict(connector=connector, **(connectors or {}))
        if vision_encoder is not None and not connectors:
            raise ValueError("give both model.vision_encoder and model.connector.")
        towers = {name: build_part(one) for name, one in (encoders or {}).items()}
        llm = build_part(
            with_media_width(language_model, next(iter(towers.values()), None))
        )
        links = build_connectors(connectors or {}, towers, llm.width)
        outputs = build_heads(heads or {}, towers, llm.width)
        check_media(llm, links)
        check_read(towers, (*links.values(), *outputs.values()))
        super().__init__(build_preprocessor(data_preprocessor, towers), init_cfg)
        parts = {**towers, **links, "language_model": llm, **outputs}
        if len(parts) != len(towers) + len(links) + len(outputs) + 1:
            raise ValueError(
                f"parts need different names: encoders {list(towers)}, connectors "
                f"{list(links)}, 'language_model', heads {list(outputs)}."
            )
        for name, part in parts.items():
            if hasattr(type(self), name):
                raise ValueError(f"a part cannot be named '{name}'; choose another.")
            self.add_module(name, part)
        self._names = (tuple(towers), tuple(links), tuple(outputs))
        self.generation = dict(generation or {})
        if share_equal_views not in (True, False, "always"):
            raise ValueError(
                f"share_equal_views={share_equal_views!r}: expected True, False or "
                "'always'."
            )
        self.share_equal_views = share_equal_views
        self.text_weight, self.max_logits = text_weight, max_logits
        self.processor: Any = None
        #: Ids of the tokens that each head reads.
        self.head_ids: dict[str, list[int]] = {}
        self.train_parts = dict(train_parts or {})
        self._freeze()

    # Parts ----------------------------------------------------------------

    @property
    def parts(self) -> dict[str, torch.nn.Module]:
        """Name to module, in the order of the data."""
        return {
            name: module
            for name, module in self.named_children()
            if name != "data_preprocessor"
        }

    @property
    def encoders(self) -> dict[str, VisionEncoder]:
        """Name to module."""
        return {name: getattr(self, name) for name in self._names[0]}

    @property
    def connectors(self) -> dict[str, Connector]:
        """Name to module."""
        return {name: getattr(self, name) for name in self._names[1]}

    @property
    def heads(self) -> dict[str, Head]:
        """Name to module."""
        return {name: getattr(self, name) for name in self._names[2]}

    @property
    def image_connector(self) -> Connector | None:
        """What fills the slots of images; None without one."""
        return next((c for c in self.connectors.values() if "image" in c.fills), None)

    @property
    def vision_spec(self) -> VisionEncoderSpec | None:
        """Facts of the encoder of images; None for a model without one."""
        encoder = self.image_encoder
        return None if encoder is None else encoder.spec

    @property
    def specs(self) -> dict[str, VisionEncoderSpec]:
        """Facts of all encoders, by kind of input and by name."""
        return specs_of(self.encoders)

    @property
    def image_encoder(self) -> VisionEncoder | None:
        """What the images' connector reads, else the first encoder; None without."""
        connector = self.image_connector
        if connector is None or not self.encoders:
            return next(iter(self.encoders.values()), None)
        return self.encoders[encoder_of(self.encoders, connector.source)]

    @property
    def token_count(self) -> TokenCount | None:
        """Positions that an input fills; None for a text-only model."""
        counts = {k: c.token_count for c in self.connectors.values() for k in c.fills}
        if len(self.connectors) == 1:
            return next(iter(counts.values()))
        return TokenCounts(counts) if counts else None

    @property
    def requested_views(self) -> ViewLayout | None:
        """Layout of an image as the connector wants it; None without one."""
        connector, encoder = self.image_connector, self.image_encoder
        if connector is None or encoder is None:
            return None
        layout = connector.views_of((encoder.spec.image_size,) * 2)
        least = encoder.views_together
        return replace(layout, num_views=least) if least > layout.num_views else layout

    @property
    def modalities(self) -> tuple[str, ...]:
        """Kinds of inputs that may stand in a conversation besides text."""
        return tuple(kind for c in self.connectors.values() for kind in c.fills)

    @property
    def region_needs(self) -> RegionNeeds | None:
        """What its parts read of regions; None for a model that takes none."""
        parts = (*self.connectors.values(), *self.heads.values())
        needs = [getattr(part, "needs", None) for part in parts]
        return RegionNeeds.union(one for one in needs if one is not None)

    def bind(self, context: Any) -> None:
        """Take the processor of the run, which replies are read by.

        Args:
            context (VLMProcessor): offers ``tokenizer``, ``template`` and
                ``read_reply``.

        Raises:
            ValueError: when a head reads tokens that the tokenizer does not hold.
        """
        self.processor = context
        for name, head in self.heads.items():
            ids = [context.tokenizer.convert_tokens_to_ids(t) for t in head.tokens]
            unknown = {None, context.tokenizer.unk_token_id}
            lost = [t for t, i in zip(head.tokens, ids, strict=True) if i in unknown]
            if lost:
                raise ValueError(
                    f"head '{name}' reads {lost}, which the tokenizer lacks; add them "
                    f"by model.language_model.new_tokens=dict(tokens={lost})."
                )
            self.head_ids[name] = ids

    def _freeze(self) -> None:
        unknown = set(self.train_parts) - set(self.parts)
        if unknown:
            raise ValueError(
                f"train_parts names {sorted(unknown)}, but the model has "
                f"{list(self.parts)}."
            )
        for name, part in self.parts.items():
            default = "lora" if getattr(part, "lora", None) else True
            freeze_part(part, self.train_parts.get(name, default), name)
        self.train(self.training)

    def train(self, mode: bool = True) -> VisionLanguageModel:
        """Switch to training; parts that are wholly frozen stay in eval mode."""
        super().train(mode)
        for name, part in self.parts.items():
            if mode:
                rest_frozen(part, self.train_parts.get(name))
        return self

    def init_weights(self) -> None:
        """Initialise parts that have an ``init_cfg``; pretrained parts stay."""
        for part in self.parts.values():
            on_meta = any(p.is_meta for p in part.parameters())
            if not on_meta and not getattr(part, "is_init", True):
                part.init_weights()

    def part_table(self) -> list[dict[str, Any]]:
        """Return one row per part: ``part``, ``type``, ``params``, ``trainable``."""
        rows = []
        for name, part in self.parts.items():
            sizes = [(num_elements(p), p.requires_grad) for p in part.parameters()]
            rows.append(
                dict(
                    part=name,
                    type=type(part).__name__,
                    params=sum(size for size, _ in sizes),
                    trainable=sum(size for size, train in sizes if train),
                )
            )
        return rows

    # From inputs to embeddings ---------------------------------------------

    def encode_images(
        self, pixel_values: torch.Tensor, layouts: Sequence[ViewLayout] = ()
    ) -> torch.Tensor:
        """Turn views into the rows of their images' slots.

        Args:
            pixel_values (torch.Tensor): normalised views.
            layouts (Sequence[ViewLayout]): one per image; empty when every view is an
                image of its own.

        Shape:
            - ``pixel_values``: (V, 3, H, W)
            - output: (S, Dl), S = sum of the images' token counts
        """
        size = tuple(pixel_values.shape[-2:])
        layouts = tuple(layouts) or (ViewLayout(size, size),) * len(pixel_values)
        lengths = tuple(map(self.token_count, layouts))
        inputs = Inputs(pixel_values, (0,) * len(layouts), layouts, slot_lens=lengths)
        feed = self.feed(VLMBatch({}, dict(image=inputs)))
        return self._fill(self.image_connector, "image", feed).rows

    def embed(self, batch: VLMBatch) -> torch.Tensor:
        """Embed text, images and other inputs of a batch.

        Shape:
            - ``batch.prompt.input_ids``: (T,)
            - output: (T, Dl)

        Raises:
            ValueError: naming the sample, when the tokens of an input do not fit
                its slot, or the model does not take such inputs.
        """
        return self.prepare(batch)[0].embeds

    # Losses -----------------------------------------------------------------

    def hidden_states(
        self, batch: VLMBatch, rows: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Run embedding and decoder up to the final norm.

        Shape:
            - ``rows``: (R,), positions that are wanted; None for all
            - output: (T, Dl), or (R, Dl) with ``rows``
        """
        return self._decode(batch, rows)[1]

    def _decode(
        self, batch: VLMBatch, rows: torch.Tensor | None
    ) -> tuple[Feed, torch.Tensor]:
        feed, tokens = self.prepare(batch)
        with use_tokens(tokens):
            hidden = self.language_model.hidden_states(
                feed.embeds, batch.prompt, batch.text, rows
            )
        return feed, hidden

    def forward(
        self,
        inputs: VLMBatch,
        data_samples: list[VLMDataSample] | None = None,
        mode: str = "tensor",
    ) -> dict[str, torch.Tensor] | list[VLMDataSample] | torch.Tensor:
        """Dispatch to :meth:`loss`, :meth:`predict`, or give all logits.

        Args:
            inputs (VLMBatch): on the model's device, pixels normalised.
            data_samples (list[VLMDataSample] | None): one per sample.
            mode (str): ``loss``, ``predict`` or ``tensor``.

        Shape:
            - ``inputs.text.input_ids``: (T,)
            - output of ``tensor``: (T, vocab)

        Raises:
            ValueError: for another mode.
        """
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        if mode == "tensor":
            return self.language_model.logits(self.hidden_states(inputs))
        raise ValueError(f"mode='{mode}': expected 'loss', 'predict' or 'tensor'.")

    def loss_counts(self, batch: VLMBatch) -> dict[str, int]:
        """Return what each loss will be a sum of, by term, known on the host."""
        counts = {TEXT_TERM: batch.text.num_targets}
        for head in self.heads.values():
            counts.update(head.counts(batch))
        return counts

    def loss(
        self, inputs: VLMBatch, data_samples: list[VLMDataSample] | None = None
    ) -> dict[str, torch.Tensor]:
        """Summed losses over their denominators: the text's and the heads'.

        A denominator is that of ``inputs.denominators``, or this batch's own count.
        The last block's MLP, head and softmax see only rows that a loss reads.

        Shape:
            - ``inputs.text.target_rows``, ``inputs.text.targets``: (R,)
            - output ``loss`` and ``loss_<term>``: (), float32
        """
        text, heads = inputs.text, self.heads
        wanted = [text.target_rows, *(head.rows(inputs) for head in heads.values())]
        rows, places = union_of_rows(wanted, len(text))
        feed, hidden = self._decode(inputs, rows)
        read = hidden if places is None else hidden.index_select(0, places[0])
        if not text.num_targets:
            read = hidden
        terms = {TEXT_TERM: LossTerm(self._token_loss(read, text), text.num_targets)}
        weights, touched = {TEXT_TERM: self.text_weight}, 0
        if not hidden.requires_grad:  # no part that learns was reached: no region, say
            touched = sum(map(untouched, self.connectors.values()))
        for number, (name, head) in enumerate(heads.items(), 1):
            weights.update(head.weights)
            counts = head.counts(inputs)
            if not any(counts.values()):
                touched = touched + self._touch_head(head, feed)
                # Ranks sum losses by name: all must have the same.
                nothing = LossTerm(hidden.new_zeros((), dtype=torch.float32), 0)
                terms.update(dict.fromkeys(counts, nothing))
                continue
            states = hidden[places[number]]
            terms.update(head.loss(states, inputs.targets.get(name), feed))
        check_terms(terms, self.loss_counts(inputs))
        losses = {}
        for name, term in terms.items():
            denominator = inputs.denominators.get(name)
            if denominator is None:
                denominator = max(term.count, 1)
            value = term.sum / denominator * weights[name]
            if name == TEXT_TERM:
                losses["loss"] = value + touched
            else:
                losses[f"loss_{name}"] = value
        return losses

    def _token_loss(self, hidden: torch.Tensor, text: TokenStream) -> torch.Tensor:
        """Return the summed cross entropy of the trained tokens: ()."""
        return summed_token_loss(
            self.language_model.logits,
            hidden,
            text.targets,
            self.language_model.vocab_size,
            self.max_logits,
        )

    # Replies ----------------------------------------------------------------

    @torch.no_grad()
    def predict(
        self,
        inputs: VLMBatch,
        data_samples: list[VLMDataSample] | None = None,
        **generation: Any,
    ) -> list[VLMDataSample]:
        """Continue every prompt, put the reply into ``pred_text``, let heads predict.

        Args:
            inputs (VLMBatch): prompts.
            data_samples (list[VLMDataSample] | None): filled in place; new ones
                when None.
            **generation: over the model's own ``generation``; ``stop_strings`` (a
                text or several) come on top of the template's.

        Returns:
            list[VLMDataSample]: with ``pred_text``, ``pred_regions``, ``problems``,
            ``pred_ids`` and ``finish``; with ``pred_states`` where tokens named by
            ``catch`` were said.

        Raises:
            RuntimeError: before :meth:`bind`.
        """
        if self.processor is None:
            raise RuntimeError("predict needs the tokenizer: call model.bind(context).")
        if data_samples is not None and not data_samples:
            return []  # collate_flat found no usable sample
        from mmvlm.models.utils.replying import reply

        return reply(self, inputs, data_samples, {**self.generation, **generation})

    @torch.no_grad()
    def score_replies(self, inputs: VLMBatch, *args: Any, **options: Any) -> list:
        """Return how likely given replies are; see :func:`reply_log_probs`."""
        from mmvlm.models.language_models.reply_scores import reply_log_probs

        feed, tokens = self.prepare(inputs)
        prompts = (self.language_model, feed.embeds, inputs.prompt.seq_lens)
        options["position_ids"] = inputs.prompt.position_ids
        with use_tokens(tokens):
            return reply_log_probs(*prompts, *args, **options)
