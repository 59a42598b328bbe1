"""Whether samples are there once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dataset_doctor.rule import Rule, rule
from dataset_doctor.specimen import Specimen, digest_of


@rule
class SameId(Rule):
    """One id for two records: answers to them cannot be told apart."""

    name = "same id"
    level = "warning"
    order = 70
    shared = "the id"

    def keys(self, specimen: Specimen) -> Iterable[tuple[int, int]]:
        """Yield the id within its dataset, owned by the record."""
        if specimen.id:
            yield digest_of(specimen.dataset, specimen.id), specimen.index


@rule
class SameRecord(Rule):
    """Two records that say the same of the same image; the copy adds nothing."""

    name = "same record"
    order = 71
    shared = "all but the id"

    def keys(self, specimen: Specimen) -> Iterable[tuple[int, int]]:
        """Yield the content without its id, owned by dataset and record."""
        if specimen.conversation is None:
            return
        images = tuple(
            image.name if image.digest is None else image.digest
            for image in specimen.images
        )
        content = specimen.annotation
        if content is not None:
            content = replace(content, id="", image=None, meta={})
        else:
            talk = specimen.conversation
            content = talk.turns, [str(v) for v in talk.media.values()]
        owner = digest_of(specimen.dataset, specimen.index)
        yield digest_of(images, content), owner
