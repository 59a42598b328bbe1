"""Samples in the terminal: conversation, tokens in colours, counts."""

from __future__ import annotations

from typing import Any

from sample_card import SampleCard, TokenRun, colour_of, visible

from mmvlm.structures import Region
from mmvlm.structures import Text as TextPart

_ROLES = {"system": "magenta", "user": "cyan", "assistant": "green"}


def render_card(card: SampleCard) -> Any:
    """Return a sample as something that a rich console prints."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    lines: list[Text] = [Text(visible(card.path), style="dim")]
    if card.reason is not None:
        lines.append(Text(visible(card.reason), style="bold red"))
    place = 0
    for turn in card.conversation.turns if card.conversation else ():
        line = Text(f"{turn.role}: ", style=f"bold {_ROLES[turn.role]}")
        for part in turn.parts:
            if isinstance(part, TextPart):
                line.append(visible(part.text), style="default not bold")
            elif isinstance(part, Region):
                line.append(_region(part, place), style=f"bold {colour_of(place)}")
                place += 1
            else:
                name = getattr(part, "modality", "image")
                line.append(f"<{name} {part.index + 1}>", style="bold blue")
        lines.append(line)
    if card.runs:
        lines += [Text(), _tokens(card.runs)]
    counts = card.counts
    shapes = [
        f"{len(views)} x {views.shape[-1]} x {views.shape[-2]}" for views in card.views
    ]
    lines.append(
        Text(
            f"{counts['tokens']} ids, {counts['trained']} labels, "
            f"{counts['image_tokens']} positions of {counts['images']} image(s)"
            + (f", views {', '.join(shapes)}" if shapes else ""),
            style="dim",
        )
    )
    title = Text(visible(f"{card.dataset} {card.index}, id '{card.id}'"))
    style = "red" if card.reason is not None else "green"
    return Panel(Group(*lines), title=title, title_align="left", border_style=style)


def _region(region: Region, place: int) -> str:
    boxes = "; ".join(
        " ".join(f"{value:g}" for value in box[: 2 if region.kind == "point" else 4])
        for box in region.boxes.to("pixel").xyxy.round(1).tolist()
    )
    phrase = f"{visible(region.phrase)}: " if region.phrase else ""
    return f"[{place + 1} {phrase}{region.kind} {boxes}]"


def _tokens(runs: list[TokenRun]) -> Any:
    from rich.text import Text

    line = Text()
    for run in runs:
        if run.kind == "slot":
            line.append(f"[{run.pieces[0]} x {run.count}]", style="bold white on blue")
            continue
        trained = ("black on green", "black on bright_green")
        read = ("default", "dim")
        for number, piece in enumerate(run.pieces):
            style = (trained if run.kind == "trained" else read)[number % 2]
            line.append(visible(piece) or "\u00b7", style=style)
    return line
