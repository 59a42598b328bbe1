"""The chat template that a tokenizer brings itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.structures import Conversation, Image, Media, Text, Turn

from .base import (
    ChatTemplate,
    Piece,
    PieceBuilder,
    check_last,
    check_single_token,
    split_system,
    write_parts,
)

#: Stands for the text of turn n (letters and digits: no template trims it).
_SLOT = "mmvlmTurn{}Slot"
_SLOTS = re.compile(r"mmvlmTurn(\d+)Slot")
#: Stands for image n inside a text (private-use characters).
_IMAGE = "\ue000{}\ue001"


@dataclass(frozen=True)
class _Frame:
    """The fixed text of a conversation's shape.

    Args:
        before (tuple[str, ...]): text before each turn, of messages in order.
        leads (tuple[str, ...]): the end of ``before`` that belongs to the answer.
        ends (tuple[str, ...]): end mark behind each answer, ``""`` elsewhere.
        finish (str): text behind the last turn (behind its end mark).
    """

    before: tuple[str, ...]
    leads: tuple[str, ...]
    ends: tuple[str, ...]
    finish: str


@CHAT_TEMPLATES.register_module(name=["tokenizer", "TokenizerChatTemplate"])
class TokenizerChatTemplate(ChatTemplate):
    """Render with the Jinja template stored in the tokenizer.

    The template is rendered once per shape of conversation (roles in order) with
    marks in place of the texts; what stands between the marks frames the turns.
    An answer ends with the first special token behind it. Each sample is then
    held against what the tokenizer itself renders, so that a template that
    rewrites texts (drops reasoning of earlier turns, say) is refused, not
    imitated wrongly.

    Args:
        system (str | None): system text of conversations that bring none.
        verify (bool): compare every sample with the tokenizer's own rendering.
    """

    name = "tokenizer"
    # The Jinja text writes BOS itself where it wants one.
    adds_bos = False

    def __init__(self, system: str | None = None, verify: bool = True) -> None:
        self.system = system
        self.verify = verify
        self._tokenizer: Any = None
        self._frames: dict[tuple, _Frame] = {}
        self._trims: dict[str, tuple[bool, bool]] = {}

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Take the tokenizer whose template is rendered, and check that it ends.

        Raises:
            ValueError: when it has no chat template, or one that ends no answer.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError(
                f"{self.label}: {type(tokenizer).__name__} brings no chat template. "
                "Name one of mmvlm's templates (chat_template='vicuna_v1', ...) or "
                "set tokenizer.chat_template."
            )
        if tokenizer is not self._tokenizer:
            self._tokenizer = tokenizer
            self._frames, self._trims = {}, {}
        end = self._frame(("user", "assistant"), False).ends[-1].strip()
        check_single_token(self.label, end, tokenizer)
        self.stop_strings = (end,)

    def render(
        self, conversation: Conversation, *, add_generation_prompt: bool = False
    ) -> list[Piece]:
        """Return the pieces of the whole conversation, in order.

        Raises:
            RuntimeError: before :meth:`check_tokenizer` gave a tokenizer.
            ValueError: naming the sample, when the Jinja template refuses or
                rewrites it.
        """
        if self._tokenizer is None:
            raise RuntimeError(
                f"{self.label} has no tokenizer yet; call check_tokenizer first."
            )
        sample = conversation.id
        system, turns = split_system(conversation)
        check_last(turns, sample, add_generation_prompt)
        system = self.system if system is None else system
        if system:
            turns.insert(0, Turn("system", (Text(system),)))
        roles = tuple(turn.role for turn in turns)
        try:
            frame = self._frame(roles, add_generation_prompt)
        except ValueError as error:
            raise ValueError(f"sample '{sample}': {error}") from error
        out = PieceBuilder()
        for turn, before, lead, end in zip(
            turns, frame.before, frame.leads, frame.ends, strict=True
        ):
            supervised = turn.is_supervised
            out.text(before)
            out.text(lead, supervised)
            write_parts(out, self._trim(turn), sample, supervised=supervised)
            out.text(end, supervised)
        out.text(frame.finish)
        pieces = out.done()
        if self.verify:
            self._verify(turns, pieces, sample, add_generation_prompt)
        return pieces

    def _jinja(self, texts: list[tuple[str, str]], prompt: bool) -> str:
        messages = [dict(role=role, content=text) for role, text in texts]
        try:
            return self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=prompt
            )
        except Exception as error:  # whatever the Jinja text raises
            roles = [role for role, _ in texts]
            raise ValueError(
                f"{self.label}: the tokenizer's chat template refuses roles {roles}: "
                f"{error}"
            ) from error

    def _frame(self, roles: tuple[str, ...], prompt: bool) -> _Frame:
        key = (roles, prompt)
        if key not in self._frames:
            self._frames[key] = self._make_frame(roles, prompt)
        return self._frames[key]

    def _make_frame(self, roles: tuple[str, ...], prompt: bool) -> _Frame:
        texts = [(role, _SLOT.format(number)) for number, role in enumerate(roles)]
        text = self._jinja(texts, prompt)
        parts = _SLOTS.split(text)
        if [int(n) for n in parts[1::2]] != list(range(len(roles))):
            raise ValueError(
                f"{self.label}: the tokenizer's chat template does not write every "
                f"turn of {list(roles)} once and in order."
            )
        before, finish = parts[:-1:2], parts[-1]
        leads, ends, opened = [], [], 0
        for number, role in enumerate(roles):
            opened += len(before[number])
            lead = ""
            if role == "assistant":
                turns = self._jinja(texts[:number], True) if number else ""
                so_far = text[:opened]
                if turns and so_far.startswith(turns):
                    lead = so_far[len(turns) :]
            leads.append(lead)
            opened += len(texts[number][1])
        for number, role in enumerate(roles):
            tail = before[number + 1] if number + 1 < len(roles) else finish
            end = self._end(tail) if role == "assistant" else ""
            ends.append(end)
            if number + 1 < len(roles):
                before[number + 1] = tail[len(end) :]
            else:
                finish = tail[len(end) :]
        # A lead cannot reach back behind the end of the turn before it.
        heads = []
        for number, lead in enumerate(leads):
            lead = lead[-len(before[number]) :] if lead and before[number] else ""
            leads[number] = lead
            heads.append(before[number][: len(before[number]) - len(lead)])
        return _Frame(tuple(heads), tuple(leads), tuple(ends), finish)

    def _end(self, tail: str) -> str:
        """Return ``tail`` up to the end of its first special token."""
        specials = {
            str(token)
            for token in (
                *self._tokenizer.all_special_tokens,
                *self._tokenizer.get_added_vocab(),
            )
        }
        found = re.search(
            "|".join(re.escape(t) for t in sorted(specials, key=len, reverse=True))
            or r"(?!)",
            tail,
        )
        if found is None or tail[: found.start()].strip():
            raise ValueError(
                f"{self.label}: the tokenizer's chat template ends an answer with "
                f"{tail!r}, which holds no special token (EOS), so the model would "
                "never learn to stop."
            )
        return tail[: found.end()]

    def _trim(self, turn: Turn) -> Turn:
        """Trim a turn's text where the Jinja template does."""
        if turn.role not in self._trims:
            self._trims[turn.role] = self._probe_trim(turn.role)
        left, right = self._trims[turn.role]
        parts = list(turn.parts)
        if left and parts and isinstance(parts[0], Text):
            parts[0] = parts[0].lstrip()
        if right and parts and isinstance(parts[-1], Text):
            parts[-1] = parts[-1].rstrip()
        return Turn(turn.role, tuple(parts), turn.supervised)

    def _probe_trim(self, role: str) -> tuple[bool, bool]:
        probe = "\n mmvlmProbe \n"
        shapes = {
            "system": [("system", probe), ("user", "q")],
            "user": [("user", probe)],
            "assistant": [("user", "q"), ("assistant", probe)],
        }
        text = self._jinja(shapes[role], False)
        return probe[:-2] not in text, probe[2:] not in text

    def _verify(
        self, turns: list[Turn], pieces: list[Piece], sample: str, prompt: bool
    ) -> None:
        texts = []
        for turn in turns:
            content = "".join(
                part.text if isinstance(part, Text) else _mark(part)
                for part in turn.parts
            )
            texts.append((turn.role, content))
        expected = self._jinja(texts, prompt)
        got = "".join(piece.shown(_IMAGE) for piece in pieces)
        if expected != got:
            at = next(
                (
                    i
                    for i, (a, b) in enumerate(zip(expected, got, strict=False))
                    if a != b
                ),
                min(len(expected), len(got)),
            )
            raise ValueError(
                f"sample '{sample}': the tokenizer's chat template rewrites the "
                f"conversation: it renders ...{expected[max(0, at - 20) : at + 40]!r} "
                f"where the turns say ...{got[max(0, at - 20) : at + 40]!r}. Use one "
                "of mmvlm's templates, or verify=False."
            )


def _mark(part: Image | Media) -> str:
    """Return what :meth:`Piece.shown` writes for a part that is no text."""
    if isinstance(part, Media):
        return Piece("", media=part).shown()
    return Piece("", image=part.index).shown(_IMAGE)
