"""All of xtuner's prompt templates, by the name ``xtuner/<its name>``."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.structures import Conversation

from .base import (
    ChatTemplate,
    Piece,
    PieceBuilder,
    check_alternation,
    split_system,
    write_parts,
)

_MARK = "\x00"


class XTunerTemplate(ChatTemplate):
    """An entry of xtuner's table, with xtuner's rule for ids.

    Question and answer are encoded alone; BOS opens the sequence and follows
    every EOS; the answer ends with SUFFIX and, unless SUFFIX_AS_EOS, with the
    tokenizer's EOS; SEP follows untrained.

    Args:
        entry (str): name in xtuner's table.
        table (dict): SYSTEM, INSTRUCTION, SUFFIX, SUFFIX_AS_EOS, SEP, STOP_WORDS.
        system (str | None): system text of conversations that bring none.
    """

    encode_by = "piece"
    adds_bos = False

    def __init__(
        self, entry: str, table: dict[str, Any], system: str | None = None
    ) -> None:
        self.name = f"xtuner/{entry}"
        self.table = dict(table)
        self.system = system
        self.suffix = self.table.get("SUFFIX") or ""
        self.ends_with_eos = not self.table.get("SUFFIX_AS_EOS", False)
        self.stop_strings = tuple(self.table.get("STOP_WORDS", ()))
        self.special_tokens = (self.suffix,) if self.suffix else ()
        if system and "SYSTEM" not in self.table:
            raise ValueError(f"{self.label} has no place for a system text.")

    def render(
        self, conversation: Conversation, *, add_generation_prompt: bool = False
    ) -> list[Piece]:
        """Return the pieces of the whole conversation, in order."""
        sample = conversation.id
        system, turns = split_system(conversation)
        check_alternation(turns, sample, add_generation_prompt)
        said = system is not None
        system = system if said else self.system
        if system and "SYSTEM" not in self.table:
            raise ValueError(
                f"sample '{sample}': {self.label} has no place for a system text."
            )
        out = PieceBuilder()
        out.token("bos")
        if system:
            before, _, after = self.table["SYSTEM"].partition("{system}")
            out.text(before.format())
            out.text(system, said=said)
            out.text(after.format(system=system))
        for number, turn in enumerate(turns):
            supervised = turn.is_supervised
            if turn.role == "user":
                before, after = self._around_question(number // 2 + 1)
                out.text(before)
                write_parts(out, turn, sample, supervised=supervised)
                out.text(after)
                out.cut()
                continue
            write_parts(out, turn, sample, supervised=supervised)
            out.text(self.suffix, supervised)
            out.cut()
            if self.ends_with_eos:
                out.token("eos", supervised)
            out.text(self.table.get("SEP", ""))
            out.cut()
            if self.ends_with_eos and number + 1 < len(turns):
                out.token("bos")
        return out.done()

    def _around_question(self, number: int) -> tuple[str, str]:
        text = self.table["INSTRUCTION"].format(input=_MARK, round=number)
        before, _, after = text.partition(_MARK)
        return before, after


def _table() -> dict[str, dict] | None:
    """Return xtuner's table, None without xtuner.

    The one file is executed alone: importing the package costs seconds.
    """
    package = importlib.util.find_spec("xtuner")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "utils" / "templates.py"
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location("_mmvlm_xtuner_templates", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: dict(entry) for name, entry in module.PROMPT_TEMPLATE.items()}


def _builder(entry: str, table: dict) -> Callable[..., XTunerTemplate]:
    def build(system: str | None = None) -> XTunerTemplate:
        return XTunerTemplate(entry, table, system)

    build.__name__ = f"xtuner_{entry}"
    build.__doc__ = f"Build xtuner's template '{entry}'."
    return build


def _register() -> None:
    tables = _table()
    if tables is None:
        CHAT_TEMPLATES.hints["xtuner/"] = (
            "xtuner's templates need the package xtuner, which is not installed "
            "(pip install xtuner)."
        )
        return
    for entry, table in tables.items():
        CHAT_TEMPLATES.register_module(
            name=f"xtuner/{entry}", module=_builder(entry, table)
        )


_register()
