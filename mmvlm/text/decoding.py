"""From the ids of a reply to its text and the regions that it names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

from mmvlm.structures import Region, ViewLayout

from .codecs.base import Decoding, GroundingCodec
from .replies import reply_text, tokens_among


@dataclass(frozen=True)
class Decoded:
    """What a reply says.

    Args:
        text (str): without what ended it and without special tokens, other than
            those of the codec.
        regions (tuple[Region, ...]): in reading order, in pixels of the original
            image, as the text says them: corners may be swapped or lie outside.
        problems (tuple[str, ...]): what could not be read, and why.
        spans (tuple[tuple[int, int], ...]): where in the text each region stands.
        quoted (tuple[tuple[int, int], ...]): where other tokens spell one of the
            codec's that stand for regions.
    """

    text: str
    regions: tuple[Region, ...] = ()
    problems: tuple[str, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    quoted: tuple[tuple[int, int], ...] = ()


def decode(
    ids: Any,
    tokenizer: Any,
    codec: GroundingCodec | None = None,
    layouts: Sequence[Any] = (),
    *,
    stops: Sequence[str] = (),
    ended: bool = True,
) -> Decoded:
    """Return the text and the regions of a reply; never raises.

    Numbers are read in the middle of what they stand for (see
    :meth:`GroundingCodec.centred`). A token that a head reads is a region where the
    token itself stands, and text where other tokens spell it. Where several images
    were shown, regions lie in the last one.

    Args:
        ids (Any): token ids, a list, array or tensor; what is no id of the tokenizer
            is left out and named in ``problems``.
        tokenizer (Any): a transformers tokenizer.
        codec (GroundingCodec | None): the syntax of regions; None: text only.
        layouts (Sequence[ViewLayout]): of the images of the conversation.
        stops (Sequence[str]): strings at which a reply ends; one that is a token of
            the codec ends it behind that token.
        ended (bool): see :func:`reply_text`.
    """
    problems: list[str] = []
    known = list(_known(ids, tokenizer, problems))
    keep = () if codec is None else codec.special_tokens
    try:
        text = reply_text(tokenizer, known, stops, ended=ended, keep=keep)
        quoted = () if codec is None else _quoted(text, known, tokenizer, codec)
    except Exception as error:  # whatever a tokenizer of others thinks of its ids
        return Decoded("", (), (*problems, f"the tokenizer: {error!r:.200}"))
    if codec is None:
        return Decoded(text, (), tuple(problems))
    found = _regions(text, codec, layouts, quoted)
    problems += found.problems
    return Decoded(text, found.regions, tuple(problems), found.spans, quoted)


def _known(ids: Any, tokenizer: Any, problems: list[str]) -> Iterable[int]:
    """Yield the ids that the tokenizer has; name the others."""
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    added = getattr(tokenizer, "added_tokens_decoder", ())
    last, others = max(len(tokenizer) - 1, *added, 0), 0
    for number in ids if isinstance(ids, Iterable) else (ids,):
        if isinstance(number, Integral) and 0 <= number <= last:
            yield int(number)
        else:
            others += 1
    if others:
        problems.append(f"{others} ids that the tokenizer does not have")


def _quoted(
    text: str, ids: Sequence[int], tokenizer: Any, codec: GroundingCodec
) -> tuple[tuple[int, int], ...]:
    """Return where a reply spells, in other tokens, one that stands for a region.

    Heads find their tokens by id; a reply that quotes ``[SEG]`` says no mask.
    """
    spans = codec.token_spans(text)
    if not spans:
        return ()
    tokens = {one.token for one in codec.region_tokens.values()}
    own = tokens_among(tokenizer, ids, tokens)
    said, count, between = set(), 0, []
    for number in ids:
        if number not in own:
            between.append(number)
            continue
        words = reply_text(tokenizer, between, (), keep=codec.special_tokens)
        count += len(codec.token_spans(words))
        said.add(count)  # so many stand before it, said or spelled
        count, between = count + 1, []
    return tuple(span for place, span in enumerate(spans) if place not in said)


def _regions(
    text: str,
    codec: GroundingCodec,
    layouts: Sequence[Any],
    quoted: Sequence[tuple[int, int]],
) -> Decoding:
    """Return what a codec reads outside some spans, in pixels of the last image."""
    images = [
        number for number, one in enumerate(layouts) if isinstance(one, ViewLayout)
    ]
    size = layouts[images[-1]].original_size if images else (1, 1)
    codec = codec.shown_as([layouts[n].whole_size for n in images[-1:]])
    hidden = text
    for start, end in quoted:
        hidden = hidden[:start] + "\0" * (end - start) + hidden[end:]
    found = codec.centred().decode(hidden, size)
    if found.regions and not images:
        count = len(found.regions)
        return Decoding(
            problems=(*found.problems, f"{count} regions, but no image was shown")
        )
    regions = []
    for one, (_, end) in zip(found.regions, found.spans, strict=True):
        phrase = one.phrase
        # Its words may quote a token, and stand in the span or before it.
        at = hidden.rfind(phrase, 0, end) if phrase and quoted else -1
        if at >= 0:
            phrase = text[at : at + len(phrase)]
        regions.append(replace(one, image=images[-1], phrase=phrase))
    return replace(found, regions=tuple(regions))
