"""Pools of wordings with holes, for the questions and answers of tasks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from mmvlm.structures import Text
from mmvlm.structures.conversation import Part

from .draws import Draws

_HOLE = re.compile(r"<([a-z][a-z0-9_]*)>")


class TemplatePool:
    """Wordings of one sentence; each has every hole exactly once.

    A hole is a name in angle brackets: ``Where is <expr>?``. Published pools are
    read from their own files: a text file with a wording per line (empty lines
    left out), or a JSON list of strings.

    Args:
        source (str | Sequence[str] | TemplatePool): path of a ``.txt`` or
            ``.json`` file, one wording, or several.
        holes (Sequence[str]): names that each wording must have exactly once.
        optional (Sequence[str]): names that a wording may have, once.
        ignored (Sequence[str]): names that are taken out, with the white space
            before them: ``image`` in Shikra's pools, as the image is always shown
            in front of the first question.

    Raises:
        FileNotFoundError: for a file that is not there.
        ValueError: for a file or list without wordings, or a wording whose holes
            are not these, naming both.
    """

    def __init__(
        self,
        source: str | Sequence[str] | TemplatePool,
        holes: Sequence[str] = (),
        *,
        optional: Sequence[str] = (),
        ignored: Sequence[str] = (),
    ) -> None:
        self.holes = tuple(holes)
        self.optional = tuple(optional)
        texts, where = _read(source)
        for name in ignored:
            texts = [re.sub(rf"\s*<{name}>", "", text) for text in texts]
        for number, text in enumerate(texts):
            self._check(text, f"{where}: wording {number}")
        self.texts = tuple(texts)

    def __len__(self) -> int:
        return len(self.texts)

    def _check(self, text: str, where: str) -> None:
        found = _HOLE.findall(text)
        wrong = [name for name in self.holes if found.count(name) != 1]
        wrong += [name for name in self.optional if found.count(name) > 1]
        wrong += [n for n in found if n not in (*self.holes, *self.optional)]
        if wrong:
            must = "".join(f" <{name}>" for name in self.holes) or " none"
            may = "".join(f" <{name}>" for name in self.optional)
            raise ValueError(
                f"{where}, {text!r}: wrong holes {sorted(set(wrong))}; each of these "
                f"must stand in it exactly once:{must}"
                + (f"; and at most once:{may}." if may else ".")
            )

    def draw(self, draws: Draws, **values: str | Part | Sequence[Part]) -> tuple:
        """Return the parts of a drawn wording with its holes filled.

        Args:
            draws (Draws): choices.
            **values: per hole a text, a part, or parts.
        """
        return fill(draws.choice(self.texts), values)


def fill(wording: str, values: Mapping[str, str | Part | Sequence[Part]]) -> tuple:
    """Return the parts of a wording; each hole gives way to its value."""
    parts: list[Part] = []
    for number, piece in enumerate(_HOLE.split(wording)):
        if number % 2 == 0:
            parts.append(Text(piece))
        elif isinstance(values[piece], str):
            parts.append(Text(values[piece]))
        elif isinstance(values[piece], Sequence):
            parts.extend(values[piece])
        else:
            parts.append(values[piece])
    return tuple(p for p in parts if not isinstance(p, Text) or p.text)


def _read(source: str | Sequence[str] | TemplatePool) -> tuple[list[str], str]:
    if isinstance(source, TemplatePool):
        return list(source.texts), "template pool"
    where = "template pool"
    if isinstance(source, str):
        texts, where = _read_file(source) if _is_file(source) else ([source], where)
    else:
        texts = source
    if not isinstance(texts, Sequence) or not texts:
        raise ValueError(f"{where}: no wording; expected a list of strings.")
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong:
        raise ValueError(f"{where}: {wrong[0]!r:.80} is not a string.")
    return list(texts), where


def _is_file(source: str) -> bool:
    return source.endswith((".txt", ".json")) and not _HOLE.search(source)


def _read_file(path: str) -> tuple[list, str]:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if path.endswith(".json"):
            return json.loads(text), f"template file '{path}'"
    except FileNotFoundError:
        raise FileNotFoundError(f"template file '{path}' does not exist.") from None
    except ValueError as error:
        raise ValueError(f"template file '{path}' cannot be read: {error}") from error
    return [line for line in text.splitlines() if line.strip()], f"file '{path}'"
