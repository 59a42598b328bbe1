"""Reader of ReasonSeg: questions that take thought, answered with masks."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from mmengine.logging import print_log

from mmvlm.datasets.annotated import AnnotatedImageDataset, damaged
from mmvlm.registry import DATASETS
from mmvlm.structures import AnnotatedImage, Instance, VisualQuestion
from mmvlm.structures.masks import draw_outlined, mask_to_rle, rle_area, rle_box

_IGNORE = 255


@DATASETS.register_module()
class ReasonSegDataset(AnnotatedImageDataset):
    """ReasonSeg: ``<split>/<name>.jpg`` with ``<split>/<name>.json`` beside it.

    A file holds ``text`` (1 to 5 wordings of one question), ``is_sentence`` and
    ``shapes`` (``label``, ``points``). Shapes labelled ``flag`` are left out; those
    whose label contains ``ignore`` are not scored; all others are the target. They are
    drawn in order of decreasing area, so that a small one lies on top, filled and
    with an outline of one pixel, coordinates cut to whole numbers: LISA's mask to the
    pixel. Files are UTF-8, or else cp1252 (``meta["encoding"]``; their number is
    logged).

    The annotation has one instance, the target, with its RLE and ``meta["shapes"]``
    (the polygons as the file gives them); ``meta["ignore"]`` of the annotation is the
    RLE of what is not scored, or None. Without a target shape there is no instance,
    and nothing to ask.

    Paper: Lai et al., "LISA: Reasoning Segmentation via Large Language Model", CVPR
    2024, arXiv 2308.00692.

    Args:
        ann_file (str): folder of the split, relative to ``data_root``; images lie in
            it, whatever ``image_prefix`` is.
        explanatory_file (str | None): ``explanatory/train.json``, a list of
            ``{"image", "query", "outputs"}``: ``outputs`` become the rationale of all
            questions about that image.
        is_sentence (bool | None): only files whose question is a sentence (LISA's
            long queries) or a phrase (its short ones); None takes both. What it leaves
            out is counted and logged.
        **kwargs: see :class:`AnnotatedImageDataset`.

    Raises:
        FileNotFoundError: when the folder or the explanatory file is missing.
        ValueError: when the explanatory file is damaged, or the folder has no JSON.
    """

    reads_folder = True
    default_task: ClassVar[dict] = dict(type="ReasoningSegmentation")

    def __init__(
        self,
        ann_file: str,
        *,
        explanatory_file: str | None = None,
        is_sentence: bool | None = None,
        **kwargs: Any,
    ) -> None:
        self.is_sentence = is_sentence
        root = kwargs.get("data_root") or ""
        self.explanatory_file = None
        if explanatory_file is not None:
            self.explanatory_file = os.path.join(root, explanatory_file)
            if not os.path.isfile(self.explanatory_file):
                raise FileNotFoundError(
                    f"explanatory_file '{self.explanatory_file}' does not exist."
                )
        kwargs["image_prefix"] = ann_file
        super().__init__(ann_file, **kwargs)

    def _sources(self) -> list[str]:
        files = [os.path.join(self.ann_file, f"{stem}.json") for stem in self._stems()]
        extra = [self.explanatory_file] if self.explanatory_file else []
        return [self.ann_file, *files, *extra]

    def _row_options(self) -> dict:
        explained = self.explanatory_file is not None
        return dict(explanatory=explained, is_sentence=self.is_sentence)

    def _stems(self) -> list[str]:
        names = sorted(os.listdir(self.ann_file))
        return [name[:-5] for name in names if name.endswith(".json")]

    def _flatten(self) -> Iterable[dict]:
        reasons = _read_explanatory(self.explanatory_file)
        stems, old, left_out = self._stems(), 0, 0
        if not stems:
            raise ValueError(f"folder '{self.ann_file}' has no .json file.")
        for stem in stems:
            path = os.path.join(self.ann_file, f"{stem}.json")
            try:
                content, encoding = _read_json(path)
            except ValueError as error:
                yield damaged(stem, str(error))
                continue
            old += encoding == "cp1252"
            own = content.get("is_sentence") if isinstance(content, dict) else None
            if self.is_sentence is not None and own is (not self.is_sentence):
                left_out += 1
                continue
            image = f"{stem}.jpg"
            yield dict(
                id=stem,
                image=image,
                content=content,
                encoding=encoding,
                reason=reasons.get(image, ""),
            )
        print_log(
            f"dataset '{self.name}': {len(stems)} files, {old} of them in cp1252"
            + (f", {left_out} left out by is_sentence." if left_out else "."),
            logger="current",
            level=logging.INFO,
        )

    def _num_words(self, record: dict) -> int:
        content = record.get("content")
        texts = content.get("text") if isinstance(content, dict) else None
        texts = texts if isinstance(texts, list) else []
        return sum(len(text.split()) for text in texts if isinstance(text, str))

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        content = row["content"]
        texts, is_sentence, shapes = _fields(content)
        mask = draw_shapes(shapes, size)
        target, ignore = mask_to_rle(mask == 1), mask_to_rle(mask == _IGNORE)
        instances = ()
        if rle_area(target):
            box, kept = rle_box(target), dict(shapes=shapes)
            instances = (Instance(box, rle=target, id=str(row["id"]), meta=kept),)
        found = tuple(range(len(instances)))
        questions = tuple(
            VisualQuestion(
                text,
                instances=found,
                rationale=row["reason"],
                id=f"{row['id']}/{number}",
                meta=dict(is_sentence=is_sentence),
            )
            for number, text in enumerate(texts)
        )
        known = ("text", "is_sentence", "shapes")
        meta = {key: content[key] for key in content if key not in known}
        meta |= dict(
            ignore=ignore if rle_area(ignore) else None,
            is_sentence=is_sentence,
            encoding=row["encoding"],
        )
        return AnnotatedImage(
            row["image"], size, instances, questions=questions, id=row["id"], meta=meta
        )


def draw_shapes(shapes: list[dict], size: tuple[int, int]) -> np.ndarray:
    """Return ReasonSeg's mask: (H, W) uint8 of 0, 1 (target) and 255 (not scored).

    Args:
        shapes (list[dict]): with ``label`` and ``points``, pairs x, y.
        size (tuple[int, int]): height and width.
    """
    kept = [shape for shape in shapes if shape["label"].lower() != "flag"]
    areas = []
    for shape in kept:
        alone = np.zeros(size, np.uint8)
        draw_outlined(alone, shape["points"], 1)
        areas.append(int(alone.sum()))
    mask = np.zeros(size, np.uint8)
    # The order of equal areas is part of the official rule.
    for number in np.argsort(areas)[::-1].astype(int):
        value = _IGNORE if "ignore" in kept[number]["label"].lower() else 1
        draw_outlined(mask, kept[number]["points"], value)
    return mask


def _fields(content: Any) -> tuple[list[str], bool, list[dict]]:
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object, got {content!r:.60}.")
    missing = {"text", "is_sentence", "shapes"} - set(content)
    if missing:
        raise ValueError(f"no field {sorted(missing)}; the file has {sorted(content)}.")
    texts, is_sentence = content["text"], content["is_sentence"]
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts:
        raise ValueError(f"'text' must be a list of questions, got {texts!r:.60}.")
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"'text' holds no text or an empty one: {texts!r:.80}.")
    if not isinstance(is_sentence, bool):
        raise ValueError(f"'is_sentence' must be true or false, got {is_sentence!r}.")
    if not isinstance(content["shapes"], list):
        raise ValueError(f"'shapes' must be a list, got {content['shapes']!r:.60}.")
    for number, shape in enumerate(content["shapes"]):
        _check_shape(shape, f"shape {number}")
    return [text.strip() for text in texts], is_sentence, content["shapes"]


def _check_shape(shape: Any, where: str) -> None:
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
        raise ValueError(f"{where}: expected 'label' and 'points', got {shape!r:.60}.")
    points = shape.get("points")
    if not isinstance(points, list) or not points:
        raise ValueError(
            f"{where}: 'points' must be a list of x, y, got {points!r:.60}."
        )
    for point in points:
        pair = isinstance(point, list) and len(point) == 2
        if not pair or not all(_is_coordinate(value) for value in point):
            raise ValueError(
                f"{where}: a point must be two finite numbers x, y, got {point!r:.60}."
            )


def _is_coordinate(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < 2**20  # false for NaN; OpenCV draws no further


def _read_json(path: str) -> tuple[Any, str]:
    """Return what a file holds and its encoding."""
    with open(path, "rb") as file:
        raw = file.read()
    try:
        text, encoding = raw.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        try:
            text, encoding = raw.decode("cp1252"), "cp1252"
        except UnicodeDecodeError as error:
            raise ValueError(
                f"'{path}' is neither UTF-8 nor cp1252 text: {error}."
            ) from error
    try:
        return json.loads(text), encoding
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"'{path}' is not valid JSON: {error}.") from error


def _read_explanatory(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    items, _ = _read_json(path)
    wrong = "expected a list of objects with 'image' and 'outputs'"
    if not isinstance(items, list):
        raise ValueError(f"'{path}': {wrong}, got {type(items).__name__}.")
    reasons = {}
    for number, item in enumerate(items):
        fields = item if isinstance(item, dict) else {}
        texts = [fields.get(key) for key in ("image", "outputs")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"'{path}', item {number}: {wrong}, got {item!r:.80}.")
        reasons[os.path.basename(texts[0])] = texts[1]
    return reasons
