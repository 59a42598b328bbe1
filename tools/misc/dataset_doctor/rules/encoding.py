"""Whether texts are what their authors wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dataset_doctor.rule import Rule, rule
from dataset_doctor.specimen import Specimen, spoken_texts

#: UTF-8 that was read as Windows-1252: a lead byte and what follow bytes become.
_RUNS = re.compile(
    r"[\u00c2-\u00f4][\u0080-\u00bf\u0152-\u0192\u02c6\u02dc\u2013-\u2122]+"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@rule
class TextEncoding(Rule):
    """No mojibake, control characters, lone surrogates or replacement marks."""

    name = "encoding"
    order = 40
    claims = r"not UTF-8|surrogate"

    def check(self, specimen: Specimen) -> Iterable[str]:
        """Yield the first fault of every kind."""
        if specimen.conversation is None:
            return
        found: dict[str, str] = {}
        for turn, text in spoken_texts(specimen.conversation):
            for kind, piece in _faults(text):
                found.setdefault(kind, f"turn {turn} holds {kind}: {piece!a}.")
        yield from found.values()


def _faults(text: str) -> Iterable[tuple[str, str]]:
    if match := _SURROGATE.search(text):
        yield "half a character", _around(text, match)
        return
    if "\ufffd" in text:
        yield "a replacement mark", text[max(0, text.index("\ufffd") - 10) :][:24]
    for match in _RUNS.finditer(text):
        meant = _meant(match[0])
        if meant is not None:
            yield "UTF-8 that was read as another encoding", _around(text, match)
            return
    if match := _CONTROL.search(text):
        yield "a control character", _around(text, match)


def _meant(run: str) -> str | None:
    """Return what a run of characters was before it was read wrongly, if so."""
    for encoding in ("cp1252", "latin-1"):
        try:
            return run.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    return None


def _around(text: str, match: re.Match) -> str:
    return text[max(0, match.start() - 10) : match.end() + 10]
