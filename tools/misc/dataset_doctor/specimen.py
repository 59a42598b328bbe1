"""One sample, taken apart as far as its damage allows, for rules to look at."""

from __future__ import annotations

import copy
import hashlib
import io
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import PIL.Image

from mmvlm.datasets.bad_samples import DATA_ERRORS, reason_of
from mmvlm.datasets.transforms.conversation import EncodeConversation
from mmvlm.datasets.transforms.loading import LoadImages, resolve_image_path
from mmvlm.structures import AnnotatedImage, Conversation, Image, Region


@dataclass
class CheckedImage:
    """What was found out about one image of a sample.

    Args:
        name (str): path as the annotation gives it, or its number.
        size (tuple[int, int] | None): height and width; None when it is bad.
        digest (int | None): 64 bits of a hash of its content; None in a fast walk.
        reason (str | None): why it cannot be used.
    """

    name: str
    size: tuple[int, int] | None = None
    digest: int | None = None
    reason: str | None = None


@dataclass
class Specimen:
    """A sample with all that rules look at.

    Args:
        dataset (str): name of the dataset.
        index (int): number of the record in the file.
        id (str): as the file gives it.
        path (str): first image, or the annotation file.
        position (int): among the dataset's samples.
        training (bool): whether answers are trained (not hidden by a test split).
        record (Any): as the reader sees it.
        annotation (AnnotatedImage | None): what the record annotates.
        conversation (Conversation | None): None when the reader failed.
        images (list[Image]): of the conversation, in order.
        error (str | None): why the reader failed.
        left_out (str | None): what a sample that is left out on purpose counts as.
        fault (str | None): why a later step of the pipeline failed.
        num_tokens (int | None): before any cut; None where no tokenizer is bound.
        num_trained (int | None): of them.
        max_length (int | None): the pipeline's limit.
        overflow (str): what the pipeline does with longer samples.
        blamed (bool): whether a rule has found a problem already.
    """

    dataset: str
    index: int
    id: str
    path: str
    position: int
    training: bool = True
    record: Any = None
    annotation: AnnotatedImage | None = None
    conversation: Conversation | None = None
    images: list[CheckedImage] = field(default_factory=list)
    error: str | None = None
    left_out: str | None = None
    fault: str | None = None
    num_tokens: int | None = None
    num_trained: int | None = None
    max_length: int | None = None
    overflow: str = "error"
    blamed: bool = False

    @property
    def regions(self) -> list[Region]:
        """Regions of all turns, in order."""
        turns = self.conversation.turns if self.conversation else ()
        return [p for turn in turns for p in turn.parts if isinstance(p, Region)]

    def size_of(self, image: int) -> tuple[int, int] | None:
        """Return height and width of an image, as the image itself says."""
        if 0 <= image < len(self.images):
            return self.images[image].size
        return None


class Examiner:
    """Take samples of one dataset apart.

    Args:
        dataset (ConversationDataset): built, and bound where ``bound`` says so.
        decode (bool): decode every image and run the pipeline; else only its
            head is read.
        bound (bool): whether tokenizer and encoder are known to the pipeline.
        training (bool): whether the samples are to be trained on.
    """

    def __init__(
        self, dataset: Any, *, decode: bool, bound: bool, training: bool
    ) -> None:
        self.dataset, self.decode, self.bound = dataset, decode, bound
        steps = list(dataset.pipeline.transforms)
        loaders = [step for step in steps if isinstance(step, LoadImages)]
        self.loads = bool(loaders)
        self.loader = loaders[0] if loaders else LoadImages()
        encoders = [step for step in steps if isinstance(step, EncodeConversation)]
        self.limits = (None, "error")
        self.encoder = encoders[0] if encoders else None
        if encoders:
            self.limits = encoders[0].max_length, encoders[0].overflow
            training = encoders[0].mode == "train"
        self.training = training
        self.steps = [_without_limit(step) for step in steps]

    def __call__(self, position: int) -> Specimen:
        """Return the sample at ``position``; never raises for what is in the data."""
        facts = self.dataset.facts_at(position)
        specimen = Specimen(
            dataset=facts["dataset"],
            index=facts["index"],
            id=facts["sample_id"],
            path=facts["path"],
            position=position,
            training=self.training,
            max_length=self.limits[0],
            overflow=self.limits[1],
        )
        try:
            specimen.record = self.dataset.record_at(position)
            specimen.annotation = self.dataset.annotation_at(position)
            item = self.dataset.item_at(position)
        except Exception as error:
            specimen.left_out = getattr(error, "counted_as", None)
            specimen.error = _words(error)
            return specimen
        specimen.conversation = item["conversation"]
        arrays = [
            self._look(item, ref, specimen) for ref in item["conversation"].images
        ]
        whole = all(image.reason is None for image in specimen.images)
        if self.decode and self.bound and whole:
            self._run(item, arrays, specimen)
        return specimen

    def _look(self, item: dict, ref: Any, specimen: Specimen) -> np.ndarray | None:
        """Note what one image is; return its pixels when they were decoded."""
        number = len(specimen.images)
        image = CheckedImage(ref if isinstance(ref, str) else f"image {number}")
        specimen.images.append(image)
        try:
            if not self.decode:
                image.size = _head_size(item, ref)
                return None
            alone = Conversation([], [ref], specimen.id)
            (array,) = self.loader({**item, "conversation": alone})["images"]
        except Exception as error:
            image.reason = _words(error)
            return None
        image.size = array.shape[:2]
        image.digest = digest_of(array.shape, array.tobytes())
        return array

    def _run(self, item: dict, arrays: list, specimen: Specimen) -> None:
        """Run the pipeline, with no limit of length, and note lengths or the fault."""
        if self.loads:
            item["conversation"] = replace(item["conversation"], images=arrays)
        for step in self.steps:
            try:
                item = step(item)
            except Exception as error:
                specimen.left_out = getattr(error, "counted_as", None)
                specimen.fault = f"{type(step).__name__}: {_words(error)}"
                return
            if specimen.num_tokens is None and "encoded" in item:
                encoded = item["encoded"]
                specimen.num_tokens = len(encoded)
                if self.encoder is not None:
                    specimen.max_length = self.encoder.limit(encoded)
                specimen.num_trained = int((encoded.labels >= 0).sum())


def digest_of(*values: Any) -> int:
    """Return 63 bits that differ for different values."""
    digest = hashlib.blake2b(digest_size=8)
    for value in values:
        data = (
            value
            if isinstance(value, bytes)
            else repr(value).encode("utf-8", "replace")
        )
        digest.update(len(data).to_bytes(8, "little") + data)
    return int.from_bytes(digest.digest(), "little") >> 1


def _words(error: Exception) -> str:
    """Return an error in words; a fault of the code says so."""
    known = isinstance(error, DATA_ERRORS) or hasattr(error, "counted_as")
    return reason_of(error) if known else f"fault of the code: {reason_of(error)}"


def _without_limit(step: Any) -> Any:
    """Return the step, or a copy of the encoder that takes any length."""
    if not isinstance(step, EncodeConversation) or step.max_length is None:
        return step
    step = copy.copy(step)
    step.max_length = None
    return step


def _head_size(item: dict, ref: Any) -> tuple[int, int]:
    """Return height and width from an image's head alone."""
    if isinstance(ref, np.ndarray):
        return ref.shape[:2]
    source = ref
    if isinstance(ref, str):
        source = resolve_image_path(ref, item["image_root"], item["data_root"])
    elif isinstance(ref, bytes):
        source = io.BytesIO(ref)
    try:
        with PIL.Image.open(source) as image:
            return image.height, image.width
    except FileNotFoundError as error:
        raise ValueError(f"image '{source}' does not exist.") from error
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"image cannot be opened: {error}") from error


def spoken_texts(conversation: Conversation) -> list[tuple[int, str]]:
    """Return (number of the turn, text) of all texts and phrases."""
    found = []
    for number, turn in enumerate(conversation.turns):
        for part in turn.parts:
            text = getattr(part, "text", None) or getattr(part, "phrase", None)
            if isinstance(text, str):
                found.append((number, text))
    return found


def images_of(conversation: Conversation) -> list[int]:
    """Return the indices of all placeholders."""
    return [
        p.index for t in conversation.turns for p in t.parts if isinstance(p, Image)
    ]
