"""Inputs that are no images: from files to the arrays that an encoder takes."""

from __future__ import annotations

import copy
import os
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmvlm.registry import TRANSFORMS

from .audio import kaldi_fbank
from .loading import LoadImages, resolve_image_path


@dataclass
class Waveform:
    """Sound as it lies in a file.

    Args:
        samples (np.ndarray): (S,), float32 in -1 .. 1, channels averaged.
        sample_rate (int): samples per second.
    """

    samples: np.ndarray
    sample_rate: int


@TRANSFORMS.register_module()
class LoadMedia:
    """Load what ``Conversation.media`` names.

    Required keys: ``conversation``; for paths also ``image_root`` and
    ``data_root``. Added key: ``media``, by modality a list of inputs: an array
    (``.npy``), a :class:`Waveform` (``.wav``, 16-bit PCM), a (H, W, 3) uint8 RGB
    image (any other file), or a list of these for an input of several files.
    """

    def __init__(self) -> None:
        self._images = LoadImages()

    def __call__(self, item: dict) -> dict:
        """Return the item with ``media``.

        Raises:
            ValueError: naming the file, when it is missing, outside the data
                folder or damaged.
        """
        media = {
            name: [self._load(source, item) for source in sources]
            for name, sources in item["conversation"].media.items()
        }
        return {**item, "media": media}

    def plan(self, item: dict) -> dict:
        """Return the item as always: the length of an input is known once made."""
        return self(item)

    def _load(self, source: Any, item: dict) -> Any:
        if isinstance(source, list | tuple):
            return [self._load(one, item) for one in source]
        if not isinstance(source, str | os.PathLike):
            return source
        roots = (item.get("image_root", ""), item.get("data_root", ""))
        path = resolve_image_path(os.fspath(source), *roots)
        if not os.path.isfile(path):
            raise ValueError(f"input '{path}' does not exist.")
        kind = os.path.splitext(path)[1].lower()
        if kind == ".npy":
            return _load_array(path)
        if kind == ".wav":
            return _load_wave(path)
        return self._images._load(source, path, path)[0]


def _load_array(path: str) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"array '{path}' cannot be read: {error}") from error


def _load_wave(path: str) -> Waveform:
    try:
        with wave.open(path) as file:
            width, channels = file.getsampwidth(), file.getnchannels()
            rate, data = file.getframerate(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"sound '{path}' cannot be read: {error}") from error
    if width != 2:
        raise ValueError(
            f"sound '{path}' has {8 * width} bits per sample, expected 16."
        )
    samples = np.frombuffer(data, "<i2").reshape(-1, channels).mean(1) / 32768
    return Waveform(samples.astype(np.float32), rate)


@TRANSFORMS.register_module()
class FrameViews:
    """Bring the frames of an input to one size, with one crop for all.

    Required key: ``media``. Changed: the inputs of ``modalities`` become (T, 3, h, w)
    uint8 arrays, normalised on the device like images. Frames of another size
    than the first (a coarse depth map) are resized to it before.

    Args:
        modalities (Sequence[str]): which inputs are frames.
        view (dict | Any): a ``ViewTransform`` of one view per image.
    """

    def __init__(
        self, modalities: Sequence[str] = ("video", "rgbd", "rgbn"), view: Any = None
    ) -> None:
        view = dict(type="ResizeSquare") if view is None else view
        self.modalities = tuple(modalities)
        self.view = TRANSFORMS.build(dict(view)) if isinstance(view, dict) else view

    def bind(self, context: Any) -> None:
        """Let the view transform take size and filter."""
        self.view.bind(context)

    def __call__(self, item: dict) -> dict:
        """Return the item with its frames as arrays.

        Raises:
            ValueError: naming the modality, when an input is no list of images.
        """
        media = dict(item["media"])
        for name in set(self.modalities) & set(media):
            media[name] = [
                self._frames(frames, name, item.get("rng")) for frames in media[name]
            ]
        return {**item, "media": media}

    def plan(self, item: dict) -> dict:
        """Return the item as always: the length of an input is known once made."""
        return self(item)

    def _frames(self, frames: Any, name: str, rng: Any) -> np.ndarray:
        images = [frames] if _is_image(frames) else list(frames)
        if not images or not all(map(_is_image, images)):
            raise ValueError(
                f"{name}: an input must be (H, W, 3) uint8 images, one file each."
            )
        height, width = images[0].shape[:2]
        views = []
        for image in images:
            # The same random numbers for every frame give the same crop.
            same = copy.deepcopy(rng)
            view, _ = self.view.view(_resized(image, height, width), same)
            views.append(view)
        if rng is not None:
            rng.bit_generator.state = same.bit_generator.state
        return np.concatenate(views)


def _is_image(value: Any) -> bool:
    is_array = isinstance(value, np.ndarray) and value.dtype == np.uint8
    return is_array and value.ndim == 3 and value.shape[2] == 3


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    import cv2

    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


@TRANSFORMS.register_module()
class NormalizePoints:
    """Move point clouds to their centre of mass and scale them into the unit sphere.

    Required key: ``media``. Changed: channels 0 to 2 of every input of ``modality``,
    the coordinates; the others, such as colours, stay.

    Paper: OneLLM, arXiv 2312.03700 (its alignment stages).

    Args:
        modality (str): whose inputs are (P, C) points, C at least 3.
    """

    def __init__(self, modality: str = "point") -> None:
        self.modality = modality

    def __call__(self, item: dict) -> dict:
        """Return the item with its points normalised.

        Raises:
            ValueError: for an input that is no array of points.
        """
        if self.modality not in item["media"]:
            return item
        clouds = [self._normal(cloud) for cloud in item["media"][self.modality]]
        return {**item, "media": {**item["media"], self.modality: clouds}}

    def plan(self, item: dict) -> dict:
        """Return the item as it is: lengths do not change."""
        return item

    def _normal(self, cloud: Any) -> np.ndarray:
        if np.ndim(cloud) != 2 or not len(cloud) or np.shape(cloud)[1] < 3:
            raise ValueError(
                f"{self.modality}: an array of shape {np.shape(cloud)}, expected "
                "(points, channels) with coordinates in channels 0 to 2."
            )
        cloud = np.array(cloud, np.float32)
        cloud[:, :3] -= cloud[:, :3].mean(0)
        radius = np.linalg.norm(cloud[:, :3], axis=1).max()
        cloud[:, :3] /= max(radius, np.finfo(np.float32).tiny)
        return cloud


@TRANSFORMS.register_module()
class AudioFbank:
    """Turn sound into a normalised Kaldi filter-bank image.

    Required key: ``media``. Changed: inputs of ``audio`` become (1, bands, frames)
    float32. A :class:`Waveform` is analysed by :func:`kaldi_fbank`; an array is
    taken as such a result, (frames, bands), not normalised.

    Paper: OneLLM, arXiv 2312.03700 (which follows AST's preprocessing).

    Args:
        num_mel_bins (int): bands.
        num_frames (int): longer sounds are cut, shorter ones get zeros behind.
        sample_rate (int): of every file, per second.
        mean, std (float): (x - mean) / (2 * std).
        freq_mask, time_mask (int): training only: up to so many bands, frames
            are set to zero, at a random place (SpecAugment). 0 does nothing.
    """

    only_training = ("freq_mask", "time_mask")

    def __init__(
        self,
        num_mel_bins: int = 128,
        num_frames: int = 1024,
        sample_rate: int = 16000,
        *,
        mean: float = -4.2677393,
        std: float = 4.5689974,
        freq_mask: int = 0,
        time_mask: int = 0,
    ) -> None:
        self.num_mel_bins, self.num_frames = num_mel_bins, num_frames
        self.sample_rate = sample_rate
        self.mean, self.std = mean, std
        self.masks = (time_mask, freq_mask)

    def __call__(self, item: dict) -> dict:
        """Return the item with its sounds as arrays.

        Raises:
            ValueError: for another sample rate, or an array of another width.
        """
        media = dict(item["media"])
        if "audio" in media:
            rng = item.get("rng")
            media["audio"] = [self._features(sound, rng) for sound in media["audio"]]
        return {**item, "media": media}

    def plan(self, item: dict) -> dict:
        """Return the item as always: the length of an input is known once made."""
        return self(item)

    def _features(self, sound: Any, rng: np.random.Generator | None) -> np.ndarray:
        bank = np.zeros((self.num_frames, self.num_mel_bins), np.float32)
        found = self._bank(sound)[: self.num_frames]
        bank[: len(found)] = found
        for axis, most in enumerate(self.masks):
            if most:
                if rng is None:
                    raise ValueError("AudioFbank: masks need the item's 'rng'.")
                length = int(rng.uniform(0, most))
                start = int(rng.uniform(0, bank.shape[axis] - length))
                area = (slice(None),) * axis + (slice(start, start + length),)
                bank[area] = 0
        bank = (bank - self.mean) / (2 * self.std)
        return np.ascontiguousarray(bank.T[None], dtype=np.float32)

    def _bank(self, sound: Any) -> np.ndarray:
        if isinstance(sound, Waveform):
            if sound.sample_rate != self.sample_rate:
                raise ValueError(
                    f"audio: a file of {sound.sample_rate} Hz, expected "
                    f"{self.sample_rate} Hz; resample it."
                )
            samples = sound.samples - sound.samples.mean()
            return kaldi_fbank(samples, self.sample_rate, self.num_mel_bins)
        if np.ndim(sound) != 2 or sound.shape[1] != self.num_mel_bins:
            raise ValueError(
                f"audio: an array of shape {np.shape(sound)}, expected (frames, "
                f"{self.num_mel_bins}) as a filter bank gives it."
            )
        return sound
