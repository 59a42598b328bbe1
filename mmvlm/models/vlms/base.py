"""The meta-architecture: encoder, connector, language model, one flat batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseModel

from mmvlm.models.connectors.base import Connector
from mmvlm.models.language_models.base import LanguageModel
from mmvlm.models.utils.freezing import (
    freeze_part,
    is_frozen,
    num_elements,
    rest_frozen,
)
from mmvlm.models.utils.loss import summed_token_loss
from mmvlm.models.utils.media import check_media, flat_tokens, with_media_width
from mmvlm.models.utils.merge import (
    check_modality_slots,
    check_slots,
    merge_embeddings,
    unique_views,
)
from mmvlm.models.utils.own_grids import grid_options
from mmvlm.models.utils.token_context import FlatTokens, use_tokens
from mmvlm.models.vision_encoders.base import VisionEncoder
from mmvlm.registry import MODELS
from mmvlm.structures import (
    Instructions,
    TokenCount,
    ViewLayout,
    VisionEncoderSpec,
    VLMBatch,
    VLMDataSample,
)
from mmvlm.text.replies import split_stops, stop_strings


@MODELS.register_module()
class VisionLanguageModel(BaseModel):
    """Pictures go through encoder and connector into the slots of the text.

    Every "encoder + connector + language model" system is a config of this
    class. Without encoder and connector it is a text-only model. Inputs that are
    no pictures (audio, video, depth, ...) take the same way where encoder and
    connector name them in ``modalities``.

    Args:
        language_model (dict | LanguageModel): config or module.
        vision_encoder (dict | VisionEncoder | None): config or module.
        connector (dict | Connector | None): config or module; a config gets
            ``vision_spec`` and ``out_width`` from its neighbours.
        train_parts (dict | None): part name to rule (see :func:`freeze_part`);
            parts that are not named are trained, or frozen but for their
            adapters when they have LoRA.
        generation (dict | None): defaults of ``predict``
            (:func:`generate_from_embeds`).
        share_equal_views (bool): in inference, encode equal pictures of a batch
            once (several questions about one picture).
        max_logits (int): logits held at once by the loss, elements.
        data_preprocessor (dict | torch.nn.Module | None): default
            ``VLMDataPreprocessor`` with the encoder's normalisation.
        init_cfg (dict | None): mmengine initialisation.

    Raises:
        ValueError: an encoder without connector or the reverse, an unknown part
            or rule in ``train_parts``, or widths or modalities that do not fit.

    """

    def __init__(
        self,
        language_model: dict | LanguageModel,
        vision_encoder: dict | VisionEncoder | None = None,
        connector: dict | Connector | None = None,
        *,
        train_parts: dict | None = None,
        generation: dict | None = None,
        share_equal_views: bool = True,
        max_logits: int = 2**25,
        data_preprocessor: dict | torch.nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if (vision_encoder is None) != (connector is None):
            raise ValueError("give both model.vision_encoder and model.connector.")
        encoder = _build(vision_encoder)
        llm = _build(with_media_width(language_model, encoder))
        if isinstance(connector, dict):
            connector = MODELS.build(
                dict(connector, vision_spec=encoder.spec, out_width=llm.width)
            )
        if data_preprocessor is None:
            data_preprocessor = dict(type="VLMDataPreprocessor")
        if isinstance(data_preprocessor, dict):
            spec = None if encoder is None else encoder.spec
            fill = {} if spec is None else dict(mean=spec.mean, std=spec.std)
            data_preprocessor = MODELS.build({**fill, **data_preprocessor})
        super().__init__(data_preprocessor, init_cfg)
        if encoder is not None:
            self.vision_encoder = encoder
            self.connector = connector
            if connector.out_width != llm.width:
                raise ValueError(
                    f"connector gives width {connector.out_width}, the language "
                    f"model takes {llm.width}."
                )
            if set(connector.modalities) != set(encoder.modalities):
                raise ValueError(
                    f"model.connector takes {sorted(connector.modalities)}, "
                    f"model.vision_encoder {sorted(encoder.modalities)}; they must "
                    "name the same modalities."
                )
        check_media(llm, connector)
        self.language_model = llm
        self.generation = dict(generation or {})
        self.share_equal_views = share_equal_views
        self.max_logits = max_logits
        #: Set by the engine where every rank must touch the vision parts.
        self.run_vision_on_text_batches = False
        self._tokenizer: Any = None
        self._stop_strings: tuple[str, ...] = ()
        self.train_parts = dict(train_parts or {})
        self._freeze()

    @property
    def parts(self) -> dict[str, torch.nn.Module]:
        """Name to module, in the order of the data."""
        return {
            name: module
            for name, module in self.named_children()
            if name != "data_preprocessor"
        }

    @property
    def has_vision(self) -> bool:
        """Whether the model takes pictures."""
        return hasattr(self, "vision_encoder")

    @property
    def vision_spec(self) -> VisionEncoderSpec | None:
        """The encoder's facts; None for a text-only model."""
        return self.vision_encoder.spec if self.has_vision else None

    @property
    def token_count(self) -> TokenCount | None:
        """Positions that a picture fills; None for a text-only model."""
        return self.connector.token_count if self.has_vision else None

    @property
    def asked_views(self) -> ViewLayout | None:
        """Layout of a picture as the connector asks for it; None without one."""
        if not self.has_vision:
            return None
        layout = self.connector.views_of((self.vision_spec.image_size,) * 2)
        least = self.vision_encoder.views_per_picture
        return replace(layout, num_views=least) if least > layout.num_views else layout

    @property
    def modalities(self) -> tuple[str, ...]:
        """What may stand in a conversation besides text."""
        return tuple(self.connector.modalities) if self.has_vision else ()

    def bind(self, context: Any) -> None:
        """Take tokenizer and stop strings from the run's context.

        Args:
            context (VLMProcessor): offers ``tokenizer``, ``template`` and
                ``read_reply``.

        """
        self._processor, self._tokenizer = context, context.tokenizer
        self._stop_strings = tuple(getattr(context.template, "stop_strings", ()))

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

    def encode_images(
        self,
        pixel_values: torch.Tensor,
        layouts: Sequence = (),
        instructions: Instructions | None = None,
        modality: str = "image",
    ) -> torch.Tensor:
        """Turn views, or inputs of another modality, into the rows of their slots.

        Frozen parts run without graph.

        Args:
            pixel_values (torch.Tensor): normalised views.
            layouts (Sequence[ViewLayout]): one per picture.
            instructions (Instructions | None): the question about each picture,
                for connectors that read it.
            modality (str): what the values are.

        Shape:
            - ``pixel_values``: (V, 3, H, W), normalised; or (M, ...)
            - output: (S, Dl), S = sum of the inputs' token counts

        """
        out = self._connect(pixel_values, layouts, instructions, modality)
        return self._merge_views(out, layouts)

    def _merge_views(self, out: torch.Tensor, layouts: Sequence) -> torch.Tensor:
        graph = torch.is_grad_enabled() and not self._vision_is_frozen()
        with torch.set_grad_enabled(graph):
            return self.connector.merge_views(out, layouts)

    def _vision_is_frozen(self) -> bool:
        return is_frozen(self.vision_encoder) and is_frozen(self.connector)

    def _connect(
        self,
        pixel_values: torch.Tensor,
        layouts: Sequence,
        instructions: Instructions | None = None,
        modality: str = "image",
    ) -> torch.Tensor:
        """Run encoder and connector: (V, 3, H, W) to (V', N', D)."""
        other = () if modality == "image" else (modality,)
        own = () if other else layouts
        options = grid_options(self.vision_encoder, self.connector, own)
        frozen = is_frozen(self.vision_encoder)
        graph = torch.is_grad_enabled()
        # Equal pixels in other grids are other views.
        share = self.share_equal_views and not graph and not options
        if share:
            # Where places matter, only whole pictures can be equal.
            count = self.vision_encoder.views_per_picture
            first, place = unique_views(pixel_values, count)
            pixel_values = pixel_values[first]
        with torch.set_grad_enabled(graph and not frozen):
            features = self.vision_encoder(
                pixel_values, tuple(self.connector.select_layers), *other, **options
            )
        features.layouts = tuple(layouts)
        features.instructions = instructions
        # A tower in half precision may meet a connector in full precision.
        dtype = next((p.dtype for p in self.connector.parameters()), None)
        if dtype is not None:
            features.hidden_states = tuple(
                state.to(dtype) for state in features.hidden_states
            )
            if features.aux is not None:
                features.aux = features.aux.to(dtype)
        if share:
            features.hidden_states = tuple(s[place] for s in features.hidden_states)
            if features.aux is not None:
                features.aux = features.aux[place]
        with torch.set_grad_enabled(graph and not self._vision_is_frozen()):
            return self.connector(features)

    def embed(self, batch: VLMBatch) -> torch.Tensor:
        """Embed text, pictures and other inputs of a batch.

        Shape:
            - ``batch.input_ids``: (T,)
            - output: (T, Dl)

        Raises:
            ValueError: naming the sample, when the tokens of an input do not fit
                its slot, or the model does not take such inputs.

        """
        return self._prepare(batch)[0]

    def _prepare(self, batch: VLMBatch) -> tuple[torch.Tensor, FlatTokens]:
        """Return embeddings (T, Dl) and what the language model may know of them."""
        text = self.language_model.embed(batch.input_ids.clamp(min=0))
        check_slots(batch, self.token_count)
        check_modality_slots(batch, self.token_count, self.modalities)
        for modality, inputs in batch.modality_inputs.items():
            rows = self.encode_images(inputs.values, inputs.layouts, modality=modality)
            text = merge_embeddings(text, rows, inputs.slot_index)
        if batch.pixel_values is not None and len(batch.pixel_values):
            asked = self._instructions(batch)
            out = self._connect(batch.pixel_values, batch.layouts, asked)
            rows = self._merge_views(out, batch.layouts)
            merged = merge_embeddings(text, rows, batch.slot_index)
            given = out if self.connector.gives_media else None
            return merged, flat_tokens(batch, given)
        tokens = flat_tokens(batch)
        if self.run_vision_on_text_batches and self.has_vision:
            layout = self.asked_views
            shape = (layout.num_views, 3, *layout.view_size)
            views = torch.zeros(shape, device=text.device)
            word = torch.ones(1, 1, dtype=torch.int64, device=text.device)
            asked = Instructions(word, word) if self.connector.needs_text else None
            out = self._connect(views, (layout,), asked)
            nothing = self._merge_views(out, (layout,)).sum() + out.sum()
            return text + nothing.to(text.dtype) * 0, tokens
        return text, tokens

    def _instructions(self, batch: VLMBatch) -> Instructions | None:
        """Return the questions for a connector that reads them."""
        if not self.connector.needs_text:
            return None
        if batch.instruction_ids is None:
            raise ValueError(
                f"samples {list(batch.sample_ids)}: {type(self.connector).__name__} "
                "reads the question, but the batch brings none. Put "
                "TokenizeInstructions into the pipeline."
            )
        return Instructions(batch.instruction_ids, batch.instruction_mask)

    def hidden_states(
        self, batch: VLMBatch, rows: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Run embedding and decoder up to the final norm.

        Shape:
            - ``rows``: (R,), positions that are wanted; None for all
            - output: (T, Dl), or (R, Dl) with ``rows``
        """
        embeds, tokens = self._prepare(batch)
        with use_tokens(tokens):
            return self.language_model(
                embeds, batch.position_ids, batch.cu_seqlens, batch.seq_lens, rows
            )

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
            - ``inputs.input_ids``: (T,)
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

    def loss(
        self, inputs: VLMBatch, data_samples: list[VLMDataSample] | None = None
    ) -> dict[str, torch.Tensor]:
        """Summed cross entropy of the trained tokens over the denominator.

        The denominator is ``inputs.loss_denominator``, or this batch's own count
        of trained tokens. The last block's MLP, head and softmax see supervised
        rows only.

        Shape:
            - ``inputs.target_rows``, ``inputs.targets``: (R,)
            - output ``loss``: (), float32
        """
        rows = inputs.target_rows if inputs.num_target_tokens else None
        return self.text_loss(self.hidden_states(inputs, rows), inputs)

    def text_loss(
        self, hidden: torch.Tensor, inputs: VLMBatch
    ) -> dict[str, torch.Tensor]:
        """Return the loss of the trained tokens.

        Shape:
            - ``hidden``: (R, Dl), after the final norm, at ``inputs.target_rows``;
              anything of width Dl when R is 0
            - output ``loss``: (), float32
        """
        total = summed_token_loss(
            self.language_model.logits,
            hidden,
            inputs.targets,
            self.language_model.vocab_size,
            self.max_logits,
        )
        denominator = inputs.loss_denominator
        if denominator is None:
            denominator = max(inputs.num_target_tokens, 1)
        return dict(loss=total / denominator)

    @torch.no_grad()
    def predict(
        self,
        inputs: VLMBatch,
        data_samples: list[VLMDataSample] | None = None,
        **generation: Any,
    ) -> list[VLMDataSample]:
        """Continue every prompt and put the reply into ``pred_text``.

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
        if self._tokenizer is None:
            raise RuntimeError("predict needs the tokenizer: call model.bind(context).")
        if data_samples is not None and not data_samples:
            return []  # collate_flat found no usable sample
        options = {**self.generation, **generation}
        stops = (*self._stop_strings, *stop_strings(options))
        marks, options["stop_strings"] = split_stops(self._tokenizer, stops)
        options.setdefault("stop_ids", self._stop_ids(marks))
        embeds, tokens = self._prepare(inputs)
        with use_tokens(tokens):
            replies = self.language_model.generate(
                embeds,
                inputs.seq_lens,
                decode=self._tokenizer.decode,
                **options,
            )
        if data_samples is None:
            data_samples = [VLMDataSample() for _ in replies]
        for sample, reply in zip(data_samples, replies, strict=True):
            sample.pred_ids = reply.ids.tolist()
            sample.finish = reply.finish
            if len(reply.positions):
                sample.pred_states = reply.states
            self._processor.read_reply(sample, stops)
        return data_samples

    def _stop_ids(self, marks: Sequence[int]) -> list[int] | None:
        """Return the stop tokens: EOS and the marks of the template."""
        end = self._tokenizer.eos_token_id
        return list(dict.fromkeys([*([] if end is None else [end]), *marks])) or None


def _build(part: Any) -> Any:
    """Build a part from its config; a module or None is returned as is."""
    return MODELS.build(part) if isinstance(part, dict) else part
