"""Whether reader and pipeline get through a sample."""

from __future__ import annotations

from collections.abc import Iterable

from dataset_doctor.rule import Rule, rule
from dataset_doctor.specimen import Specimen


@rule
class Readable(Rule):
    """The reader makes a conversation of the record."""

    name = "readable"
    order = 0
    # Errors that no other rule claims end here.
    claims = ""


@rule
class Pipeline(Rule):
    """Every step of the pipeline takes the sample."""

    name = "pipeline"
    # Last: a fault that another rule explained better is not told twice.
    order = 65

    def check(self, specimen: Specimen) -> Iterable[str]:
        """Yield the fault of the step that failed."""
        if specimen.fault and not specimen.left_out and not specimen.blamed:
            yield specimen.fault


@rule
class LeftOut(Rule):
    """Samples that reader or pipeline leave out on purpose."""

    name = "left out"
    level = "note"
    order = 90

    def tally(self, specimen: Specimen) -> Iterable[str]:
        """Yield what the sample counts as."""
        if specimen.left_out is not None:
            yield specimen.left_out
