"""Which fields the reader has no use for."""

from __future__ import annotations

from collections.abc import Iterable

from dataset_doctor.rule import Rule, rule
from dataset_doctor.specimen import Specimen


@rule
class OtherFields(Rule):
    """Fields beside the format's; readers keep them in ``meta``."""

    name = "other fields"
    level = "note"
    order = 95

    def tally(self, specimen: Specimen) -> Iterable[str]:
        """Yield the names of what stands in the conversation's ``meta``."""
        if specimen.conversation is not None:
            yield from map(str, specimen.conversation.meta)
