"""Every format that TinyScenes is written in, on disk; shared by suites over all."""

from dataclasses import dataclass, field
from pathlib import Path

from mmvlm.datasets.processor import VLMProcessor
from mmvlm.datasets.tiny_scenes.samples import test_samples as held_out
from mmvlm.datasets.tiny_scenes.samples import training_samples
from mmvlm.registry import CHAT_TEMPLATES, DATASETS, SCENE_WRITERS, TRANSFORMS
from mmvlm.structures import PatchTokenCount, VisionEncoderSpec
from mmvlm.text.tiny_tokenizer import train_tiny_tokenizer

NUM_SCENES = 12
SPLITS = ("train", "test")

SCENE_WRITERS.import_from_location()
FORMATS = sorted(SCENE_WRITERS.module_dict)
CASES = [(name, split) for name in FORMATS for split in SPLITS]


@dataclass
class Format:
    """One format on disk."""

    folder: Path
    readers: dict[str, list[dict]] = field(default_factory=dict)


def scenes(split):
    train = list(training_samples(NUM_SCENES, 3))
    if split == "train":
        return train
    return list(held_out(NUM_SCENES, 3, taken={s.scene.key for s in train}))


def write_format(name, folder):
    writer = SCENE_WRITERS.build(dict(type=name, folder=str(folder)))
    for split in SPLITS:
        writer.write_images(scenes(split))
        writer.write(split, scenes(split))
    return Format(Path(folder), {split: writer.readers(split) for split in SPLITS})


def build(config, **kwargs):
    return DATASETS.build({**config, **kwargs})


def tiny_context(texts, **template):
    template = CHAT_TEMPLATES.build(template or dict(type="vicuna_v1"))
    specials = [token for token in template.special_tokens if token != "</s>"]
    tokenizer = train_tiny_tokenizer(texts, vocab_size=400, special_tokens=specials)
    spec = VisionEncoderSpec(width=8, num_layers=2, patch_size=8, image_size=48)
    count = PatchTokenCount(8)
    names = ("image", "audio", "rgbd")
    return VLMProcessor(tokenizer, template, spec, count, modalities=names)


def pipeline(codec="ShikraCodec", **encode):
    """Images, views, regions as text, tokens."""
    steps = [dict(type="LoadImages"), dict(type="ResizeSquare")]
    if TRANSFORMS.get("WriteRegions") is not None:
        options = dict(geometry="stretch") if codec == "ShikraCodec" else {}
        steps.append(dict(type="WriteRegions", codec=dict(type=codec, **options)))
    return [*steps, dict(type="EncodeConversation", **encode)]


def is_document(dataset):
    """Whether samples are one answer that nobody asked for (interleaved sets)."""
    roles = [turn.role for turn in dataset.item_at(0)["conversation"].turns]
    return roles == ["assistant"]


def has_media(dataset):
    return any(
        dataset.item_at(position)["conversation"].media
        for position in range(min(3, len(dataset)))
    )
