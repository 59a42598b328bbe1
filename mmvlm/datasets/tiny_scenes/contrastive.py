"""Images with the phrases that are true of them, for contrastive pretraining."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch.utils.data import Dataset

from mmvlm.registry import DATASETS, FUNCTIONS
from mmvlm.structures import VLMDataSample


@DATASETS.register_module()
class ImagePhraseDataset(Dataset):
    """Reader of ``[{"id", "image", "phrases": [{"kind", "text"}, ...]}, ...]``.

    Args:
        ann_file (str): annotation file, relative to ``data_root``.
        data_root (str): folder of annotations and images.
        image_prefix (str): folder that image paths are relative to.
        cache (bool): keep decoded images in memory.

    Raises:
        FileNotFoundError: when the annotation file is missing.
    """

    def __init__(
        self,
        ann_file: str,
        *,
        data_root: str = "",
        image_prefix: str = "",
        cache: bool = True,
    ) -> None:
        path = os.path.join(data_root, ann_file)
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"ImagePhraseDataset: annotation file '{path}' does not exist. Write "
                "it with tools/dataset_converters/make_tiny_scenes.py."
            )
        with open(path, encoding="utf-8") as file:
            self.records = json.load(file)
        self.image_root = os.path.join(data_root, image_prefix)
        kinds = {p["kind"] for record in self.records for p in record["phrases"]}
        self.kinds = sorted(kinds)
        self._pixels: dict[int, np.ndarray] | None = {} if cache else None
        self._ids: dict[str, tuple[int, ...]] = {}
        self._tokenizer: Any = None
        self._size: int | None = None

    def bind(self, context: Any) -> None:
        """Take the tokenizer and the encoder's image size."""
        self._tokenizer = context.tokenizer
        self._size = None if context.spec is None else context.spec.image_size

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict:
        """Return ``pixel_values`` (3, S, S) uint8, ``phrases`` and the sample.

        ``phrases`` is a list of (token ids, number of the kind).

        Raises:
            RuntimeError: before :meth:`bind`.
            ValueError: when the image is no square, or smaller than what the
                encoder takes; a larger one is made smaller.
        """
        if self._tokenizer is None:
            raise RuntimeError("ImagePhraseDataset: call bind(context) first.")
        record = self.records[index]
        phrases = [
            (self._encode(phrase["text"]), self.kinds.index(phrase["kind"]))
            for phrase in record["phrases"]
        ]
        sample = VLMDataSample()
        sample.set_field(record["id"], "sample_id", field_type="metainfo")
        return dict(
            pixel_values=torch.from_numpy(self._load(index)),
            phrases=phrases,
            data_samples=sample,
        )

    def _load(self, index: int) -> np.ndarray:
        if self._pixels is not None and index in self._pixels:
            return self._pixels[index]
        record = self.records[index]
        path = os.path.join(self.image_root, record["image"])
        with PIL.Image.open(path) as image:
            image = image.convert("RGB")
            if self._size is not None and image.width == image.height > self._size:
                image = image.resize((self._size, self._size), PIL.Image.BICUBIC)
            array = np.asarray(image)
        if self._size is not None and array.shape[:2] != (self._size, self._size):
            raise ValueError(
                f"sample '{record['id']}': '{path}' has {array.shape[:2]} pixels, the "
                f"encoder takes ({self._size}, {self._size})."
            )
        array = np.ascontiguousarray(array.transpose(2, 0, 1))
        if self._pixels is not None:
            self._pixels[index] = array
        return array

    def _encode(self, text: str) -> tuple[int, ...]:
        if text not in self._ids:
            ids = self._tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
            self._ids[text] = tuple(ids)
        return self._ids[text]


@FUNCTIONS.register_module()
def collate_phrases(items: list[dict]) -> dict:
    """Join images; each different phrase of the batch appears once.

    Args:
        items (list[dict]): of :class:`ImagePhraseDataset`.

    Returns:
        dict: ``inputs`` with ``pixel_values`` (B, 3, S, S) uint8, ``phrase_ids``
        and ``phrase_mask`` (P, L), ``is_true`` (B, P) bool, ``group`` (P,) int64;
        and ``data_samples``.
    """
    numbers: dict[tuple, int] = {}
    pairs = [
        (row, numbers.setdefault(phrase, len(numbers)))
        for row, item in enumerate(items)
        for phrase in item["phrases"]
    ]
    is_true = torch.zeros(len(items), len(numbers), dtype=torch.bool)
    is_true[tuple(torch.tensor(pairs).T)] = True
    longest = max(len(ids) for ids, _ in numbers)
    phrase_ids = torch.zeros(len(numbers), longest, dtype=torch.int64)
    phrase_mask = torch.zeros(len(numbers), longest, dtype=torch.bool)
    for row, (ids, _) in enumerate(numbers):
        phrase_ids[row, : len(ids)] = torch.tensor(ids)
        phrase_mask[row, : len(ids)] = True
    inputs = dict(
        pixel_values=torch.stack([item["pixel_values"] for item in items]),
        phrase_ids=phrase_ids,
        phrase_mask=phrase_mask,
        is_true=is_true,
        group=torch.tensor([kind for _, kind in numbers]),
    )
    return dict(inputs=inputs, data_samples=[item["data_samples"] for item in items])
