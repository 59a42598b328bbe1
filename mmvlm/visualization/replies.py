"""Replies that name regions: as plain values, as an image, as a page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from mmvlm.structures import Region
from mmvlm.utils.files import write_atomic

from .page import render, write_page
from .regions import RegionGroup, colours_of, draw_regions, label_of, name_of

_STYLE = """
article { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 16px 18px; margin: 0 0 18px; overflow-wrap: anywhere; }
article img { max-width: 100%; border-radius: 6px; display: block; }
p.said { white-space: pre-wrap; margin: 10px 0; }
p.said b { color: var(--dim); font-weight: 600; margin-right: 8px; }
mark { color: inherit; background: none; border-bottom: 3px solid; padding: 0 1px; }
ul.problems { color: var(--bad); margin: 0; }
"""
_BODY = """
{% for turn in turns %}<article>
{% if turn.image %}<img src="{{ data_uri(turn.image) }}" alt="">{% endif %}
<p class="said"><b>asked</b>{{ turn.prompt }}</p>
{% if turn.truth %}<p class="said"><b>truth</b>{{ turn.truth }}</p>{% endif %}
<p class="said"><b>said</b>{% for text, colour, name in turn.pieces %}{% if colour %}\
<mark style="border-color: {{ colour }}" title="{{ name }}">{{ text }}</mark>\
{% else %}{{ text }}{% endif %}{% endfor %}</p>
{% if turn.problems %}<ul class="problems">{% for one in turn.problems %}\
<li>not read: {{ one }}</li>{% endfor %}</ul>{% endif %}
</article>{% endfor %}
"""


@dataclass(frozen=True)
class ReplyView:
    """A question and its reply, to be drawn.

    Args:
        prompt (str): what was asked.
        text (str): what the model said.
        image (np.ndarray | None): (H, W, 3) uint8; None for text alone.
        regions (tuple[Region, ...]): that the reply names, in reading order.
        spans (tuple[tuple[int, int], ...]): where they stand in the text; may be
            empty.
        problems (tuple[str, ...]): what could not be read.
        asked (tuple[Region, ...]): regions of the question.
        truth (tuple[Region, ...]): what would be right.
        truth_text (str): the answer that would be right.
    """

    prompt: str
    text: str
    image: np.ndarray | None = None
    regions: tuple[Region, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    problems: tuple[str, ...] = ()
    prompted: tuple[Region, ...] = ()
    truth: tuple[Region, ...] = ()
    truth_text: str = ""

    def groups(self) -> list[RegionGroup]:
        """Return the regions as they are drawn: dashed what the model did not say."""
        groups = [
            RegionGroup(self.prompted, dashed=True, prefix="asked: "),
            RegionGroup(self.truth, dashed=True, prefix="truth: "),
            RegionGroup(self.regions),
        ]
        return [group for group in groups if group.regions]

    def drawn(self) -> np.ndarray | None:
        """Return the image with its regions; None without an image."""
        if self.image is None:
            return None
        return draw_regions(self.image, self.groups())


def region_entries(
    regions: Sequence[Region], spans: Sequence[tuple[int, int]] = ()
) -> list[dict[str, Any]]:
    """Return regions as JSON has them, an entry per box or mask.

    Returns:
        list[dict]: ``phrase``, ``span`` (characters of the text), ``box`` (x1, y1,
        x2, y2) or ``point`` (x, y) in pixels of the image, ``mask`` (COCO's run
        lengths) and ``score`` (the IoU that the model expects of a mask); what a
        region does not have is None.
    """
    entries = []
    for number, region in enumerate(regions):
        span = list(spans[number]) if number < len(spans) else None
        rows = region.boxes.to("pixel").xyxy.tolist()
        count = max(len(rows), len(region.rles), 1)
        for place in range(count):
            row = rows[place] if place < len(rows) else None
            is_point = region.kind == "point"
            entries.append(
                dict(
                    phrase=region.phrase,
                    span=span,
                    box=None if is_point else row,
                    point=row[:2] if is_point and row else None,
                    mask=region.rles[place] if place < len(region.rles) else None,
                    score=region.score,
                )
            )
    return entries


def write_drawing(path: str | os.PathLike, views: Sequence[ReplyView]) -> str:
    """Write replies as an image (the last one) or as a page (all), by the suffix.

    Args:
        path (str | PathLike): ``.png`` or ``.html``.
        views (Sequence[ReplyView]): at least one.

    Raises:
        ValueError: for another suffix, or an image of a reply without one.
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix == ".html":
        turns = [_turn(view) for view in views]
        body = render(_BODY, turns=turns)
        return write_page(path, title="Replies with regions", body=body, style=_STYLE)
    if suffix != ".png":
        raise ValueError(f"'{path}': expected a file .png or .html.")
    drawn = views[-1].drawn()
    if drawn is None:
        raise ValueError(f"'{path}': the last reply has no image to draw into.")
    write_atomic(path, _png(drawn))
    return str(path)


def view_of_sample(sample: Any) -> ReplyView:
    """Return an answered sample as it is drawn, its last image read from its file.

    Args:
        sample (VLMDataSample): with ``pred_text``; what it lacks besides is not shown.
    """
    talk = sample.get("conversation")
    questions = [t.text for t in getattr(talk, "turns", ()) if t.role == "user"]
    boxes = sample.get("gt_boxes")
    boxed = () if boxes is None else (Region(0, boxes),)
    return ReplyView(
        prompt=questions[-1].strip() if questions else "",
        text=sample.pred_text,
        image=_image(sample),
        regions=tuple(sample.get("pred_regions", ())),
        spans=tuple(sample.get("pred_spans", ())),
        problems=tuple(sample.get("problems", ())),
        truth=tuple(sample.get("gt_regions", ())) or boxed,
        truth_text=sample.get("gt_text") or "",
    )


def _image(sample: Any) -> np.ndarray | None:
    """Return the last image of a sample, turned as its layout says."""
    paths = sample.get("image_paths", ())
    if not paths or not os.path.isfile(paths[-1]):
        return None
    with PIL.Image.open(paths[-1]) as image:
        layouts = sample.get("layouts", ())
        if layouts and layouts[-1].original_size != (image.height, image.width):
            image = PIL.ImageOps.exif_transpose(image)
        return np.asarray(image.convert("RGB"))


def _turn(view: ReplyView) -> dict[str, Any]:
    drawn = view.drawn()
    return dict(
        image=None if drawn is None else _png(drawn),
        prompt=view.prompt,
        truth=view.truth_text,
        pieces=_pieces(view),
        problems=view.problems,
    )


def _pieces(view: ReplyView) -> list[tuple[str, str, str]]:
    """Cut the reply at its regions: text, colour (or nothing) and label of each."""
    colours = colours_of(view.groups())
    pieces, at = [], 0
    pairs = zip(view.spans, view.regions, strict=False)
    for number, ((start, end), region) in enumerate(pairs):
        if start < at:
            continue
        colour = colours[name_of(region, number).lower()]
        pieces.append((view.text[at:start], "", ""))
        pieces.append((view.text[start:end], colour, label_of(region, number)))
        at = end
    pieces.append((view.text[at:], "", ""))
    return [piece for piece in pieces if piece[0]]


def _png(pixels: np.ndarray) -> bytes:
    buffer = BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
