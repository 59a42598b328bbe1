"""Reader of Flickr30k as Shikra flattened it: marked phrases and box numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.annotated import AnnotatedImageDataset, damaged
from mmvlm.datasets.io.annotation_files import InstanceList, need, need_text
from mmvlm.datasets.io.jsonl import JSONLines
from mmvlm.registry import DATASETS
from mmvlm.structures import AnnotatedImage, Caption, Span

_MARK = re.compile(r"<ph_st>|<ph_ed>")


@DATASETS.register_module()
class ShikraFlickr30kDataset(AnnotatedImageDataset):
    """Captions with marked phrases (``CWB_flickr30k_train.jsonl``).

    A line is ``{"id": 0, "image_id": "1000092795", "boxes": [[x1, y1, x2, y2], ...],
    "sentence": "<ph_st>Two men<ph_ed> in a yard .", "boxes_seq": [[0, 1]]}``: the n-th
    list of ``boxes_seq`` has the boxes of the n-th marked phrase. One was taken from
    all coordinates of Flickr30k Entities, so samples equal those of
    :class:`Flickr30kEntitiesDataset` with ``minus_one``; phrases without a box are not
    marked.

    Source: github.com/shikras/shikra. Paper: Chen et al., "Shikra", 2023, arXiv
    2306.15195.

    Args:
        ann_file (str): see above.
        image_suffix (str): of the images, which are named by ``image_id``.
        **kwargs: see :class:`AnnotatedImageDataset`.

    Raises:
        ValueError: for a file that cannot be read, naming it.
    """

    default_task: ClassVar[dict] = dict(type="GroundedCaption")

    def __init__(
        self, ann_file: str, *, image_suffix: str = ".jpg", **kwargs: Any
    ) -> None:
        self.image_suffix = image_suffix
        super().__init__(ann_file, **kwargs)

    def _row_options(self) -> dict:
        return dict(image_suffix=self.image_suffix)

    def _flatten(self) -> Iterator[dict]:
        lines = JSONLines(self.ann_file)
        for number in range(len(lines)):
            line = lines[number]
            try:
                if line.reason is not None:
                    raise ValueError(line.reason)
                name = str(need(line.value, "image_id", (str, int)))
                yield dict(
                    line.value,
                    id=str(line.value.get("id", number)),
                    image=f"{name}{self.image_suffix}",
                    sentence=need_text(line.value, "sentence"),
                    boxes=need(line.value, "boxes", list),
                    boxes_seq=need(line.value, "boxes_seq", list),
                )
            except ValueError as error:
                yield damaged(f"line {line.number}", str(error))

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        instances = InstanceList(size)
        indices = [instances.add(box) for box in row["boxes"]]
        caption = Caption(*grounded_text(row["sentence"], row["boxes_seq"], indices))
        known_fields = ("id", "image", "sentence", "boxes", "boxes_seq")
        meta = {key: value for key, value in row.items() if key not in known_fields}
        return AnnotatedImage(
            row["image"],
            size,
            tuple(instances.items),
            captions=(caption,),
            id=row["id"],
            meta={**meta, **instances.meta},
        )


def unmark(sentence: str) -> tuple[str, list[tuple[int, int]]]:
    """Return a sentence without its marks, and start and end of what was marked.

    Raises:
        ValueError: for marks that do not come in pairs.

    Example:
        >>> unmark("<ph_st>Two men<ph_ed> in a yard .")
        ('Two men in a yard .', [(0, 7)])
    """
    marks, pieces = _MARK.findall(sentence), _MARK.split(sentence)
    if marks != ["<ph_st>", "<ph_ed>"] * (len(marks) // 2):
        raise ValueError(f"marks of phrases do not come in pairs in {sentence!r:.100}.")
    text, places = pieces[0], []
    for inside, outside in zip(pieces[1::2], pieces[2::2], strict=True):
        places.append((len(text), len(text) + len(inside)))
        text += inside + outside
    return text, places


def grounded_text(
    marked: str, sequences: list, indices: list[int | None]
) -> tuple[str, tuple[Span, ...]]:
    """Return a text without marks, and its phrases with the instances they mean.

    Args:
        marked (str): with ``<ph_st>`` and ``<ph_ed>`` around phrases.
        sequences (list): per phrase the numbers of its boxes, or one number.
        indices (list[int | None]): instance of each box; None: it was damaged.

    Raises:
        ValueError: for other phrases than sequences, or a number without box.
    """
    text, places = unmark(marked)
    if len(places) != len(sequences):
        raise ValueError(
            f"{len(places)} marked phrases, but {len(sequences)} lists of boxes."
        )
    spans = []
    for place, sequence in zip(places, sequences, strict=True):
        numbers = sequence if isinstance(sequence, list) else [sequence]
        known = range(len(indices))
        if not all(type(number) is int and number in known for number in numbers):
            raise ValueError(
                f"a phrase has the boxes {sequence!r:.60}, but there are "
                f"{len(indices)}."
            )
        found = (indices[number] for number in numbers)
        spans.append(Span(*place, tuple(i for i in found if i is not None)))
    return text, tuple(spans)
