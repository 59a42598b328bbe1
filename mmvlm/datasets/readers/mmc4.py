"""Reader of MMC4's documents."""

from __future__ import annotations

import os
from typing import Any

from mmvlm.datasets.io.annotation_files import is_finite_number, need, need_text
from mmvlm.datasets.io.file_patterns import expand_files
from mmvlm.datasets.io.json_tables import index_of, others_of, record_of, texts_of
from mmvlm.registry import DATASETS

from .interleaved import ChainedLines, Document, InterleavedDataset

_PLACES = ("before", "after")


@DATASETS.register_module()
class MMC4Dataset(InterleavedDataset):
    """MMC4: documents of sentences, each image matched to one of them.

    Lines of ``docs_shard_<n>_v2.jsonl`` are ``{"text_list", "image_info":
    [{"image_name", "raw_url", "matched_text_index", "matched_sim"}], "url",
    "similarity_matrix", ...}``. ``image_name`` is a path below ``image_prefix``.
    Paper: Zhu et al., NeurIPS 2023.

    Args:
        ann_file (str): a file, a folder, or a pattern (see :func:`expand_files`).
        min_similarity (float): images whose ``matched_sim`` is lower are left out
            (counted as ``similarity``); OpenFlamingo takes 0.24.
        image_place (str): ``before`` or ``after`` the sentence it belongs to.
        name (str | None): None takes the stem of ``ann_file``.
        **kwargs: see :class:`InterleavedDataset`.

    Raises:
        FileNotFoundError: when files are missing.
        ValueError: for an unknown ``image_place``; naming a file that cannot be read.
    """

    def __init__(
        self,
        ann_file: str,
        *,
        min_similarity: float = 0.0,
        image_place: str = "before",
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if image_place not in _PLACES:
            raise ValueError(
                f"image_place={image_place!r}: expected one of {list(_PLACES)}."
            )
        self.min_similarity, self.image_place = float(min_similarity), image_place
        root = kwargs.get("data_root") or ""
        files = expand_files(root, ann_file, (".jsonl",))
        self.files = [os.path.join(root, file) for file in files]
        stem = os.path.splitext(os.path.basename(ann_file.rstrip("/")))[0]
        super().__init__(files[0], name=name or stem, **kwargs)
        self.ann_file = os.path.join(root, ann_file)

    def _sources(self) -> list[str]:
        return self.files

    def _open(self) -> ChainedLines:
        return ChainedLines(self.files)

    def _raw(self, row: int) -> Any:
        return self._records.rows[row]

    def _document(self, raw: dict) -> Document:
        texts = texts_of(raw, "text_list")
        document = Document(
            [],
            id=str(raw.get("url", "")),
            meta=others_of(raw, "text_list", "image_info", "similarity_matrix", "url"),
        )
        at: dict[int, list[tuple[str, float]]] = {}
        for item in need(raw, "image_info", list):
            item = record_of(item)
            place = index_of(item, "matched_text_index", len(texts))
            score = need(item, "matched_sim", (int, float))
            if not is_finite_number(score):
                raise ValueError(f"'matched_sim' is {score}, no finite number.")
            if score < self.min_similarity:
                document.left_out["similarity"] += 1
                continue
            at.setdefault(place, []).append((need_text(item, "image_name"), score))
        for place, text in enumerate(texts):
            shown = at.get(place, [])
            document.scores += [score for _, score in shown]
            images = [("image", name) for name, _ in shown]
            sentence = [("text", text)] if text.strip() else []
            order = (
                images + sentence if self.image_place == "before" else sentence + images
            )
            document.items += order
        return document
