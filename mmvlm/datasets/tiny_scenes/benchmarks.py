"""TinyScenes as every benchmark's folder: what the configs of benchmarks read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmvlm.registry import SCENE_WRITERS

from .samples import SceneSample, training_samples
from .styles import PLAIN
from .writers.option_tsv import TABLES

#: Folder below the root (``data`` of the configs), format and its options.
SETS: tuple[tuple[str, str, dict], ...] = (
    ("vqav2", "vqav2", {}),
    *(("coco", name, {}) for name in ("okvqa", "aokvqa", "pope", "coco_captions")),
    *(
        ("refer", "refcoco", dict(name=name, by=by, image_format="jpg"))
        for name, by in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd"))
    ),
    ("refer", "grefcoco", dict(image_format="jpg")),
    *(
        ("", name, {})
        for name in (
            *("gqa", "textvqa", "vizwiz", "scienceqa", "textcaps", "mme", "lvis"),
            *("seed_bench", "ocrbench", "chartqa", "mmmu", "mm_vet", "mathvista"),
            *("reason_seg", "llava_questions", "doc_vqa", "grand_f"),
        )
    ),
    ("", "doc_vqa", dict(infographics=True)),
    *(
        ("", "llava_bench", dict(set_name=name))
        for name in ("wild", "coco", "refer_desc", "refer_reason", "ground_conv")
    ),
    ("", "option_tsv", dict(tables=tuple(TABLES))),
    ("", "flickr30k_entities", dict(image_format="jpg")),
    ("", "visual_genome", dict(image_format="jpg")),
)


def write_benchmarks(
    folder: str | os.PathLike,
    *,
    num: int,
    seed: int = 0,
    formats: Sequence[str] | None = None,
) -> list[str]:
    """Write scenes in the official layout of every benchmark, as ``data`` holds them.

    The configs of ``configs/_base_/benchmarks`` read the folder with
    ``--data-root``. A scene has several questions, as most public sets have, and
    belongs to no training set of the same seed.

    Args:
        folder (str | PathLike): stands for ``data``.
        num (int): scenes.
        seed (int): the same seed gives the same files.
        formats (Sequence[str] | None): only these formats; None writes all.

    Returns:
        list[str]: the folders that were written, below ``folder``.

    Raises:
        ValueError: for fewer scenes than MME has tasks.
    """
    if num < 14:
        raise ValueError(f"num={num}: expected at least 14, one per task of MME.")
    samples = _questioned(num, seed)
    written = []
    for home, name, options in SETS:
        if formats is not None and name not in formats:
            continue
        place = Path(folder, home)
        writer = SCENE_WRITERS.build(dict(type=name, folder=str(place), **options))
        if name in ("refcoco", "grefcoco"):
            half = len(samples) // 2
            writer.write("val", samples[:half])
            writer.write("test", samples[half:])
            writer.write_images(samples)
        else:
            writer.write("test", samples)
        written.append(home or name)
    _complete(Path(folder))
    return list(dict.fromkeys(written))


def _questioned(num: int, seed: int) -> list[SceneSample]:
    """Return test scenes with questions of training scenes that a word answers.

    Where something is, is answered in a phrase that begins with the question's own
    words: among other options it would be found without the image.
    """
    samples = training_samples(num, seed + 1_000_003, style=PLAIN)
    return [
        replace(
            one,
            id=one.id.replace("train", "test"),
            turns=tuple(turn for turn in one.turns if turn.task != "finding"),
        )
        for one in samples
    ]


def _complete(root: Path) -> None:
    """Add the splits and files that the writers of training formats leave out."""
    refer = root / "refer"
    if (refer / "images").is_dir():
        shutil.rmtree(refer / "train2014", ignore_errors=True)
        (refer / "images").rename(refer / "train2014")
    if (root / "visual_genome_test").is_dir():
        shutil.rmtree(root / "visual_genome", ignore_errors=True)
        (root / "visual_genome_test").rename(root / "visual_genome")
    if (root / "vqav2").is_dir():
        _hide_vqav2(root / "vqav2")
    if (root / "vizwiz").is_dir():
        rows = json.loads((root / "vizwiz/val.json").read_text(encoding="utf-8"))
        hidden = [dict(image=row["image"], question=row["question"]) for row in rows]
        _dump(root / "vizwiz/test.json", hidden)
        shutil.copytree(root / "vizwiz/val", root / "vizwiz/test", dirs_exist_ok=True)
    seg = root / "reason_seg/ReasonSeg"
    if seg.is_dir():
        shutil.copytree(seg / "val", seg / "test", dirs_exist_ok=True)
    captions = root / "coco/annotations/captions_val2017.json"
    if captions.is_file():
        _copy_captions(root, captions)


def _hide_vqav2(folder: Path) -> None:
    """Make the questions of test-dev of those of val."""
    name = "v2_OpenEnded_mscoco_{}_questions.json"
    table = json.loads((folder / name.format("val2014")).read_text(encoding="utf-8"))
    table["data_subtype"] = "test-dev2015"
    _dump(folder / name.format("test-dev2015"), table)
    (folder / "test2015").mkdir(exist_ok=True)
    for path in (folder / "val2014").iterdir():
        target = folder / "test2015" / path.name.replace("val2014", "test2015")
        shutil.copyfile(path, target)


def _copy_captions(root: Path, captions: Path) -> None:
    """Make NoCaps, Flickr30k and Karpathy's test of COCO of the captions of val."""
    table = json.loads(captions.read_text(encoding="utf-8"))
    images = captions.parents[1] / "val2017"
    for number, image in enumerate(table["images"]):
        image["domain"] = ("in-domain", "near-domain", "out-domain")[number % 3]
    for home, name, prefix in (
        ("coco", "coco_karpathy_test_gt.json", "val2014"),
        ("nocaps", "nocaps_val_4500_captions.json", "val"),
        ("flickr30k", "flickr30k_test_karpathy.json", "flickr30k-images"),
    ):
        _dump(root / home / name, table)
        shutil.copytree(images, root / home / prefix, dirs_exist_ok=True)


def _dump(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
