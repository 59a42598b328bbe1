"""Samples as one static HTML page that loads nothing."""

from __future__ import annotations

import html
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from sample_card import (
    SampleCard,
    colour_of,
    mask_outlines,
    region_outlines,
    visible,
)

from mmvlm.structures import Image, Media, Region, Text
from mmvlm.structures.slices import unpacked
from mmvlm.visualization.page import data_uri, write_page

_STYLE = """
:root { --trained: #15803d; --trained-ground: #dcfce7; --slot: #1d4ed8;
  --slot-ground: #dbeafe; --bad-ground: #ffedd5; --token: #f1f5f9; }
@media (prefers-color-scheme: dark) { :root { --trained: #4ade80;
  --trained-ground: #14341f; --slot: #93c5fd; --slot-ground: #1c2f55;
  --bad-ground: #3d2412; --token: #1e293b; } }
p.note { margin: 0 0 18px; }
article { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  border-top: 4px solid var(--trained); padding: 14px 18px 16px; margin: 0 0 18px;
  overflow-wrap: anywhere; } article.bad { border-top-color: var(--bad); }
header { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: baseline;
  margin-bottom: 10px; } header b { font-size: 17px; } header span { color: var(--dim);
  font-size: 13px; } .reason { background: var(--bad-ground); color: var(--bad);
  border-radius: 6px; padding: 8px 12px; margin: 0 0 12px; }
.columns { display: grid; grid-template-columns: minmax(200px, 340px) 1fr; gap: 18px; }
@media (max-width: 720px) { .columns { grid-template-columns: 1fr; } }
figure { margin: 0 0 12px; } figcaption { color: var(--dim); font-size: 12.5px; }
.image { position: relative; line-height: 0; } .image img { width: 100%;
  border-radius: 6px; } img.small { image-rendering: pixelated; }
.known { fill: #fff; fill-opacity: 0.07; stroke: #fff; stroke-opacity: 0.75;
  stroke-dasharray: 3 3; vector-effect: non-scaling-stroke; }
.image svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.views { display: flex; flex-wrap: wrap; gap: 6px; } .views img { height: 112px;
  border: 1px solid var(--rule); border-radius: 4px; }
.turn { margin: 0 0 8px; display: flex; gap: 10px; } .turn b { flex: 0 0 76px;
  color: var(--dim); font-weight: 600; font-size: 13px; padding-top: 1px; }
.turn.assistant span.text { color: var(--trained); } .said { white-space: pre-wrap; }
.chip { border: 1.5px solid; border-radius: 10px; padding: 0 7px; font-size: 13px;
  white-space: normal; } h3 { font-size: 13px; margin: 14px 0 6px; color: var(--dim);
  font-weight: 600; }
.tokens { line-height: 1.9; font: 13px/1.9 ui-monospace, "DejaVu Sans Mono", monospace;
  max-height: 330px; overflow-y: auto; } .tokens span { white-space: pre-wrap;
  border-radius: 3px; padding: 1px 0; margin-right: 1px; background: var(--token); }
.tokens span.trained, .key .trained { background: var(--trained-ground);
  color: var(--trained); }
.tokens span.slot, .key .slot { background: var(--slot-ground); color: var(--slot);
  padding: 1px 8px; border: 1px dashed; } .key span { border-radius: 3px;
  padding: 0 6px; } .key .text { background: var(--token); }
details { margin-top: 10px; } summary { color: var(--dim); cursor: pointer;
  font-size: 13px; } pre { white-space: pre-wrap; font-size: 12.5px; margin: 6px 0; }
"""
_LARGEST = 720


def write_sample_page(
    cards: Sequence[SampleCard],
    path: str | os.PathLike,
    *,
    title: str = "Samples",
    notes: Sequence[str] = (),
) -> str:
    """Write samples as a page that holds its images.

    Everything that comes from data is escaped.

    Args:
        cards (Sequence[SampleCard]): in order.
        path (str | PathLike): of the page.
        title (str): of the page.
        notes (Sequence[str]): shown below the title.

    Returns:
        str: the path.
    """
    bad = sum(card.reason is not None for card in cards)
    names = Counter(card.dataset for card in cards)
    counts = ", ".join(f"{count} of {name}" for name, count in names.items())
    key = (
        '<p class="note key">Tokens: <span class="text">read</span> '
        '<span class="trained">trained</span> <span class="slot">image</span>. '
        "Boxes in colour stand in the conversation, dashed ones in the annotation.</p>"
    )
    summary = [
        f"{len(cards)} samples ({counts}), {bad} of them bad or left out.",
        *notes,
    ]
    lines = "".join(f'<p class="note">{_text(line)}</p>' for line in summary)
    body = "\n".join(map(_article, cards))
    body = Markup(f"{lines}{key}\n{body}")
    return write_page(path, title=visible(title), body=body, style=_STYLE)


def _text(value: Any) -> str:
    """Escape what is shown, control characters and half characters included."""
    return html.escape(visible(str(value)))


def _article(card: SampleCard) -> str:
    counts = card.counts
    facts = [f"record {card.index}", f"id '{card.id}'", card.path]
    if card.runs:
        facts.append(
            f"{counts['tokens']} tokens: {counts['trained']} trained, "
            f"{counts['image_tokens']} of images"
        )
    heads = "".join(f"<span>{_text(fact)}</span>" for fact in facts)
    reason = ""
    if card.reason is not None:
        reason = f'<p class="reason">{_text(card.reason)}</p>'
    left = "".join(_image(card, number) for number in range(len(card.images)))
    left += "".join(_views(card, number) for number in range(len(card.views)))
    right = _conversation(card) + _tokens(card)
    return (
        f'<article class="{"bad" if card.reason is not None else "good"}">'
        f"<header><b>{_text(card.dataset)}</b>{heads}</header>{reason}"
        f'<div class="columns"><div>{left}</div><div>{right}</div></div>'
        f"{_details(card)}</article>"
    )


# ------------------------------------------------------------------ images
def _image(card: SampleCard, number: int) -> str:
    """Return an original image with its regions drawn over it."""
    pixels = card.images[number]
    height, width = pixels.shape[:2]
    shapes = [_annotated(card)] if number == 0 else []
    shapes += [
        _shape(region, place, max(height, width))
        for place, region in enumerate(card.regions)
        if region.image == number
    ]
    name = card.conversation.images[number] if card.conversation else ""
    name = name if isinstance(name, str) else f"image {number + 1}"
    small = ' class="small"' if max(height, width) < 200 else ""
    return (
        f'<figure><div class="image"><img{small} alt="" src="{image_uri(pixels)}">'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">'
        f"{''.join(shapes)}</svg></div><figcaption>{_text(name)}, {width} x {height}"
        "</figcaption></figure>"
    )


def _annotated(card: SampleCard) -> str:
    """Return everything that is annotated, thin and white, below the regions."""
    parts = []
    for item in card.annotation.instances if card.annotation else ():
        words = ", ".join(filter(None, (item.name, *item.phrases[:2], item.id)))
        title = f"<title>{_text(words)}</title>"
        for ring in mask_outlines(item.polygons, item.rle, card.annotation.size):
            parts.append(
                f'<polygon class="known" points="{_points(ring)}">{title}</polygon>'
            )
        if item.box is not None and np.isfinite(item.box).all():
            x1, y1, x2, y2 = item.box
            parts.append(
                f'<rect class="known" x="{x1:.2f}" y="{y1:.2f}" '
                f'width="{max(0, x2 - x1):.2f}" height="{max(0, y2 - y1):.2f}">'
                f"{title}</rect>"
            )
    return "".join(parts)


def _points(ring: np.ndarray) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in ring.tolist())


def _shape(region: Region, place: int, side: int) -> str:
    """Return a region as SVG, in pixels of its image."""
    colour, parts = colour_of(place), []
    line = f'stroke="{colour}" stroke-width="2" vector-effect="non-scaling-stroke"'
    boxes = region.boxes.to("pixel").xyxy.tolist()
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        for ring in region_outlines(region, number):
            points = _points(ring)
            fill = f'fill="{colour}" fill-opacity="0.3"'
            parts.append(f'<polygon points="{points}" {fill} {line}/>')
        if region.kind == "point":
            parts.append(
                f'<circle cx="{x1:.2f}" cy="{y1:.2f}" r="{side / 45:.2f}" '
                f'fill="{colour}" fill-opacity="0.45" {line}/>'
            )
        elif region.kind == "box" or not parts:
            parts.append(
                f'<rect x="{x1:.2f}" y="{y1:.2f}" width="{max(0, x2 - x1):.2f}" '
                f'height="{max(0, y2 - y1):.2f}" fill="none" {line}/>'
            )
        size = side / 17
        below = y1 < 1.2 * size
        top = min(y2 + size, region.boxes.size[0] - 1) if below else y1 - 0.25 * size
        label = f"{place + 1} {region.phrase or ''}".strip()
        parts.append(
            f'<text x="{x1:.2f}" y="{top:.2f}" font-size="{size:.2f}" fill="#fff" '
            f'stroke="{colour}" stroke-width="{size / 4:.2f}" paint-order="stroke" '
            f'font-family="DejaVu Sans, sans-serif">{_text(label[:40])}</text>'
        )
    return "".join(parts)


def _views(card: SampleCard, number: int) -> str:
    """Return the views of an image as the encoder gets them."""
    views, layout = card.views[number], card.layouts[number]
    height, width = views.shape[-2:]
    small = ' class="small"' if max(height, width) < 200 else ""
    shown = "".join(
        f'<img{small} alt="" src="{image_uri(own.transpose(1, 2, 0))}">'
        for own in (unpacked(v, layout, n) for n, v in enumerate(views[:16]))
    )
    words = f"{len(views)} view(s) of {width} x {height}, {layout.kind}"
    if layout.extra:
        words += f", {layout.extra}"
    return (
        f'<figure><div class="views">{shown}</div>'
        f"<figcaption>as the model sees it: {_text(words)}</figcaption></figure>"
    )


def image_uri(pixels: np.ndarray) -> str:
    """Return an RGB image as a data URI, large ones made smaller."""
    height, width = pixels.shape[:2]
    scale = _LARGEST / max(height, width)
    kind, options = "png", [cv2.IMWRITE_PNG_COMPRESSION, 6]
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        kind, options = "jpeg", [cv2.IMWRITE_JPEG_QUALITY, 90]
    pixels = np.ascontiguousarray(pixels[..., ::-1])
    _, data = cv2.imencode(f".{kind}", pixels, options)
    return data_uri(data.tobytes(), f"image/{kind}")


# --------------------------------------------------------------------- texts
def _conversation(card: SampleCard) -> str:
    if card.conversation is None:
        return ""
    turns, place = [], 0
    for turn in card.conversation.turns:
        parts = []
        for part in turn.parts:
            if isinstance(part, Text):
                parts.append(f'<span class="text">{_text(part.text)}</span>')
            elif isinstance(part, Region):
                parts.append(_chip(part, place))
                place += 1
            else:
                parts.append(_placeholder(part))
        mark = "" if turn.is_supervised or turn.role != "assistant" else " (untrained)"
        turns.append(
            f'<div class="turn {turn.role}"><b>{turn.role}{mark}</b>'
            f'<span class="said">{"".join(parts)}</span></div>'
        )
    return f"<h3>Conversation</h3>{''.join(turns)}"


def _chip(region: Region, place: int) -> str:
    colour = colour_of(place)
    boxes = "; ".join(
        ", ".join(f"{value:g}" for value in box[: 2 if region.kind == "point" else 4])
        for box in region.boxes.to("pixel").xyxy.round(1).tolist()
    )
    words = f"{place + 1} {region.phrase or ''}".strip()
    tip = f"{region.kind} {boxes}"
    return (
        f'<span class="chip" style="border-color:{colour}" title="{_text(tip)}">'
        f"{_text(words)} [{_text(tip)}]</span>"
    )


def _placeholder(part: Image | Media) -> str:
    name = getattr(part, "modality", "image")
    return f'<span class="chip">{_text(name)} {part.index + 1}</span>'


def _tokens(card: SampleCard) -> str:
    if not card.runs:
        return ""
    out = []
    for run in card.runs:
        if run.kind == "slot":
            out.append(
                f'<span class="slot">{_text(run.pieces[0])} x {run.count}</span>'
            )
            continue
        for offset, piece in enumerate(run.pieces):
            shown = _text(piece).replace("\n", "&#8629;\n") or "&middot;"
            tip = f"position {run.start + offset}"
            out.append(f'<span class="{run.kind}" title="{tip}">{shown}</span>')
    return f'<h3>Tokens</h3><div class="tokens">{"".join(out)}</div>'


def _details(card: SampleCard) -> str:
    blocks = [("Record", card.record)]
    if card.conversation is not None and card.conversation.meta:
        blocks.append(("Metadata", card.conversation.meta))
    return "".join(
        f"<details><summary>{name}</summary><pre>{_text(as_json(value))}</pre></details>"
        for name, value in blocks
    )


def as_json(value: Any) -> str:
    """Return any value as JSON; what JSON does not know is told in words."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, np.ndarray):
        return f"<array {value.shape} {value.dtype}>"
    return repr(value)[:200]
