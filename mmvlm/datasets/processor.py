"""One object from conversations to what a model takes, and from replies back."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmvlm.registry import (
    CHAT_TEMPLATES,
    CODECS,
    DATASETS,
    PROCESSORS,
    TOKENIZERS,
    TRANSFORMS,
)
from mmvlm.structures import (
    Conversation,
    Text,
    TextMark,
    TokenCount,
    Turn,
    ViewLayout,
    VisionEncoderSpec,
)
from mmvlm.structures.region_needs import RegionNeeds
from mmvlm.text.vocabulary import add_new_tokens, check_vocabulary

from .transforms.compose import Compose
from .transforms.conversation import EncodeConversation
from .transforms.image import ViewTransform

if TYPE_CHECKING:
    from mmvlm.text.decoding import Decoded

MODES = ("train", "generate")
_LOADERS = ("test_dataloader", "val_dataloader", "train_dataloader")


@PROCESSORS.register_module()
class VLMProcessor:
    """Tokenizer, chat template, views and codec, named once for everything.

    Datasets, samplers of replies, chat, tools and export hold the same one: a
    conversation becomes the same ids and pixels everywhere, and a reply is read back
    by the codec that writes regions. It knows of the model what :meth:`bind` takes.
    Models and datasets so never import each other.

    A config says it under ``processor``; or, in the older form, ``tokenizer`` and
    ``chat_template`` stand at its top level and every dataset has a ``pipeline``, of
    which the processor takes the first (see :meth:`from_config`).

    Args:
        tokenizer (dict | Any): config in ``TOKENIZERS``, or a transformers tokenizer.
            Its config gets the codec's special tokens, if it names no ``codec`` and
            the model's ``new_tokens`` lack them.
        chat_template (str | dict | ChatTemplate): name or config in
            ``CHAT_TEMPLATES``.
        spec (VisionEncoderSpec | None): see :meth:`bind`, as all without config.
        token_count (TokenCount | None): LLM positions of the layout of an input.
        views (dict | None): the view transform; None for models without images.
        transforms (Sequence[dict]): further steps before regions are written, in
            order: other inputs, instructions, jitter.
        codec (dict | None): the syntax of regions, config in ``CODECS``.
        max_length (int | None): most tokens of a training sample.
        overflow (str): what is done with longer ones; see
            :class:`EncodeConversation`.
        load_images (dict | None): further options of :class:`LoadImages`.
        write_regions (dict | None): likewise of :class:`WriteRegions`.
        encode_conversation (dict | None): likewise of :class:`EncodeConversation`.
        targets (Sequence[dict]): steps behind it: what heads learn of the regions.
        steps (dict[str, Sequence[dict]] | None): whole pipelines by mode, in place of
            all steps above.
        requested_views (ViewLayout | None): layout of an image that the connector
            wants; view transforms that can follow it read this.
        modalities (Sequence[str]): what the model takes besides text.
        region_needs (RegionNeeds | None): what its region encoders read; None for a
            model without.

    Raises:
        ValueError: for ``steps`` beside what would make them.
    """

    def __init__(
        self,
        tokenizer: Any = None,
        chat_template: Any = None,
        spec: VisionEncoderSpec | None = None,
        token_count: TokenCount | None = None,
        *,
        views: dict | None = None,
        transforms: Sequence[dict] = (),
        codec: dict | None = None,
        max_length: int | None = None,
        overflow: str = "error",
        load_images: dict | None = None,
        write_regions: dict | None = None,
        encode_conversation: dict | None = None,
        targets: Sequence[dict] = (),
        steps: dict[str, Sequence[dict]] | None = None,
        requested_views: ViewLayout | None = None,
        modalities: Sequence[str] = ("image",),
        region_needs: RegionNeeds | None = None,
    ) -> None:
        if steps is None:
            encode = dict(max_length=max_length, overflow=overflow)
            made = [
                dict(load_images or {}, type="LoadImages"),
                *([] if views is None else [views]),
                *transforms,
                dict(write_regions or {}, type="WriteRegions", codec=codec),
                *([] if codec is None else [dict(type="PrepareRegions")]),
                dict(encode_conversation or {}, type="EncodeConversation", **encode),
                *targets,
                dict(type="PackVLMInputs"),
            ]
            made = [step for step in made if step.get("codec", True) is not None]
            steps = dict.fromkeys(MODES, made)
        elif views or transforms or codec or targets:
            raise ValueError("VLMProcessor: steps stand in place of views and codec.")
        self.steps = {mode: [dict(step) for step in steps[mode]] for mode in steps}
        codec = next(
            (s["codec"] for s in self.steps.get("generate", ()) if "codec" in s), None
        )
        self.codec = CODECS.build(dict(codec)) if isinstance(codec, dict) else codec
        if isinstance(tokenizer, dict):
            tokenizer = TOKENIZERS.build(dict(tokenizer))
        if isinstance(chat_template, str):
            chat_template = dict(type=chat_template)
        if isinstance(chat_template, dict):
            chat_template = CHAT_TEMPLATES.build(dict(chat_template))
        self.tokenizer, self.template = tokenizer, chat_template
        self.spec, self.token_count = spec, token_count
        #: Facts of all encoders by kind of input; see :meth:`bind`.
        self.specs: dict[str, VisionEncoderSpec] = {}
        self.requested_views, self.modalities = requested_views, tuple(modalities)
        self.region_needs = region_needs
        #: Whether readers without a pipeline take the steps (see with_pipeline).
        self.gives_steps = False
        self._pipelines: dict[str, Compose] = {}

    @classmethod
    def from_config(cls, cfg: Any, model: Any) -> VLMProcessor | None:
        """Build the processor of a config and bind it to a model.

        Without ``processor`` in the config, its steps are the first pipeline that
        encodes conversations: for prompts of the test, val or train dataloader, in
        this order; for training of the train dataloader.

        Args:
            cfg (mmengine.Config): see :func:`processor_config`.
            model (torch.nn.Module): see :meth:`bind`.

        Returns:
            VLMProcessor | None: None where the config names no tokenizer (towers
            trained without text).

        Raises:
            ValueError: when a processor lacks tokenizer or template, or as
                :func:`processor_config` says.
        """
        config = processor_config(cfg)
        missing = [key for key in ("tokenizer", "chat_template") if config[key] is None]
        if missing and cfg.get("processor"):
            raise ValueError(f"processor: {missing} missing, and not at the top level.")
        if missing:
            return None
        if not cfg.get("processor"):
            config["steps"] = steps_of(cfg)
        elif config.get("codec") and isinstance(config["tokenizer"], dict):
            if not _brings_tokens(model, config["codec"]):
                config["tokenizer"] = _with_codec(config["tokenizer"], config["codec"])
        processor = PROCESSORS.build(config).bind(model)
        processor.gives_steps = bool(cfg.get("processor"))
        return processor

    def __getstate__(self) -> dict:
        """Leave out what is made again in another process."""
        return {**self.__dict__, "_pipelines": {}}

    def bind(self, model: Any) -> VLMProcessor:
        """Take from a model what the steps must know of it.

        Args:
            model (torch.nn.Module): offers ``vision_spec``, ``token_count``,
                ``requested_views`` (all None without images), ``specs`` (of all
                encoders), ``modalities`` and ``region_needs``; its language model's
                ``new_tokens`` are added to the tokenizer.

        Returns:
            VLMProcessor: itself.

        Raises:
            ValueError: when the tokenizer cannot write the template, or has ids that
                the language model has no rows for.
        """
        language_model = getattr(model, "language_model", None)
        add_new_tokens(self.tokenizer, getattr(language_model, "new_tokens", None))
        self.template.check_tokenizer(self.tokenizer)
        check_vocabulary(self.tokenizer, language_model)
        self.spec = getattr(model, "vision_spec", None)
        self.specs = dict(getattr(model, "specs", {}))
        self.token_count = getattr(model, "token_count", None)
        self.requested_views = getattr(model, "requested_views", None)
        self.modalities = tuple(getattr(model, "modalities", ("image",)))
        self.region_needs = getattr(model, "region_needs", None)
        self._pipelines = {}
        return self

    # From conversations to samples ------------------------------------------

    def pipeline(self, mode: str) -> Compose:
        """Return the bound steps of a mode.

        Args:
            mode (str): ``train``, or ``generate``: up to the last question, without
                what only training needs (length limits, augmentations).

        Raises:
            ValueError: without steps, or when codec and views do not fit.
        """
        if mode not in self._pipelines:
            if mode not in self.steps:
                raise ValueError(
                    f"no steps for mode '{mode}': the config has no processor with "
                    f"views, and no pipeline in any of {list(_LOADERS)} that encodes "
                    "conversations; it must say how images become views (for example "
                    "processor=dict(views=dict(type='PadToSquare')))."
                )
            self._pipelines[mode] = Compose(steps_for(self.steps[mode], mode))
            self._pipelines[mode].bind(self)
        return self._pipelines[mode]

    def __call__(
        self, conversation: Conversation, mode: str = "generate", **item: Any
    ) -> dict:
        """Return the packed sample of a conversation, as :func:`collate_flat` takes it.

        Args:
            conversation (Conversation): its paths are relative to ``image_root``.
            mode (str): see :meth:`pipeline`.
            **item: further keys of the item: ``image_root``, ``data_root``, ``rng``,
                ``dataset`` and ``index`` (for messages).

        Returns:
            dict: ``inputs`` and ``data_samples``, see :class:`PackVLMInputs`.
        """
        facts = dict(dataset="chat", index=0, image_root="", data_root="")
        rng = np.random.default_rng(0)
        item = {**facts, "rng": rng, **item, "conversation": conversation}
        return self.pipeline(mode)(item)

    @property
    def view(self) -> dict:
        """The one view transform of the steps; ValueError for none or several."""
        return view_of(self.steps.get("generate", ()))

    def reply_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens that training has the model say for each reply.

        What ends a reply is left out.

        Args:
            texts (Sequence[str]): replies.

        Raises:
            ValueError: for a reply without a token.
        """
        from mmvlm.text.encoding import ConversationEncoder
        from mmvlm.text.seq2seq_encoding import Seq2SeqEncoder

        kind = (
            Seq2SeqEncoder if self.template.is_encoder_decoder else ConversationEncoder
        )
        encode = kind(self.template, self.tokenizer)
        prompt_talk = Conversation.from_texts("question")
        (prompt,) = encode([prompt_talk], [{}], add_generation_prompt=True)
        ids = []
        for text in texts:
            # Marked at its end alone: what a mark begins with may be a special token.
            end = TextMark(max(0, len(text) - 1), len(text), "output", "reply")
            reply = Text(text, marks=(end,))
            turns = [*prompt_talk.turns, Turn("assistant", (reply,))]
            (whole,) = encode([replace(prompt_talk, turns=turns)], [{}])
            places = [mark.stop for mark in whole.text.marks]
            found = whole.text.input_ids[len(prompt.text) : max(places, default=0)]
            if not len(found):
                raise ValueError(f"the reply {text!r} has no token.")
            ids.append(found.tolist())
        return ids

    # From replies to text and regions ---------------------------------------

    def decode(
        self,
        ids: Any,
        layouts: Sequence[ViewLayout] = (),
        *,
        stops: Sequence[str] = (),
        ended: bool = True,
    ) -> Decoded:
        """Return text and regions of a reply; never raises.

        Args:
            ids (Any): what the model said.
            layouts (Sequence[ViewLayout]): of the images that it saw.
            stops (Sequence[str]): strings that end a reply, besides the template's.
            ended (bool): False for a reply that goes on.
        """
        from mmvlm.text.decoding import decode

        stops = [*getattr(self.template, "stop_strings", ()), *stops]
        return decode(
            ids, self.tokenizer, self.codec, layouts, stops=stops, ended=ended
        )

    def read_reply(self, sample: Any, stops: Sequence[str] = ()) -> None:
        """Read ``pred_ids`` of a sample into its text, regions and problems.

        Args:
            sample (VLMDataSample): gets ``pred_text``, ``pred_regions``,
                ``pred_spans``, ``pred_quoted`` and ``problems``; its ``layouts`` say
                where regions lie.
            stops (Sequence[str]): see :meth:`decode`.
        """
        layouts = getattr(sample, "layouts", ())
        found = self.decode(sample.pred_ids, layouts, stops=stops)
        sample.pred_text = found.text
        sample.pred_regions, sample.pred_spans = found.regions, found.spans
        sample.pred_quoted, sample.problems = found.quoted, found.problems


def steps_for(steps: Sequence[Any], mode: str) -> list[Any]:
    """Return steps of a pipeline as a mode needs them.

    Args:
        steps (Sequence[dict | Callable]): of a config.
        mode (str): ``train`` or ``generate``; the latter leaves out transforms that
            say ``augments`` and the options that they list in ``only_training``.
    """
    result: list[Any] = []
    for step in steps:
        kind = _kind(step)
        if isinstance(step, dict) and mode == "generate":
            idle = getattr(kind, "only_training", ())
            step = {key: value for key, value in step.items() if key not in idle}
        if isinstance(step, dict) and takes_mode(step):
            step = dict(step, mode=mode)
        if mode == "train" or not getattr(kind, "augments", False):
            result.append(step)
    return result


def takes_mode(step: Any) -> bool:
    """Tell whether a step of a pipeline does one thing in training, another else."""
    return getattr(_kind(step), "takes_mode", False)


def view_of(steps: Sequence[Any]) -> dict:
    """Return the one view transform of a pipeline.

    Raises:
        ValueError: when there is none or more than one.
    """
    found = views_in(steps)
    if len(found) != 1:
        names = [getattr(_kind(step), "__name__", step) for step in steps]
        raise ValueError(
            f"the pipeline {names} has {len(found)} view transforms, expected exactly "
            "one."
        )
    return found[0]


def views_in(steps: Sequence[Any]) -> list:
    """Return the view transforms among the steps of a pipeline."""
    return [step for step in steps if _is_a(step, ViewTransform)]


def _kind(step: Any) -> Any:
    """Return the class of a step, a config or built."""
    if not isinstance(step, dict):
        return type(step)
    kind = step.get("type")
    return TRANSFORMS.get(kind) if isinstance(kind, str) else kind


def _is_a(step: Any, base: type) -> bool:
    kind = _kind(step)
    return isinstance(kind, type) and issubclass(kind, base)


# From a config ----------------------------------------------------------------


def processor_config(cfg: Any) -> dict:
    """Return the processor of a config in either form, without steps.

    Args:
        cfg (mmengine.Config): ``tokenizer`` and ``chat_template`` may stand in
            ``processor`` or at the top.

    Returns:
        dict: both keys may be None, for towers that are trained without text.

    Raises:
        ValueError: when they stand in both places and differ.
    """
    own = dict(cfg.get("processor") or {})
    for key in ("tokenizer", "chat_template"):
        top = cfg.get(key)
        if top is not None and own.get(key) not in (None, top):
            raise ValueError(
                f"{key} stands at the top level and in processor, and they differ; "
                "leave one out."
            )
        own[key] = top if own.get(key) is None else own[key]
    return {"type": "VLMProcessor", **own}


def steps_of(cfg: Any) -> dict[str, list]:
    """Return the steps of a config's processor by mode, as far as it has any."""
    orders = dict(generate=_LOADERS, train=("train_dataloader", *_LOADERS))
    found = {}
    for mode, names in orders.items():
        for _, steps in pipelines(cfg, *names):
            if any(_is_a(step, EncodeConversation) for step in steps):
                found.setdefault(mode, steps)
    return found


def _brings_tokens(model: Any, codec: Any) -> bool:
    """Whether the language model's new tokens, in their order, include a codec's."""
    new = getattr(getattr(model, "language_model", None), "new_tokens", None)
    built = CODECS.build(dict(codec)) if isinstance(codec, dict) else codec
    return new is not None and set(built.special_tokens) <= set(new.names)


def _with_codec(tokenizer: dict, codec: dict) -> dict:
    """Return a tokenizer's config that adds the codec's special tokens."""
    kind = tokenizer["type"]
    kind = TOKENIZERS.get(kind) if isinstance(kind, str) else kind
    if kind is None or "codec" not in inspect.signature(kind).parameters:
        return tokenizer
    return {"codec": codec, **tokenizer}


def pipelines(cfg: Any, *loaders: str) -> Iterator[tuple[str, list]]:
    """Yield path and steps of the pipelines that a config says.

    Args:
        cfg (mmengine.Config): with dataloaders.
        *loaders (str): names of those to look at; default: all, training first.
    """
    if cfg.get("processor"):
        config = {k: v for k, v in cfg["processor"].items() if k != "type"}
        config.update(tokenizer=None, chat_template=None)
        yield "processor", VLMProcessor(**config).steps["train"]
    for name in loaders or reversed(_LOADERS):
        yield from _below(cfg.get(name), name)


def _below(value: Any, path: str) -> Iterator[tuple[str, list]]:
    if isinstance(value, dict):
        if value.get("pipeline"):
            yield f"{path}.pipeline", value["pipeline"]
        for key, item in value.items():
            if key != "pipeline":
                yield from _below(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _below(item, f"{path}.{number}")


def with_pipeline(dataset: Any, processor: Any, mode: str) -> Any:
    """Return a dataset's config, in which readers without pipeline have a processor's.

    Args:
        dataset (dict): of a reader or a mixture.
        processor (VLMProcessor | None): one that its config wrote out gives steps.
        mode (str): of the steps.
    """
    if not isinstance(dataset, dict) or not getattr(processor, "gives_steps", False):
        return dataset
    dataset = dict(dataset)
    for key in ("dataset", "datasets"):
        inner = dataset.get(key)
        if isinstance(inner, list | tuple):
            dataset[key] = [with_pipeline(one, processor, mode) for one in inner]
        elif inner is not None:
            dataset[key] = with_pipeline(inner, processor, mode)
    kind = dataset.get("type")
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    if "pipeline" not in dataset and _takes(kind, "pipeline"):
        dataset["pipeline"] = steps_for(processor.steps[mode], mode)
    return dataset


def _takes(kind: Any, name: str) -> bool:
    """Whether a class, or a base of it, has such a parameter."""
    classes = [one for one in getattr(kind, "__mro__", ())[:-1]]
    return any(name in inspect.signature(one.__init__).parameters for one in classes)
