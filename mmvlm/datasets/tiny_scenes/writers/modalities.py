"""Depth maps and sounds of the scenes, with questions that only they answer."""

from __future__ import annotations

import json
import os
import wave
import zlib
from collections.abc import Sequence

import cv2
import numpy as np

from mmvlm.datasets.tiny_scenes.draw import opacity
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene import Scene, pick
from mmvlm.datasets.tiny_scenes.styles import ALL_COLOURS
from mmvlm.datasets.tiny_scenes.tasks import Question
from mmvlm.registry import SCENE_WRITERS

from .base import SceneWriter
from .llava_json import _talk

#: Grey level of a depth map by answer; the background is farther than all.
DISTANCES = {"near": 230, "middle": 160, "far": 90}
_BACKGROUND = 20
#: Each colour sounds as its own tone, Hertz.
_HERTZ = (300, 600, 1100, 1800, 2800, 4200, 5400, 6600)
TONES = dict(zip(ALL_COLOURS, _HERTZ, strict=True))
SAMPLE_RATE = 16000
_TONE_SECONDS, _GAP_SECONDS = 0.15, 0.05


def distances(sample: SceneSample) -> list[str]:
    """Draw how far each object is; the image says nothing of it."""
    rng = _generator(sample, 0)
    return [pick(tuple(DISTANCES), rng) for _ in sample.scene.objects]


def depth_map(sample: SceneSample) -> np.ndarray:
    """Draw every object in the grey of its distance: (S, S) uint8, near is bright."""
    rng = _generator(sample, 1)
    scene: Scene = sample.scene
    canvas = np.full((scene.size, scene.size), _BACKGROUND, np.float32)
    for item, distance in zip(scene.objects, distances(sample), strict=True):
        x1, y1, x2, y2 = item.box
        area = canvas[y1:y2, x1:x2]
        level = DISTANCES[distance] + rng.uniform(-12, 12)
        area += opacity(item) * (level - area)
    canvas += rng.normal(0, 3, canvas.shape)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def melody(sample: SceneSample) -> list[str]:
    """Return the colours in the order in which their tones sound."""
    colours = [item.colour for item in sample.scene.objects]
    return _generator(sample, 2).permutation(colours).tolist()


def sound(sample: SceneSample) -> np.ndarray:
    """Return a tone per object, one after the other: (samples,) float, -1 to 1."""
    rng = _generator(sample, 3)
    time = np.arange(int(_TONE_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    gap = np.zeros(int(_GAP_SECONDS * SAMPLE_RATE))
    parts = []
    for colour in melody(sample):
        phase, loud = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.4)
        parts += [loud * np.sin(2 * np.pi * TONES[colour] * time + phase), gap]
    samples = np.concatenate(parts)
    return samples + rng.normal(0, 0.005, len(samples))


def depth_questions(sample: SceneSample) -> list[Question]:
    """Ask how far every object is."""
    return [
        Question("depth", "distance", f"How far is the {item.reference}?", distance)
        for item, distance in zip(sample.scene.objects, distances(sample), strict=True)
    ]


def sound_questions(sample: SceneSample) -> list[Question]:
    """Ask for the number of tones, and which come first and last."""
    colours = melody(sample)
    count = str(len(colours))
    return [
        Question("sound", "tones", "How many tones sound?", count),
        Question("sound", "colour", "Which colour sounds first?", colours[0]),
        Question("sound", "colour", "Which colour sounds last?", colours[-1]),
    ]


def _generator(sample: SceneSample, purpose: int) -> np.random.Generator:
    key = zlib.crc32(repr((sample.id, sample.scene.noise_seed)).encode())
    return np.random.default_rng([key, purpose])


@SCENE_WRITERS.register_module(name="modalities")
class ModalitiesWriter(SceneWriter):
    """Write depth maps (PNG), sounds (WAV) and LLaVA JSON that names them.

    Training gives ``train_modalities.json``: three conversations per scene, about
    the image, about the image with its depth map (``rgbd``) and about the sound
    (``audio``), each with that input alone.
    Testing gives ``test_modalities.json``: every scene's own question about the
    image, one about depth and one about the sound. The images themselves are
    those of every other format.
    """

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write depth maps, sounds and the annotation file of a split."""
        records = []
        for sample in samples:
            depth, tones = self._paths(sample)
            self._write_depth(sample, depth)
            self._write_sound(sample, tones)
            image = self.image_path(sample)
            inputs = dict(image=image, rgbd=[[image, depth]], audio=tones)
            prompts = dict(
                image=list(sample.turns),
                rgbd=depth_questions(sample),
                audio=sound_questions(sample),
            )
            if split == "test":
                rng = _generator(sample, 4)
                prompts = {name: [pick(pool, rng)] for name, pool in prompts.items()}
            records += [
                self._record(sample, name, inputs[name], turns, split)
                for name, turns in prompts.items()
            ]
        name = f"{split}_modalities.json"
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            lines = ",\n".join(json.dumps(record) for record in records)
            file.write(f"[\n{lines}\n]\n")
        return [name]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of images, depth maps and sounds."""
        name = f"{split}_modalities.json"
        return [dict(type="LLaVADataset", data_root=self.folder, ann_file=name)]

    def _record(
        self,
        sample: SceneSample,
        modality: str,
        source: object,
        turns: Sequence[Question],
        split: str,
    ) -> dict:
        talk = _talk(f"<{modality}>\n{turns[0].text}", turns)
        record = {"id": f"{sample.id}-{modality}", modality: source}
        record["conversations"] = talk
        if split == "test":
            (question,) = turns
            record |= dict(task=question.task, form=question.form)
            record["size"] = [sample.scene.size] * 2
            if question.box is not None:
                record["box"] = list(question.box)
        return record

    def _paths(self, sample: SceneSample) -> tuple[str, str]:
        """Return the paths of depth map and sound below ``folder``."""
        stem = self.image_path(sample).removeprefix("images/").rsplit(".", 1)[0]
        paths = (f"depth/{stem}.png", f"audio/{stem}.wav")
        for path in paths:
            os.makedirs(os.path.dirname(os.path.join(self.folder, path)), exist_ok=True)
        return paths

    def _write_depth(self, sample: SceneSample, path: str) -> None:
        full = os.path.join(self.folder, path)
        if not cv2.imwrite(full, depth_map(sample), [cv2.IMWRITE_PNG_COMPRESSION, 1]):
            raise OSError(f"could not write the depth map '{full}'.")

    def _write_sound(self, sample: SceneSample, path: str) -> None:
        data = np.clip(np.rint(sound(sample) * 32767), -32768, 32767)
        with wave.open(os.path.join(self.folder, path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(data.astype("<i2").tobytes())
