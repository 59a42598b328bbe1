"""Reader of gRefCOCO: expressions that mean several objects, one, or none."""

from __future__ import annotations

from typing import Any, ClassVar

from mmvlm.datasets.io.annotation_files import need
from mmvlm.registry import DATASETS
from mmvlm.structures import AnnotatedImage, Expression

from .refcoco import (
    RefCOCODataset,
    RefTables,
    is_id,
    ref_instance,
    sentence_text,
)

#: ``ann_id`` of a ref that means nothing in its image.
NO_TARGET = -1


@DATASETS.register_module()
class GRefCOCODataset(RefCOCODataset):
    """Expressions with any number of targets, over RefCOCO's images.

    The layout is RefCOCO's, but for the refs' ``ann_id`` and ``category_id``, which are
    lists, ``[-1]`` for an expression without a target::

        grefcoco/grefs(unc).json   # or .p: who calls which objects what
        grefcoco/instances.json    # COCO: images, annotations, categories

    Objects are instances without phrases; what is said of them stands in
    :attr:`AnnotatedImage.expressions`. Crowds are no targets, as in the authors' code.

    Source: github.com/henghuiding/gRefCOCO. Paper: Liu et al., "GRES: Generalized
    Referring Expression Segmentation", CVPR 2023, arXiv 2306.00968.

    Args:
        ann_file (str): ``grefcoco/grefs(unc).json``.
        **kwargs: see :class:`RefCOCODataset`; the splits are ``train``, ``val``,
            ``testA`` and ``testB``, and ``per="image"`` joins all expressions of an
            image.

    Raises:
        ValueError: see :class:`RefCOCODataset`.
    """

    default_task: ClassVar[dict] = dict(type="GeneralizedSegmentation")

    def _ann_ids(self, ref: Any) -> list:
        return _listed(ref)

    def _join(self, first: dict, other: dict) -> None:
        """Add the expressions of one row, and their objects, to those of another."""
        places = {one["ann_id"]: number for number, one in enumerate(first["objects"])}
        for one in other["objects"]:
            if one["ann_id"] not in places:
                places[one["ann_id"]] = len(places)
                first["objects"].append(one)
        own = [places[one["ann_id"]] for one in other["objects"]]
        first["expressions"] += [
            {**one, "objects": own} for one in other["expressions"]
        ]

    def _image_id(self, row: dict) -> int | str:
        return row["image_id"]

    def _rows(self, ref: dict, ref_id: str, tables: RefTables) -> list[dict]:
        """Return the rows of one ref: one, or one per sentence."""
        image_id = need(ref, "image_id", (int, str))
        things = _targets(ref, tables, image_id)
        sentences = need(ref, "sentences", list)
        said = [
            dict(
                text=sentence_text(one, self.text_field),
                id=need(one, "sent_id", (int, str)),
                objects=list(range(len(things))),
            )
            for one in sentences
        ]
        if not said:
            raise ValueError("'sentences' is empty.")
        row = dict(
            id=ref_id,
            **tables.image(image_id),
            image_id=image_id,
            split=ref["split"],
            ref_id=need(ref, "ref_id", (int, str)),
            objects=things,
            expressions=said,
        )
        if self.per != "sentence":
            return [row]
        return [{**row, "id": str(one["id"]), "expressions": [one]} for one in said]

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        expressions = tuple(
            Expression(one["text"], tuple(one["objects"]), str(one["id"]))
            for one in row["expressions"]
        )
        first = row["expressions"][0]
        meta = dict(image_id=row["image_id"], split=row["split"])
        if self.per == "image":
            meta["question_id"] = row["image_id"]
        else:
            meta.update(ref_id=row["ref_id"], question_id=row["ref_id"])
        if self.per == "sentence":
            meta.update(question_id=first["id"], expression=first["text"])
        return AnnotatedImage(
            row["image"],
            size,
            tuple(ref_instance(one, size, self.evaluate) for one in row["objects"]),
            expressions=expressions,
            id=row["id"],
            meta=meta,
        )


def _listed(ref: Any) -> list:
    """Return the ids of a ref's objects; earlier releases write one as a number."""
    found = ref.get("ann_id") if isinstance(ref, dict) else None
    return found if isinstance(found, list) else [found]


def _targets(ref: dict, tables: RefTables, image_id: int | str) -> list[dict]:
    """Return what rows say of the objects that a ref means.

    Raises:
        ValueError: when one is not there, or the list is empty without saying so.
    """
    need(ref, "ann_id", (int, str, list))
    ids = _listed(ref)
    if ids == [NO_TARGET]:
        return []
    wrong = [one for one in ids if not is_id(one) or one == NO_TARGET]
    if wrong or not ids:
        raise ValueError(
            f"'ann_id' is {ref['ann_id']!r:.60}, expected ids, or [{NO_TARGET}]."
        )
    things = [tables.thing(one, image_id) for one in dict.fromkeys(ids)]
    kept = [one for one in things if not one["iscrowd"]]
    if not kept:
        raise ValueError(f"'ann_id' {ids} names crowds alone, which are no targets.")
    return kept
