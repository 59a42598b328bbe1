"""A whole TinyScenes dataset on disk."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path

from mmvlm.registry import CHAT_TEMPLATES, SCENE_WRITERS
from mmvlm.text.tiny_tokenizer import train_tiny_tokenizer

from .samples import test_samples, training_samples
from .styles import PLAIN, STYLES, SceneStyle
from .writers.base import ImageDrawing
from .writers.llava_json import LLaVAJSONWriter

#: Ids of the tokenizer; every word of TinyScenes becomes one token.
VOCAB_SIZE = 640
_FOLDERS = {
    "tiny_scenes": "",
    "tiny_scenes_fine": "--style fine --num 24000 --num-test 2000",
    "tiny_scenes_tangled": "--style tangled --num 24000 --num-test 1000 "
    "--format llava refcoco ferret_grit",
}
#: Formats with regions or masks that configs read.
_REGION_FORMATS = ("refcoco", "ade20k", "reason_seg", "ferret_grit")


def make_tiny_scenes(
    folder: str | os.PathLike,
    *,
    num_train: int,
    num_test: int,
    seed: int = 0,
    formats: tuple[str, ...] = ("llava", "densefusion"),
    image_format: str = "png",
    chat_template: str = "vicuna_v1",
    style: str = PLAIN.name,
    prompted_share: float = 0.0,
) -> dict:
    """Write images, annotations and a tokenizer.

    Args:
        folder (str | PathLike): made when missing; files there are replaced.
        num_train (int): training scenes, each with many questions.
        num_test (int): test questions, each with a scene of its own.
        seed (int): the same seed gives the same files.
        formats (tuple[str, ...]): names in ``SCENE_WRITERS``.
        image_format (str): ``png`` or ``jpg``.
        chat_template (str): the tokenizer holds its special tokens.
        style (str): ``plain`` (one to three large objects, 48 pixels), ``fine``
            (half of the writing small, drawn at twice the size), ``tangled`` (two
            things in every box, 96 pixels) or ``single`` (one large shape).
        prompted_share (float): share of the short conversations of the format
            ``llava`` that ask as benchmarks do, for a word or the letter of an option.

    Returns:
        dict: what was written; also in ``tiny_scenes.json``, which is written last.

    Raises:
        KeyError: for an unknown format or style.
        ValueError: for numbers below 1, or a share outside 0-1.
    """
    if num_train < 1 or num_test < 1:
        raise ValueError(f"num_train={num_train}, num_test={num_test}: expected >= 1.")
    unknown = [name for name in formats if name not in SCENE_WRITERS]
    if unknown:
        raise KeyError(
            f"formats={list(formats)}: no writer for {unknown}; registered: "
            f"{sorted(SCENE_WRITERS.module_dict)}."
        )
    if style not in STYLES:
        raise KeyError(f"style='{style}': expected one of {list(STYLES)}.")
    folder, world = Path(folder), STYLES[style]
    options = dict(folder=str(folder), image_format=image_format)
    llava = LLaVAJSONWriter(**options, prompted_share=prompted_share)
    writers = {name: SCENE_WRITERS.build(dict(options, type=name)) for name in formats}
    if "llava" in writers:
        writers["llava"] = llava
    train, files = _write(writers, num_train, num_test, seed, world)
    _train_tokenizer(llava, train[:4000], chat_template)
    summary = dict(
        num_train=num_train,
        num_test=num_test,
        seed=seed,
        formats=list(formats),
        image_format=image_format,
        files=files,
        tokenizer="tokenizer",
    )
    if style != PLAIN.name:
        summary["style"] = style
    if prompted_share:
        summary["prompted_share"] = prompted_share
    text = json.dumps(summary, indent=2) + "\n"
    (folder / "tiny_scenes.json").write_text(text, encoding="utf-8")
    return summary


def _write(
    writers: dict, num_train: int, num_test: int, seed: int, style: SceneStyle
) -> tuple[list, dict[str, list[str]]]:
    """Write images and annotations; returns training samples, and files by format."""
    files: dict[str, list[str]] = {}
    with ExitStack() as stack:
        train = training_samples(num_train, seed, style=style)
        # Images that most formats name are drawn once, and as soon as may be.
        shared = [one for one in writers.values() if not one.has_own_images]
        if shared:
            drawing = ImageDrawing(shared[0], num_train + num_test)
            train = stack.enter_context(drawing).passing(train)
        train = list(train)
        taken = {sample.scene.key for sample in train}
        test = test_samples(num_test, seed, taken=taken, style=style)
        test = list(drawing.passing(test) if shared else test)
        for name, writer in writers.items():
            for split, samples in (("train", train), ("test", test)):
                if writer.has_own_images:
                    writer.write_images(samples)
                files.setdefault(name, []).extend(writer.write(split, samples))
    return train, files


def maker_of(folder: str, file: str = "") -> str | None:
    """Return the command that writes a TinyScenes folder, with a certain file.

    Args:
        folder (str): root of the dataset, or one below it; None is returned when
            none of its parts has the name of a TinyScenes folder.
        file (str): name of an annotation file in it.
    """
    path = Path(os.path.normpath(folder))
    roots = [one for one in (path, *path.parents) if one.name in _FOLDERS]
    if not roots:
        return None
    options = [_FOLDERS[roots[0].name]]
    within = f"{path.relative_to(roots[0])}/{file}"
    if "modalities" in file:
        options.append("--format llava densefusion modalities")
    elif "--format" not in options[0] and any(one in within for one in _REGION_FORMATS):
        options.append(f"--format llava densefusion {' '.join(_REGION_FORMATS)}")
    script = "python tools/dataset_converters/make_tiny_scenes.py"
    return " ".join(filter(None, [script, *options, f"--out {roots[0]}"]))


def _train_tokenizer(
    writer: LLaVAJSONWriter, samples: list, chat_template: str
) -> None:
    """Train the tokenizer on what is said and what the template adds."""
    template = CHAT_TEMPLATES.build(dict(type=chat_template))
    texts: list[str] = []
    for sample in samples:
        texts += [f" {p['text']}" for p in writer._phrases(sample)["phrases"]]
    for record in writer._conversations(samples):
        for turn in record["conversations"]:
            speaker = " USER: " if turn["from"] == "human" else " ASSISTANT: "
            texts.append(speaker + turn["value"].removeprefix("<image>"))
    train_tiny_tokenizer(
        texts,
        vocab_size=VOCAB_SIZE,
        special_tokens=[t for t in template.special_tokens if t != "</s>"],
        save_dir=Path(writer.folder, "tokenizer"),
    )
