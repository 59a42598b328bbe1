"""Templates that put fixed text around turns: one class, many tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from mmvlm.structures import Conversation, Image, Text, Turn

from .base import (
    ChatTemplate,
    Piece,
    PieceBuilder,
    check_alternation,
    check_last,
    is_empty,
    split_system,
    write_parts,
)


@dataclass(frozen=True)
class Marks:
    """The fixed text of a template.

    The rendered string is, with the trained part in brackets::

        system_open system system_close
        user_open QUESTION user_close answer_open [answer_lead ANSWER end_mark]
        answer_close
        between user_open QUESTION ...
        finish

    Args:
        user_open, user_close (str): around a question.
        answer_open (str): opens an answer; a generation prompt ends with it.
        answer_lead (str): what the model says before the answer (a space).
        end_mark (str): what the model says after it.
        answer_close (str): follows the end mark, not trained.
        between (str): before every question but the first.
        finish (str): at the end of a conversation that is no prompt.
        system (str): default system text; empty leaves the whole block out.
        system_open, system_close (str): around the system text.
        system_in_user (bool): the system block stands inside the first
            question, behind ``user_open``.
    """

    user_open: str
    user_close: str
    answer_open: str
    end_mark: str
    answer_lead: str = ""
    answer_close: str = ""
    between: str = ""
    finish: str = ""
    system: str = ""
    system_open: str = ""
    system_close: str = ""
    system_in_user: bool = False


class DelimitedTemplate(ChatTemplate):
    """A template that a table of fixed text describes.

    Args:
        system (str | None): system text of conversations that bring none; ``""``
            leaves the block out; None keeps the template's own.
        end_mark (str | None): what ends an answer; None keeps the template's
            own. For language models whose EOS is another.
        image_prefix, image_suffix (str | None): text around every image (for
            example ``<im_start>`` and ``<im_end>``); ``{number}`` in the prefix counts
            the images of a sample from 1; None keeps the template's own.
        literal_bos (str): a BOS token written as text in front of everything.
            The tokenizer puts its own there too, so a sequence opens with two,
            as some official templates do (INF-LLaVA: ``<|begin_of_text|>``).
    """

    marks: ClassVar[Marks]
    #: Special tokens besides the end mark.
    frame_tokens: ClassVar[tuple[str, ...]] = ()
    #: Whether the end mark is one token (else it is text, as ``###``).
    end_is_token: ClassVar[bool] = True
    #: Text around every image.
    image_marks: ClassVar[tuple[str, str]] = ("", "")
    #: Whether roles must alternate, the user first.
    alternates: ClassVar[bool] = True
    #: Whether images of a question stand in front of ``user_open``.
    images_first: ClassVar[bool] = False
    #: Text between these images and ``user_open``.
    images_close: ClassVar[str] = ""

    def __init__(
        self,
        system: str | None = None,
        end_mark: str | None = None,
        image_prefix: str | None = None,
        image_suffix: str | None = None,
        literal_bos: str = "",
    ) -> None:
        marks = self.marks
        if system is not None:
            marks = replace(marks, system=system)
        if end_mark is not None:
            # White space around the mark belongs to the template's format.
            own = marks.end_mark.strip()
            marks = replace(marks, end_mark=marks.end_mark.replace(own, end_mark))
        self.table = marks
        prefix, suffix = self.image_marks
        self.image_prefix = prefix if image_prefix is None else image_prefix
        self.image_suffix = suffix if image_suffix is None else image_suffix
        self.literal_bos = literal_bos
        stop = marks.end_mark.strip()
        self.stop_strings = (stop,) if stop else ()
        self.special_tokens = (
            *([literal_bos] if literal_bos else []),
            *self.frame_tokens,
            *(self.stop_strings if self.end_is_token else ()),
        )

    def render(
        self, conversation: Conversation, *, add_generation_prompt: bool = False
    ) -> list[Piece]:
        """Return the pieces of the whole conversation, in order."""
        table, out, sample = self.table, PieceBuilder(), conversation.id
        system, turns = split_system(conversation)
        check = check_alternation if self.alternates else check_last
        check(turns, sample, add_generation_prompt)
        out.text(self.literal_bos)
        if not table.system_in_user:
            self._write_system(out, system)
        for number, turn in enumerate(turns):
            supervised = turn.is_supervised
            if self.llava_version not in (None, "v0") and is_empty(turn):
                out.text(self._bare_role(turn.role, number, sample))
                continue
            if turn.role == "user":
                out.text(table.between if number else "")
                if self.images_first:
                    turn = self._images_first(out, turn)
                out.text(table.user_open)
                if number == 0 and table.system_in_user:
                    self._write_system(out, system)
            else:
                out.text(table.answer_open)
                out.text(table.answer_lead, supervised)
            write_parts(
                out,
                turn,
                sample,
                supervised=supervised,
                image_prefix=self.image_prefix,
                image_suffix=self.image_suffix,
            )
            if turn.role == "user":
                out.text(table.user_close)
            else:
                out.text(table.end_mark, supervised)
                out.text(table.answer_close)
        out.text(table.answer_open if add_generation_prompt else table.finish)
        return out.done()

    def _bare_role(self, role: str, number: int, sample: str) -> str:
        """Return what LLaVA makes of an empty turn: the role alone, in Llama-2 nothing.

        Raises:
            ValueError: naming the sample, for an empty first question in Llama-2.
        """
        if self.llava_version == "llama_2":
            if number == 0:
                raise ValueError(
                    f"sample '{sample}': the first question is empty; {self.label} "
                    "has no place for that (LLaVA refuses it too)."
                )
            return ""
        table = self.table
        return table.answer_open if role == "assistant" else table.user_open.rstrip(" ")

    def _write_system(self, out: PieceBuilder, said: str | None) -> None:
        """Write the system block; ``said`` by the conversation or None."""
        system = self.table.system if said is None else said
        if system:
            out.text(self.table.system_open)
            out.text(system, said=said is not None)
            out.text(self.table.system_close)

    def _image_marks(self, index: int) -> tuple[str, str]:
        """Return the text around an image."""
        return self.image_prefix, self.image_suffix

    def _images_first(self, out: PieceBuilder, turn: Turn) -> Turn:
        """Write a question's images; return the question without them."""
        images = [part for part in turn.parts if isinstance(part, Image)]
        if not images:
            return turn
        for image in images:
            before, after = self._image_marks(image.index)
            out.text(before)
            out.image(image.index)
            out.text(after)
        out.text(self.images_close)
        rest = [part for part in turn.parts if not isinstance(part, Image)]
        for end in (0, -1):  # the line break that set the image off
            if rest and isinstance(rest[end], Text):
                rest[end] = rest[end].strip("\n")
        return replace(turn, parts=tuple(rest))
