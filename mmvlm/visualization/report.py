"""The report of a whole run: one HTML file that needs nothing else, and its PNGs."""

from __future__ import annotations

import base64
import html
import mimetypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmvlm.utils.files import write_atomic

from .grid import boxes_of, draw_grid, image_path, select_rows
from .loss_curves import draw_loss_curves
from .results import (
    Answers,
    ResultLine,
    format_table,
    load_answers,
    marks_text,
    result_lines,
)

__all__ = ["format_table", "write_report"]

_STYLE = """
:root { color-scheme: light dark; --ground: #f8fafc; --card: #ffffff; --ink: #0f172a;
  --dim: #64748b; --rule: #e2e8f0; --good: #15803d; --bad: #c2410c; --bar: #2563eb; }
@media (prefers-color-scheme: dark) { :root { --ground: #0b1120; --card: #151e31;
  --ink: #e2e8f0; --dim: #94a3b8; --rule: #27344d; --good: #4ade80; --bad: #fb923c;
  --bar: #60a5fa; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 32px 20px 64px; color: var(--ink);
  background: var(--ground); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; margin: 0 0 20px; } h2 { font-size: 18px; margin: 40px 0 12px; }
p.note { color: var(--dim); margin: 8px 0; font-size: 13px; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; }
.tile, .card, .panel { background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; }
.tile { flex: 1 1 150px; padding: 14px 16px; } .tile b { display: block;
  font-size: 26px; line-height: 1.2; } .tile span { color: var(--dim); }
.panel { padding: 6px 16px; overflow-x: auto; }
.panel img { width: 100%; display: block; border-radius: 6px; background: #fff; }
.panel.picture { padding: 10px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 10px; text-align: right; border-bottom: 1px solid var(--rule); }
th { color: var(--dim); font-weight: 500; font-size: 13px; }
th:first-child, td:first-child { text-align: left; } tr:last-child td { border: 0; }
tr.total td { font-weight: 700; border-top: 2px solid var(--rule); }
td.wide { width: 26%; } .good { color: var(--good); } .bad { color: var(--bad); }
.bar { position: relative; height: 10px; border-radius: 5px; background: var(--rule); }
.bar i { position: absolute; left: 0; top: 0; bottom: 0; border-radius: 5px;
  background: var(--bar); }
.bar u { position: absolute; top: -3px; bottom: -3px; width: 2px;
  background: var(--ink); }
.cards { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); }
.card { padding: 10px; display: flex; flex-direction: column; gap: 6px;
  overflow-wrap: anywhere; border-top: 4px solid var(--good); }
.card.wrong { border-top-color: var(--bad); } .card.plain { border-top: 1px solid
  var(--rule); }
.card small { color: var(--dim); } .card .says { font-size: 14px; }
.picture-frame { position: relative; } .picture-frame img { width: 100%;
  display: block; image-rendering: pixelated; border-radius: 6px; }
.picture-frame div { position: absolute; border: 3px solid; }
.picture-frame div.predicted { border-style: dashed; }
pre { white-space: pre-wrap; font-size: 13px; }
"""


def write_report(
    out_dir: str | os.PathLike,
    *,
    stages: Sequence[dict[str, Any]],
    answers: Answers,
    blind_answers: Answers | None = None,
    image_root: str | os.PathLike = "",
    chat: str | Sequence[dict[str, str]] = (),
    export: dict[str, Any] | None = None,
    title: str = "TinyScenes: from nothing to a talking model",
    num_pictures: int = 24,
) -> str:
    """Write ``report.html``, ``loss_curves.png``, ``grid.png`` and ``results.txt``.

    The HTML holds its pictures and loads nothing.

    Args:
        out_dir (str | PathLike): made when missing.
        stages (Sequence[dict]): in order; ``name``, optionally ``seconds`` and, for
            stages that train, ``scalars`` (path of ``scalars.jsonl``).
        answers (str | PathLike | Sequence[dict]): JSON lines of
            ``TinyScenesMetric``, or its rows.
        blind_answers (str | PathLike | Sequence[dict] | None): the same with
            shuffled pictures.
        image_root (str | PathLike): joined before relative picture paths.
        chat (str | Sequence[dict]): ``question``, ``answer`` and optionally
            ``image``; a text is shown as it is.
        export (dict | None): name to value, shown as they are.
        title (str): of the page.
        num_pictures (int): in the grid.

    Returns:
        str: path of ``report.html``.

    Raises:
        FileNotFoundError: when a file that was named is missing.
        ValueError: when there are no answers, or the blind run has other questions.

    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    rows = load_answers(answers)
    lines = result_lines(rows, blind_answers)
    table = format_table(rows, blind_answers)
    write_atomic(folder / "results.txt", lambda f: f.write(f"{table}\n".encode()))
    chosen = select_rows(rows, num_pictures)
    draw_grid(chosen, folder / "grid.png", image_root=image_root)
    parts = [_tiles(lines[-1], stages), _section("Results", _results(lines))]
    parts.append(_section("Held-out pictures", _cards(chosen, rows, image_root)))
    trained = [stage for stage in stages if stage.get("scalars")]
    if trained:
        path = folder / "loss_curves.png"
        draw_loss_curves(trained, path)
        picture = f'<img alt="loss curves" src="{_data_uri(path)}">'
        body = f'<div class="panel picture">{picture}</div>'
        parts.append(_section("Loss", body))
    if any("seconds" in stage for stage in stages):
        parts.append(_section("Time", _times(stages)))
    if chat:
        parts.append(_section("Chat", _chat(chat, image_root)))
    if export:
        parts.append(_section("Export", _facts(export)))
    path = folder / "report.html"
    page = _page(title, "\n".join(parts))
    write_atomic(path, lambda file: file.write(page.encode("utf-8")))
    return str(path)


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>"


def _tiles(total: ResultLine, stages: Sequence[dict]) -> str:
    tiles = [
        (f"{total.accuracy:.1%}", f"of {total.num} held-out questions right"),
        (f"{total.chance:.1%}", "chance: the best constant answer"),
    ]
    if total.blind is not None:
        tiles.insert(1, (f"{total.blind:.1%}", "blind: pictures shuffled"))
    seconds = [stage["seconds"] for stage in stages if "seconds" in stage]
    if seconds:
        tiles.append((_duration(sum(seconds)), "for the whole"))
    cells = (f'<div class="tile"><b>{a}</b><span>{b}</span></div>' for a, b in tiles)
    return f'<div class="tiles">{"".join(cells)}</div>'


def _results(lines: Sequence[ResultLine]) -> str:
    heads = ("task", "questions", "accuracy", "", "lenient", "blind", "chance")
    heads = (*heads, "unparsed", "mark")
    out = [f"<tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"]
    for line in lines:
        bar = (
            f'<div class="bar"><i style="width:{line.accuracy:.2%}"></i>'
            f'<u style="left:{min(line.chance, 0.99):.2%}"></u></div>'
        )
        passed = "reached" if line.passed else "missed"
        blind = "-" if line.blind is None else f"{line.blind:.1%}"
        cells = (
            f"<td>{html.escape(line.task)}</td><td>{line.num}</td>"
            f'<td>{line.accuracy:.1%}</td><td class="wide">{bar}</td>'
            f"<td>{line.lenient:.1%}</td><td>{blind}</td><td>{line.chance:.1%}</td>"
            f"<td>{line.parse_failures}</td>"
            f'<td class="{"good" if line.passed else "bad"}">{passed}</td>'
        )
        kind = ' class="total"' if line.task == "overall" else ""
        out.append(f"<tr{kind}>{cells}</tr>")
    note = (
        f"{marks_text()} The upright line in a bar is chance. Lenient reads answers "
        "with good will; unparsed answers lack the form of one."
    )
    return (
        f'<div class="panel"><table>{"".join(out)}</table></div>'
        f'<p class="note">{html.escape(note)}</p>'
    )


def _cards(
    chosen: Sequence[dict], rows: Sequence[dict], image_root: str | os.PathLike
) -> str:
    shown = sum(not row["strict"] for row in chosen)
    wrong = sum(not row["strict"] for row in rows)
    note = (
        f"Chosen so that every task appears, with {shown} of the {wrong} wrong "
        f"answers among {len(rows)}. Boxes: true green, predicted orange and dashed."
    )
    cards = []
    for row in chosen:
        kind, mark = ("good", "right") if row["strict"] else ("bad", "wrong")
        words = (
            f"<small>{html.escape(row['task'])}</small>"
            f"<b>{html.escape(row['question'])}</b>"
            f'<div class="says">truth: {html.escape(row["gt"])}</div>'
            f'<div class="says {kind}">{mark}: {html.escape(row["pred"])}</div>'
        )
        frame = _frame(row, image_root) if row.get("image") else ""
        cards.append(f'<div class="card {mark}">{frame}{words}</div>')
    return f'<p class="note">{note}</p><div class="cards">{"".join(cards)}</div>'


def _frame(row: dict, image_root: str | os.PathLike) -> str:
    """Return a picture with its boxes."""
    boxes = []
    for name, colour, (x1, y1, x2, y2) in boxes_of(row):
        height, width = row["size"]
        boxes.append(
            f'<div class="{name}" style="border-color:{colour};'
            f"left:{x1 / width:.2%};top:{y1 / height:.2%};"
            f'width:{(x2 - x1) / width:.2%};height:{(y2 - y1) / height:.2%}"></div>'
        )
    source = _data_uri(image_path(row, image_root))
    picture = f'<img alt="" src="{source}">'
    return f'<div class="picture-frame">{picture}{"".join(boxes)}</div>'


def _times(stages: Sequence[dict]) -> str:
    timed = [(str(s["name"]), s["seconds"]) for s in stages if "seconds" in s]
    whole = sum(seconds for _, seconds in timed)
    timed.append(("all", whole))
    lines = []
    for number, (name, seconds) in enumerate(timed, 1):
        share = seconds / whole if whole else 0.0
        kind = ' class="total"' if number == len(timed) else ""
        bar = f'<div class="bar"><i style="width:{share:.2%}"></i></div>'
        lines.append(
            f"<tr{kind}><td>{html.escape(name)}</td><td>{_duration(seconds)}</td>"
            f'<td class="wide">{bar}</td></tr>'
        )
    return f'<div class="panel"><table>{"".join(lines)}</table></div>'


def _chat(chat: str | Sequence[dict], image_root: str | os.PathLike) -> str:
    if isinstance(chat, str):
        return f'<div class="panel"><pre>{html.escape(chat)}</pre></div>'
    cards = []
    for talk in chat:
        frame = _frame(talk, image_root) if talk.get("image") else ""
        cards.append(
            f'<div class="card plain">{frame}<b>{html.escape(talk["question"])}</b>'
            f'<div class="says">{html.escape(talk["answer"])}</div></div>'
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _facts(facts: dict[str, Any]) -> str:
    lines = "".join(
        f"<tr><td>{html.escape(str(k))}</td><td>{html.escape(str(v))}</td></tr>"
        for k, v in facts.items()
    )
    return f'<div class="panel"><table>{lines}</table></div>'


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _data_uri(path: str | os.PathLike) -> str:
    kind = mimetypes.guess_type(str(path))[0] or "image/png"
    content = base64.b64encode(Path(path).read_bytes()).decode("ascii")
    return f"data:{kind};base64,{content}"
