"""Whether samples fit into the model's context."""

from __future__ import annotations

from collections.abc import Iterable

from dataset_doctor.rule import Rule, rule
from dataset_doctor.specimen import Specimen


def _excess(specimen: Specimen) -> str | None:
    if specimen.num_tokens is None or specimen.max_length is None:
        return None
    if specimen.num_tokens <= specimen.max_length:
        return None
    return f"{specimen.num_tokens} tokens, max_length={specimen.max_length}"


@rule
class TooLong(Rule):
    """Samples beyond ``max_length`` that would stop the training."""

    name = "too long"
    order = 60

    def check(self, specimen: Specimen) -> Iterable[str]:
        """Yield the length where the pipeline's ``overflow`` is ``error``."""
        words = _excess(specimen)
        if words and specimen.overflow == "error":
            yield f"{words}: stops the training (overflow='error')."


@rule
class CutOrDropped(Rule):
    """Samples beyond ``max_length`` that the pipeline cuts or drops."""

    name = "cut or dropped"
    level = "warning"
    order = 61

    def check(self, specimen: Specimen) -> Iterable[str]:
        """Yield the length and what happens."""
        words = _excess(specimen)
        if words and specimen.overflow != "error":
            done = "dropped" if specimen.overflow == "drop" else "cut"
            yield f"{words}: would be {done} (overflow='{specimen.overflow}')."
