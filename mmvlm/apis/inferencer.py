"""Talk to a model from Python: pictures and texts in, texts out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from mmvlm.apis.loading import LoadedModel, find_pipeline, load_model, view_config
from mmvlm.apis.streaming import stream_reply
from mmvlm.datasets.transforms.conversation import ONLY_TRAINING
from mmvlm.registry import INFERENCERS
from mmvlm.structures import Conversation, VLMBatch

IMAGE_TAG = "<image>"
History = Sequence[tuple[str, str]]


@INFERENCERS.register_module()
class VLMInferencer:
    """A loaded model that answers questions about pictures.

    Pictures go through the decoding and the view transform of the config's own
    test pipeline (val or train if it has none), prompts through its chat template,
    so that a chat sees what the model was trained on.

    Args:
        config (str | PathLike | Config): a work dir or a checkpoint in one, a
            config file or the name of a shipped one.
        checkpoint (str | PathLike | None): of mmvlm; None takes the newest of a
            work dir, beside a config the pretrained weights that it names.
        device (str | torch.device | None): None takes CUDA if there is one.
        dtype (torch.dtype | None): of the weights; None keeps the config's.
        cfg_options (dict | None): as ``--cfg-options``.
        tiny (bool): the config's tiny twin.
        system (str | None): system text in place of the template's own.
        generation (dict | None): over ``model.generation`` of the config.

    Example:
        >>> talk = VLMInferencer("work_dirs/my_config")  # doctest: +SKIP
        >>> talk.chat("cat.jpg", "What is this?")  # doctest: +SKIP
        'A cat.'

    """

    def __init__(
        self,
        config: str | os.PathLike | Config,
        checkpoint: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        *,
        dtype: torch.dtype | None = None,
        cfg_options: dict | None = None,
        tiny: bool = False,
        system: str | None = None,
        generation: dict | None = None,
    ) -> None:
        loaded = load_model(
            config,
            checkpoint,
            device=device,
            dtype=dtype,
            cfg_options=cfg_options,
            tiny=tiny,
        )
        self._setup(loaded, system, generation)

    @classmethod
    def from_loaded(
        cls,
        loaded: LoadedModel,
        *,
        system: str | None = None,
        generation: dict | None = None,
    ) -> VLMInferencer:
        """Make an inferencer of a model that is in memory already."""
        self = cls.__new__(cls)
        self._setup(loaded, system, generation)
        return self

    def _setup(
        self, loaded: LoadedModel, system: str | None, generation: dict | None
    ) -> None:
        from mmvlm.datasets.transforms.compose import Compose

        self.loaded = loaded
        self.cfg, self.model, self.context = loaded.cfg, loaded.model, loaded.context
        self.system = system
        self.generation = dict(generation or {})
        self.steps = prompt_pipeline(self.cfg, self.context.spec is not None)
        self._loader = Compose(self.steps[:1])
        self._pipeline = Compose(self.steps)
        self._pipeline.bind(self.context)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.loaded.device

    # Questions ------------------------------------------------------------

    def chat(
        self,
        image: Any,
        prompt: str,
        history: History = (),
        **generation: Any,
    ) -> str:
        """Answer the next question of a dialogue.

        Args:
            image (Any): path, PIL image, (H, W, 3) or (H, W) uint8 array, a list
                of them, or None for text only. They stand in front of the first
                question, or where the texts write ``<image>``.
            prompt (str): the question.
            history (Sequence[tuple[str, str]]): questions and answers so far.
            **generation: ``max_new_tokens``, ``do_sample``, ``temperature``, ...

        """
        batch = self.encode([self.conversation(image, prompt, history)])
        return self._predict(batch, generation)[0]

    def stream(
        self,
        image: Any,
        prompt: str,
        history: History = (),
        **generation: Any,
    ) -> Iterator[str]:
        """Answer as :meth:`chat` does, piece by piece.

        The pieces joined are what :meth:`chat` returns.

        Yields:
            str: text that will not change any more.

        """
        batch = self.encode([self.conversation(image, prompt, history)])
        options = {**self.generation, **generation}
        yield from stream_reply(self.model, self.context, batch, options)

    def caption(
        self, image: Any, prompt: str = "Describe the image.", **generation: Any
    ) -> str:
        """Describe a picture."""
        return self.chat(image, prompt, **generation)

    def __call__(
        self,
        images: Sequence[Any],
        prompts: str | Sequence[str],
        batch_size: int = 1,
        **generation: Any,
    ) -> list[str]:
        """Answer many questions, each alone.

        Args:
            images (Sequence): per question what :meth:`chat` takes.
            prompts (str | Sequence[str]): one for all, or one per entry.
            batch_size (int): questions per forward pass.
            **generation: see :meth:`chat`.

        Returns:
            list[str]: replies in the order of the questions.

        Raises:
            ValueError: when the lists differ in length.

        """
        images = list(images)
        prompts = [prompts] * len(images) if isinstance(prompts, str) else list(prompts)
        if len(prompts) != len(images):
            raise ValueError(f"{len(images)} images but {len(prompts)} prompts.")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}, expected at least 1.")
        replies: list[str] = []
        for start in range(0, len(images), batch_size):
            rows = range(start, min(start + batch_size, len(images)))
            talks = [self.conversation(images[i], prompts[i], number=i) for i in rows]
            replies += self._predict(self.encode(talks), generation)
        return replies

    # Inputs ---------------------------------------------------------------

    def conversation(
        self, image: Any, prompt: str, history: History = (), *, number: int = 0
    ) -> Conversation:
        """Build the conversation of a question; see :meth:`chat`.

        Raises:
            ValueError: when the texts show another number of pictures, or a
                picture cannot be read.

        """
        from mmvlm.text.llava_format import parse_llava_conversation

        images = [] if image is None else image
        images = list(images) if isinstance(images, list | tuple) else [images]
        if images and self.context.spec is None:
            raise ValueError(
                "a picture was given, but the model has no vision_encoder."
            )
        pictures = [self.read_image(source) for source in images]
        texts = [text for turn in history for text in turn] + [prompt]
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"a turn is a {type(text).__name__}, expected text.")
        if pictures and not any(IMAGE_TAG in text for text in texts[::2]):
            texts[0] = f"{IMAGE_TAG}\n" * len(pictures) + texts[0]
        entries = [
            {"from": ("human", "gpt")[place % 2], "value": text}
            for place, text in enumerate(texts)
        ]
        if self.system is not None:
            entries.insert(0, {"from": "system", "value": self.system})
        record = dict(id=f"question {number}", conversations=entries)
        return parse_llava_conversation(record, images=pictures)

    def read_image(self, source: Any) -> np.ndarray:
        """Decode a picture as the config's pipeline does.

        Shape:
            - output: (H, W, 3), uint8, RGB

        Raises:
            ValueError: naming the file, when it is missing or no picture.

        """
        root = ""
        if isinstance(source, str | os.PathLike):
            path = os.path.abspath(os.path.expanduser(os.fspath(source)))
            root, source = os.path.split(path)
        elif isinstance(source, np.ndarray) and source.ndim == 2:
            source = np.stack([source] * 3, axis=-1)
        talk = Conversation.from_texts("", images=[source])
        item = dict(conversation=talk, image_root=root, data_root=root)
        return self._loader(item)["images"][0]

    def encode(self, conversations: Sequence[Conversation]) -> VLMBatch:
        """Make the batch of prompts that the model takes, on its device."""
        return self._collate(conversations)["inputs"]

    def _collate(self, conversations: Sequence[Conversation]) -> dict:
        from mmvlm.datasets.collate import collate_flat

        items = [
            self._pipeline(
                dict(
                    conversation=conversation,
                    dataset="chat",
                    index=number,
                    image_root="",
                    data_root="",
                    rng=np.random.default_rng(0),
                )
            )
            for number, conversation in enumerate(conversations)
        ]
        return self.model.data_preprocessor(collate_flat(items), False)

    def _predict(self, batch: VLMBatch, generation: dict) -> list[str]:
        options = {**self.generation, **generation}
        samples = self.model.predict(batch, None, **options)
        return [sample.pred_text for sample in samples]


def prompt_pipeline(cfg: Config, with_vision: bool = True) -> list[dict]:
    """Return the steps that turn a question into a packed prompt.

    Decoding, view transform and encoding are the config's own; what only training
    needs (length limits, augmentations) is left out. Pictures are turned as their EXIF
    orientation says: the user asks about what a viewer shows.

    Args:
        cfg (Config): with a pipeline in one of its dataloaders.
        with_vision (bool): whether the model takes pictures.

    """
    steps = find_pipeline(cfg)
    loader = next((s for s in steps if s["type"] == "LoadImages"), None)
    encode = next((s for s in steps if s["type"] == "EncodeConversation"), None)
    asked = [s for s in steps if s["type"] == "TokenizeInstructions"]
    fields = {k: v for k, v in (encode or {}).items() if k not in ONLY_TRAINING}
    return [
        dict(loader or dict(type="LoadImages"), exif="apply"),
        *([view_config(steps)] if with_vision else []),
        *(asked if with_vision else []),
        dict(fields, type="EncodeConversation", mode="generate"),
        dict(type="PackVLMInputs"),
    ]
