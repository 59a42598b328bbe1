"""The contract of chat templates, and what all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from mmvlm.structures import Conversation, Image, Media, Text, TextMark, Turn


@dataclass(frozen=True)
class Piece:
    """A run of rendered text, one image, or one input of another modality.

    Args:
        text (str): the characters; empty for an image or medium.
        supervised (bool): whether the model is trained to say it.
        image (int | None): index of the image that stands here.
        token (str | None): ``bos``, ``eos`` or ``pad``: the piece is that token of the
            tokenizer at hand; ``text`` then only shows it to people.
        media (Media | None): the input that stands here.
        said (tuple[tuple[int, int], ...]): start and end of what the conversation
            says; the characters between are the template's own.
        marks (tuple[TextMark, ...]): of what the conversation says.
    """

    text: str
    supervised: bool = False
    image: int | None = None
    token: Literal["bos", "eos", "pad"] | None = None
    media: Media | None = None
    said: tuple[tuple[int, int], ...] = field(default=(), compare=False, repr=False)
    marks: tuple[TextMark, ...] = field(default=(), compare=False, repr=False)

    def shown(self, image: str = "<image>") -> str:
        """Return the text, or a mark for what stands in its place.

        Args:
            image (str): mark of an image; ``{}`` is its index.
        """
        if self.media is not None:
            return f"<{self.media.modality} {self.media.index}>"
        return self.text if self.image is None else image.format(self.image)


class PieceBuilder:
    """Collect pieces; neighbours with the same flag become one."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self._texts: list[str] = []
        self._said: list[tuple[int, int]] = []
        self._marks: list[TextMark] = []
        self._length = 0
        self._supervised = False

    def text(
        self,
        text: str,
        supervised: bool = False,
        *,
        said: bool = False,
        marks: Sequence[TextMark] = (),
    ) -> None:
        """Add characters; ``said``: of the conversation, not of the template."""
        if not text:
            return
        if supervised is not self._supervised:
            self.cut()
            self._supervised = supervised
        end = self._length + len(text)
        if said:
            self._said.append((self._length, end))
            if marks:
                self._marks += [mark.moved(self._length) for mark in marks]
        self._texts.append(text)
        self._length = end

    def image(self, index: int) -> None:
        """Add an image."""
        self.cut()
        self.pieces.append(Piece("", image=index))

    def media(self, media: Media) -> None:
        """Add an input that is no image."""
        self.cut()
        self.pieces.append(Piece("", media=media))

    def token(
        self, name: Literal["bos", "eos", "pad"], supervised: bool = False
    ) -> None:
        """Add a token that the tokenizer defines."""
        self.cut()
        shown = {"bos": "<s>", "eos": "</s>", "pad": "<pad>"}[name]
        self.pieces.append(Piece(shown, supervised, token=name))

    def cut(self) -> None:
        """End the run of characters here."""
        if self._texts:
            said = dict(said=tuple(self._said), marks=tuple(self._marks))
            self.pieces.append(Piece("".join(self._texts), self._supervised, **said))
            self._texts, self._said, self._marks, self._length = [], [], [], 0

    def done(self) -> list[Piece]:
        """Return the pieces."""
        self.cut()
        return self.pieces


class ChatTemplate(ABC):
    """Render a conversation as pieces.

    A template knows nothing of token ids. What it says for an answer includes
    the end mark that the model must learn to say (``</s>``, ``<|im_end|>``),
    flagged supervised.
    """

    #: Name in the registry, for messages.
    name: str = ""
    #: Strings at which generation stops, beside the tokenizer's EOS.
    stop_strings: tuple[str, ...] = ()
    #: Special tokens that the tokenizer must hold for this template.
    special_tokens: tuple[str, ...] = ()
    #: ``chunk``: text between images is encoded as one string (LLaVA's rule);
    #: ``piece``: every piece is encoded alone (xtuner's rule).
    encode_by: ClassVar[Literal["chunk", "piece"]] = "chunk"
    #: Whether the sequence opens with the tokenizer's own leading tokens. False
    #: for templates that write them.
    adds_bos: ClassVar[bool] = True
    #: Whether prompts and answers are two streams (see ``Seq2SeqEncoder``).
    is_encoder_decoder: ClassVar[bool] = False
    #: Which of LLaVA's masking functions trained this template; None: none did.
    llava_version: ClassVar[str | None] = None

    @abstractmethod
    def render(
        self, conversation: Conversation, *, add_generation_prompt: bool = False
    ) -> list[Piece]:
        """Return the pieces of the whole conversation, in order.

        Args:
            conversation (Conversation): regions already written as text.
            add_generation_prompt (bool): end with what opens an answer (and
                with no end mark); the last turn must then be a user's.

        Raises:
            ValueError: naming the sample, when roles do not alternate.
        """

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Check that this tokenizer can write the template.

        Raises:
            ValueError: naming the template and the token, when a special token
                is not one token of the tokenizer, or no answer ever ends.
        """
        for token in self.special_tokens:
            check_single_token(self.label, token, tokenizer)
        probe = "mmvlm-answer"
        pieces = self.render(Conversation.from_texts("question", probe))
        said = [p for p in pieces if p.supervised]
        if any(p.token == "eos" for p in said):
            if tokenizer.eos_token_id is None:
                raise ValueError(
                    f"{self.label}: answers end with the tokenizer's EOS, but "
                    f"{type(tokenizer).__name__} defines no eos_token. Set one "
                    "(tokenizer.eos_token='...') or choose a template with an end "
                    "mark of its own."
                )
        elif not "".join(p.text for p in said).partition(probe)[2].strip():
            raise ValueError(
                f"{self.label}: an answer ends with no supervised end mark (EOS), "
                "so the model would never learn to stop. Give the template an end "
                "such as end_mark='</s>'."
            )

    @property
    def label(self) -> str:
        """How messages name the template."""
        return f"chat template '{self.name or type(self).__name__}'"


def check_single_token(label: str, token: str, tokenizer: Any) -> None:
    """Raise ValueError when ``token`` is not one token of the tokenizer."""
    ids = tokenizer.encode(token, add_special_tokens=False)
    own = tokenizer.convert_tokens_to_ids(token)
    # Sentencepiece may put its dummy prefix in front.
    known = own is not None and ids[-1:] == [own] and len(ids) <= 2
    if own == tokenizer.unk_token_id and token != tokenizer.unk_token:
        known = False
    if known and len(ids) == 2:
        known = tokenizer.convert_ids_to_tokens(ids[0]) == "\u2581"
    if not known:
        pieces = tokenizer.convert_ids_to_tokens(ids)
        raise ValueError(
            f"{label}: special token '{token}' is not one token of the tokenizer "
            f"({type(tokenizer).__name__}, EOS '{tokenizer.eos_token}'): it becomes "
            f"{len(ids)} tokens {pieces}. Choose a template made for this tokenizer "
            f"or add it: model.language_model.new_tokens=dict(tokens=['{token}'])."
        )


def split_system(conversation: Conversation) -> tuple[str | None, list[Turn]]:
    """Return the text of a leading system turn (None without) and the rest.

    Raises:
        ValueError: naming the sample, for a system turn elsewhere, one that
            holds an image, or no turn at all.
    """
    turns = list(conversation.turns)
    system = None
    if turns and turns[0].role == "system":
        if any(not isinstance(part, Text) for part in turns[0].parts):
            raise ValueError(
                f"sample '{conversation.id}': the system turn holds an image or "
                "region; only text can stand there."
            )
        system = turns.pop(0).text
    for number, turn in enumerate(turns):
        if turn.role not in ("user", "assistant"):
            raise ValueError(
                f"sample '{conversation.id}': turn {number} has role "
                f"'{turn.role}', expected 'user' or 'assistant' (a system turn may "
                "only come first)."
            )
    if not turns:
        raise ValueError(f"sample '{conversation.id}': no user or assistant turn.")
    return system, turns


def check_alternation(
    turns: list[Turn], sample: str, add_generation_prompt: bool
) -> None:
    """Check that user and assistant alternate, the user first.

    Raises:
        ValueError: naming the sample and the turn.
    """
    for number, turn in enumerate(turns):
        expected = ("user", "assistant")[number % 2]
        if turn.role != expected:
            raise ValueError(
                f"sample '{sample}': turn {number} is by '{turn.role}', expected "
                f"'{expected}': roles must alternate, user first "
                f"(got {[t.role for t in turns]})."
            )
    check_last(turns, sample, add_generation_prompt)


def check_last(turns: list[Turn], sample: str, add_generation_prompt: bool) -> None:
    """Raise ValueError when a prompt is wanted behind an answer."""
    if add_generation_prompt and turns[-1].role != "user":
        raise ValueError(
            f"sample '{sample}': add_generation_prompt needs a user's turn at the "
            "end, but the last one is an answer. Leave it out."
        )


def is_empty(turn: Turn) -> bool:
    """Whether a turn says nothing: no character, no image."""
    for part in turn.parts:
        if not isinstance(part, Text) or part.text:
            return False
    return True


def write_parts(
    builder: PieceBuilder,
    turn: Turn,
    sample: str,
    *,
    supervised: bool,
    image_prefix: str = "",
    image_suffix: str = "",
) -> None:
    """Add a turn's text, images and other inputs to ``builder``.

    ``{number}`` in the prefix is the image's number in the sample, from 1.

    Raises:
        ValueError: naming the sample, for a region that no codec has written.
    """
    for part in turn.parts:
        if isinstance(part, Text):
            builder.text(part.text, supervised, said=True, marks=part.marks)
        elif isinstance(part, Image):
            number = str(part.index + 1)
            builder.text(image_prefix.replace("{number}", number), supervised)
            builder.image(part.index)
            builder.text(image_suffix, supervised)
        elif isinstance(part, Media):
            builder.media(part)
        else:
            raise ValueError(
                f"sample '{sample}': a {type(part).__name__} reached the chat "
                "template unwritten; put WriteRegions(codec=dict(type=...)) into the "
                "pipeline before EncodeConversation."
            )
