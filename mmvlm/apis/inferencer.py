"""Talk to a model from Python: images, sounds and texts in, texts and regions out."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import torch
from mmengine.config import Config

from mmvlm.apis.loading import LoadedModel, load_model
from mmvlm.apis.streaming import predict_alone, stream_reply
from mmvlm.registry import INFERENCERS
from mmvlm.structures import Conversation, Region, VLMBatch, VLMDataSample
from mmvlm.text.prompts import History, Prompt, ask
from mmvlm.text.region_prompts import region_of

#: EXIF tag.
_ORIENTATION = 0x0112


@INFERENCERS.register_module()
class VLMInferencer:
    """A loaded model that answers questions about images and other inputs.

    Questions go through the config's own processor (see :class:`VLMProcessor`), so
    that a chat sees what the model was trained on: an image's EXIF orientation turns
    it only where the config's ``LoadImages`` says ``exif="apply"``.

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
        from mmvlm.datasets.transforms.loading import LoadImages
        from mmvlm.datasets.transforms.media import LoadMedia

        self.loaded = loaded
        self.cfg, self.model = loaded.cfg, loaded.model
        self.processor = loaded.processor
        self.system = system
        self.generation = dict(generation or {})
        steps = self.processor.pipeline("generate").transforms
        load = next((s for s in steps if isinstance(s, LoadImages)), LoadImages())
        self._load_images = copy.copy(load)
        # Users point at pixels of the whole image.
        self._load_images.draft = None
        self._load_media = LoadMedia()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.loaded.device

    # Questions ------------------------------------------------------------

    def chat(
        self,
        image: Any,
        prompt: Prompt | Conversation,
        history: History = (),
        *,
        media: Mapping[str, Sequence[Any]] | None = None,
        regions: Sequence[Any] | Mapping[int, Any] = (),
        **generation: Any,
    ) -> str:
        """Answer the next question of a dialogue.

        Args:
            image (Any): path, PIL image, (H, W, 3) or (H, W) uint8 array, a list
                of them, or None for text only. They stand in front of the first
                question, or where the texts write ``<image>``.
            prompt (str | Sequence | Conversation): the question: a text, parts in
                order such as ``[{"audio": "a.wav"}, "Who speaks in", {"box":
                (9, 9, 80, 60)}, "?"]`` (see :func:`mmvlm.text.prompts.ask`), or a
                whole conversation, which goes without the other arguments.
            history (Sequence[tuple[str, str | VLMDataSample]]): questions and replies
                so far. Give what :meth:`answer` returned: a ``[SEG]`` that a reply
                only quotes then stays text; in a text all that it spells are tokens.
            media (Mapping[str, Sequence] | None): other inputs by modality
                (``{"audio": ["a.wav"]}``), placed as images are.
            regions (Sequence | Mapping[int, Any]): what ``<region1>``, ``<region2>``,
                ... in the questions stand for: ``{"box": (x1, y1, x2, y2)}``,
                ``{"point": (x, y)}``, ``{"mask": file or array}`` or a
                :class:`Region`, in pixels of the file as it is stored (turned, where
                the config turns images by EXIF).
            **generation: ``max_new_tokens``, ``do_sample``, ``temperature``, ...
        """
        inputs = dict(media=media, regions=regions)
        return self.answer(image, prompt, history, **inputs, **generation).pred_text

    def answer(
        self,
        image: Any,
        prompt: Prompt | Conversation,
        history: History = (),
        *,
        media: Mapping[str, Sequence[Any]] | None = None,
        regions: Sequence[Any] | Mapping[int, Any] = (),
        **generation: Any,
    ) -> VLMDataSample:
        """Answer as :meth:`chat` does, and say what is known of the reply.

        Returns:
            VLMDataSample: ``pred_text``, ``pred_regions`` (in pixels of the image),
            ``pred_spans`` (where they stand in the text), ``pred_quoted`` (tokens
            that it only spells), ``problems``, ``pred_ids`` and ``finish``.
        """
        talk = self.conversation(image, prompt, history, media=media, regions=regions)
        return self._predict([talk], generation)[0]

    def stream(
        self,
        image: Any,
        prompt: Prompt | Conversation,
        history: History = (),
        *,
        media: Mapping[str, Sequence[Any]] | None = None,
        regions: Sequence[Any] | Mapping[int, Any] = (),
        **generation: Any,
    ) -> Iterator[str]:
        """Answer as :meth:`chat` does, piece by piece.

        The pieces joined are what :meth:`chat` returns.

        Yields:
            str: text that will not change any more.

        Returns:
            VLMDataSample: see :meth:`answer`.
        """
        talk = self.conversation(image, prompt, history, media=media, regions=regions)
        data = self._collate([talk])
        options = {**self.generation, **generation}
        return (yield from stream_reply(self.model, self.processor, data, options))

    def caption(
        self, image: Any, prompt: str = "Describe the image.", **generation: Any
    ) -> str:
        """Describe an image."""
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
            replies += [s.pred_text for s in self._predict(talks, generation)]
        return replies

    # Inputs ---------------------------------------------------------------

    def conversation(
        self,
        image: Any,
        prompt: Prompt | Conversation,
        history: History = (),
        *,
        media: Mapping[str, Sequence[Any]] | None = None,
        regions: Sequence[Any] | Mapping[int, Any] = (),
        number: int = 0,
    ) -> Conversation:
        """Build the conversation of a question; see :meth:`chat`.

        Raises:
            ValueError: when the texts show another number of inputs, an input cannot
                be read, or the model has no vision encoder for images.
        """
        if isinstance(prompt, Conversation):
            if image is not None or history or media or regions:
                raise ValueError("a Conversation holds its images and turns itself.")
            images = [self.read_image(source) for source in prompt.images]
            others = {
                name: [self._read(name, source) for source in sources]
                for name, sources in prompt.media.items()
            }
            talk = replace(prompt, images=images, media=others)
        else:
            images = [] if image is None else image
            images = list(images) if isinstance(images, list | tuple) else [images]
            talk = ask(
                prompt,
                {"image": images, **(media or {})},
                history,
                regions=regions,
                system=self.system,
                sample_id=f"question {number}",
                read=self._read,
            )
        if talk.images and self.processor.spec is None:
            raise ValueError("an image was given, but the model has no vision_encoder.")
        return talk

    def read_image(self, source: Any) -> np.ndarray:
        """Decode an image as the config's pipeline does.

        A warning names a file whose EXIF orientation that pipeline ignores: a viewer
        shows it turned, the model as it is stored.

        Shape:
            - output: (H, W, 3), uint8, RGB

        Raises:
            ValueError: naming the file, when it is missing or no image.
        """
        if isinstance(source, np.ndarray) and source.ndim == 2:
            source = np.stack([source] * 3, axis=-1)
        root, source = _located(source)
        talk = Conversation.from_texts("", images=[source])
        item = dict(conversation=talk, image_root=root, data_root=root)
        image = self._load_images(item)["images"][0]
        path = os.path.join(root, source) if isinstance(source, str) else ""
        if self._load_images.exif == "ignore" and _is_turned(path):
            warnings.warn(
                f"'{path}': its EXIF orientation is ignored, as in training; a viewer "
                "shows it turned. Store it upright, or give the config's LoadImages "
                "exif='apply' if the model was trained so.",
                stacklevel=2,
            )
        return image

    def read_region(
        self, image: np.ndarray | None, source: Any, what: str = "region"
    ) -> Region:
        """Return a region of an image as :meth:`chat` takes it.

        Args:
            image (np.ndarray | None): of :meth:`read_image`.
            source (Any): box, point or mask, see :meth:`chat`.
            what (str): names it in messages.

        Raises:
            ValueError: for a region that does not fit, or without image.
        """
        images = [] if image is None else [image]
        return region_of(source, images, 0, self._read, what)

    def _read(self, name: str, source: Any) -> Any:
        """Load the source of an input of any modality, files wherever they lie."""
        if name == "image":
            return self.read_image(source)
        if name == "mask":
            from mmvlm.datasets.io.mask_files import read_mask

            is_file = isinstance(source, str | os.PathLike)
            return read_mask(source) if is_file else source
        if isinstance(source, list | tuple):
            return [self._read(name, one) for one in source]
        root, source = _located(source)
        talk = Conversation([], media={name: [source]})
        item = dict(conversation=talk, image_root=root, data_root=root)
        return self._load_media(item)["media"][name][0]

    def encode(self, conversations: Sequence[Conversation]) -> VLMBatch:
        """Make the batch of prompts that the model takes, on its device."""
        return self._collate(conversations)["inputs"]

    def _collate(self, conversations: Sequence[Conversation]) -> dict:
        from mmvlm.datasets.collate import collate_flat

        items = [
            self.processor(conversation, "generate", index=number)
            for number, conversation in enumerate(conversations)
        ]
        return self.model.data_preprocessor(collate_flat(items), False)

    def _predict(
        self, conversations: Sequence[Conversation], generation: dict
    ) -> list[VLMDataSample]:
        options = {**self.generation, **generation}
        return predict_alone(self.model, **self._collate(conversations), **options)


def _is_turned(path: str) -> bool:
    """Whether a file's EXIF orientation is another than as it is stored."""
    try:
        with PIL.Image.open(path) as image:
            return image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    except Exception:  # no file; what is wrong with its EXIF does not concern a chat
        return False


def _located(source: Any) -> tuple[str, Any]:
    """Return folder and name of a file; another source is returned as it is."""
    if not isinstance(source, str | os.PathLike):
        return "", source
    return os.path.split(os.path.abspath(os.path.expanduser(os.fspath(source))))
