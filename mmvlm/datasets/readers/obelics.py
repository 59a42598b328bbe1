"""Reader of OBELICS' documents."""

from __future__ import annotations

import json
import os
from typing import Any

from mmvlm.datasets.io.annotation_files import need
from mmvlm.datasets.io.arrow_rows import ArrowRows
from mmvlm.datasets.io.file_patterns import expand_files
from mmvlm.datasets.io.json_tables import load_table
from mmvlm.registry import DATASETS

from .interleaved import ChainedLines, Document, InterleavedDataset

_COLUMNS = ("images", "texts", "metadata", "general_metadata")


@DATASETS.register_module()
class OBELICSDataset(InterleavedDataset):
    """OBELICS: documents as two lists side by side.

    A row is ``{"images": [url | null, ...], "texts": [text | null, ...], "metadata",
    "general_metadata"}``, both texts of JSON; at each place either the image or the
    text is given. Parquet files as on the hub, or JSON lines. Images are URLs:
    ``image_map`` is a JSON object of URL to path below ``image_prefix``; without it an
    entry is such a path itself. Nothing is ever fetched. Paper: Laurencon et al.,
    NeurIPS 2023.

    Args:
        ann_file (str): a file, a folder of Parquet files, or a pattern (see
            :func:`expand_files`) of ``.parquet`` or ``.jsonl``.
        image_map (str | None): file of URLs and paths. A URL that it lacks counts as a
            missing image.
        name (str | None): None takes the stem of ``ann_file``.
        **kwargs: see :class:`InterleavedDataset`.

    Raises:
        FileNotFoundError: when files are missing.
        ValueError: naming a file that cannot be read, or lacks ``images`` or ``texts``.
    """

    def __init__(
        self,
        ann_file: str,
        *,
        image_map: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        root = kwargs.get("data_root") or ""
        files = expand_files(root, ann_file, (".parquet",))
        self.files = [os.path.join(root, file) for file in files]
        self.image_map, self._map_files = None, []
        if image_map is not None:
            self._map_files = [os.path.join(root, image_map)]
            self.image_map = load_table(self._map_files[0], dict)
        stem = os.path.splitext(os.path.basename(ann_file.rstrip("/")))[0]
        super().__init__(files[0], name=name or stem, **kwargs)
        self.ann_file = os.path.join(root, ann_file)

    def _sources(self) -> list[str]:
        return [*self.files, *self._map_files]

    def _open(self) -> ChainedLines | ArrowRows:
        if not self.files[0].endswith(".parquet"):
            return ChainedLines(self.files)
        rows = ArrowRows(self.files)
        missing = sorted({"images", "texts"} - set(rows.schema.names))
        if missing:
            raise ValueError(
                f"no columns {missing} in '{self.files[0]}'; it has "
                f"{rows.schema.names}."
            )
        return rows

    def _raw(self, row: int) -> dict:
        rows = self._records.rows
        if isinstance(rows, ChainedLines):
            return rows[row]
        names = [name for name in _COLUMNS if name in rows.schema.names]
        cells = rows.cells(row, names)
        return {name: cells[name].as_py() for name in names}

    def _document(self, raw: dict) -> Document:
        images, texts = need(raw, "images", list), need(raw, "texts", list)
        if len(images) != len(texts):
            raise ValueError(f"{len(images)} images beside {len(texts)} texts.")
        document = Document([], meta=_meta(raw))
        document.id = str(document.meta.get("url", ""))
        for place, (image, text) in enumerate(zip(images, texts, strict=True)):
            content = [x for x in (image, text) if x is not None]
            if len(content) != 1 or not isinstance(content[0], str):
                raise ValueError(
                    f"place {place} must hold either an image or a text, got "
                    f"{image!r:.60} and {text!r:.60}."
                )
            if text is not None:
                document.items += [("text", text)] if text.strip() else []
                continue
            path = image if self.image_map is None else self.image_map.get(image)
            if path is None and self.missing_images == "drop":
                document.left_out["no file"] += 1
                continue
            if not isinstance(path, str) or not path:
                raise ValueError(f"image_map has no path of {image!r:.120}.")
            document.items.append(("image", path))
        return document


def _meta(raw: dict) -> dict:
    """Return the document's own facts; those of each image stay behind."""
    content = raw.get("general_metadata")
    if isinstance(content, str):
        try:
            content = json.loads(content)
        except ValueError as error:
            raise ValueError(f"'general_metadata' is no JSON text: {error}.") from error
    return dict(content) if isinstance(content, dict) else {}
