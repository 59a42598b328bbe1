"""The report of a whole run: one HTML file that needs nothing else, and its PNGs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from demo_report.grid import boxes_of, draw_grid, image_path, select_rows
from demo_report.loss_curves import draw_loss_curves
from demo_report.results import (
    Answers,
    ResultLine,
    format_table,
    load_answers,
    marks_text,
    result_lines,
)
from mmvlm.utils.files import write_atomic
from mmvlm.visualization.page import data_uri, render, write_page

__all__ = ["format_table", "write_report"]

_STYLE = """
h2 { font-size: 18px; margin: 40px 0 12px; }
p.note { margin: 8px 0; font-size: 13px; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; }
.tile, .card, .panel { background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; }
.tile { flex: 1 1 150px; padding: 14px 16px; } .tile b { display: block;
  font-size: 26px; line-height: 1.2; } .tile span { color: var(--dim); }
.panel { padding: 6px 16px; overflow-x: auto; }
.panel img { width: 100%; display: block; border-radius: 6px; background: #fff; }
.panel.image { padding: 10px; }
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
.image-frame { position: relative; } .image-frame img { width: 100%;
  display: block; image-rendering: pixelated; border-radius: 6px; }
.image-frame div { position: absolute; border: 3px solid; }
.image-frame div.predicted { border-style: dashed; }
pre { white-space: pre-wrap; font-size: 13px; }
"""


_BODY = """
{% macro bar(share, mark) -%}
<div class="bar"><i style="width:{{ percent(share, 2) }}"></i>
  {%- if mark is not none %}<u style="left:{{ percent(mark, 2) }}"></u>{% endif %}</div>
{%- endmacro %}
{% macro frame(row) -%}
{% if row.get("image") %}<div class="image-frame"><img alt="" src="{{ uri_of(row) }}">
  {%- for name, colour, area in boxes_of(row) %}
  <div class="{{ name }}" style="border-color:{{ colour }};{{ area }}"></div>
  {%- endfor %}</div>{% endif %}
{%- endmacro %}
<div class="tiles">
{% for value, words in tiles %}
<div class="tile"><b>{{ value }}</b><span>{{ words }}</span></div>
{% endfor %}
</div>
<h2>Results</h2>
<div class="panel"><table>
<tr><th>task</th><th>questions</th><th>accuracy</th><th></th><th>lenient</th>
  <th>blind</th><th>chance</th><th>unparsed</th><th>mark</th></tr>
{% for line in lines %}
<tr{% if line.task == "overall" %} class="total"{% endif %}>
  <td>{{ line.task }}</td><td>{{ line.num }}</td><td>{{ percent(line.accuracy) }}</td>
  <td class="wide">{{ bar(line.accuracy, [line.chance, 0.99] | min) }}</td>
  <td>{{ percent(line.lenient) }}</td><td>{{ percent(line.blind) }}</td>
  <td>{{ percent(line.chance) }}</td><td>{{ line.parse_failures }}</td>
  {% if line.passed %}<td class="good">reached</td>
  {% else %}<td class="bad">missed</td>{% endif %}</tr>
{% endfor %}
</table></div>
<p class="note">{{ marks }} The upright line in a bar is chance. Lenient reads answers
  with good will; unparsed answers lack the form of one.</p>
<h2>Held-out images</h2>
<p class="note">Chosen so that every task appears, with {{ chosen | rejectattr("strict")
  | list | length }} of the {{ rows | rejectattr("strict") | list | length }} wrong
  answers among {{ rows | length }}. Boxes: true green, predicted orange and dashed.</p>
<div class="cards">
{% for row in chosen %}
{% set mark = "right" if row.strict else "wrong" %}
<div class="card {{ mark }}">{{ frame(row) }}
  <small>{{ row.task }}</small><b>{{ row.question }}</b>
  <div class="says">truth: {{ row.gt }}</div>
  <div class="says {{ "good" if row.strict else "bad" }}">{{ mark }}: {{ row.pred }}
  </div></div>
{% endfor %}
</div>
{% if curves %}
<h2>Loss</h2>
<div class="panel image"><img alt="loss curves" src="{{ data_uri(curves) }}"></div>
{% endif %}
{% if timed %}
<h2>Time</h2>
<div class="panel"><table>
{% for name, seconds in timed %}
<tr{% if loop.last %} class="total"{% endif %}><td>{{ name }}</td>
  <td>{{ duration(seconds) }}</td>
  <td class="wide">{{ bar(seconds / timed[-1][1] if seconds else 0, none) }}</td></tr>
{% endfor %}
</table></div>
{% endif %}
{% if chat %}
<h2>Chat</h2>
{% if chat is string %}<div class="panel"><pre>{{ chat }}</pre></div>{% else %}
<div class="cards">
{% for talk in chat %}
<div class="card plain">{{ frame(talk) }}<b>{{ talk.question }}</b>
  <div class="says">{{ talk.answer }}</div></div>
{% endfor %}
</div>
{% endif %}
{% endif %}
{% if export %}
<h2>Export</h2>
<div class="panel"><table>
{% for name, value in export.items() %}
<tr><td>{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}
</table></div>
{% endif %}
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
    num_images: int = 24,
) -> str:
    """Write ``report.html``, ``loss_curves.png``, ``grid.png`` and ``results.txt``.

    The HTML holds its images and loads nothing.

    Args:
        out_dir (str | PathLike): made when missing.
        stages (Sequence[dict]): in order; ``name``, optionally ``seconds`` and, for
            stages that train, ``scalars`` (path of ``scalars.jsonl``).
        answers (str | PathLike | Sequence[dict]): JSON lines of
            ``TinyScenesMetric``, or its rows.
        blind_answers (str | PathLike | Sequence[dict] | None): the same with
            shuffled images.
        image_root (str | PathLike): joined before relative image paths.
        chat (str | Sequence[dict]): ``question``, ``answer`` and optionally
            ``image``; a text is shown as it is.
        export (dict | None): name to value, shown as they are.
        title (str): of the page.
        num_images (int): in the grid.

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
    write_atomic(folder / "results.txt", f"{table}\n")
    chosen = select_rows(rows, num_images)
    draw_grid(chosen, folder / "grid.png", image_root=image_root)
    trained = [stage for stage in stages if stage.get("scalars")]
    curves = folder / "loss_curves.png" if trained else None
    if curves:
        draw_loss_curves(trained, curves)
    timed = [(s["name"], s["seconds"]) for s in stages if "seconds" in s]
    if timed:
        timed.append(("all", sum(seconds for _, seconds in timed)))
    body = render(
        _BODY,
        tiles=_tiles(lines[-1], timed),
        lines=lines,
        marks=marks_text(),
        chosen=chosen,
        rows=rows,
        curves=curves,
        timed=timed,
        chat=chat,
        export=export,
        uri_of=lambda row: data_uri(image_path(row, image_root)),
        boxes_of=_placed_boxes,
        percent=_percent,
        duration=_duration,
    )
    return write_page(folder / "report.html", title=title, body=body, style=_STYLE)


def _percent(share: float | None, digits: int = 1) -> str:
    return "-" if share is None else f"{share:.{digits}%}"


def _tiles(total: ResultLine, timed: Sequence[tuple]) -> list[tuple[str, str]]:
    tiles = [(_percent(total.accuracy), f"of {total.num} held-out questions right")]
    if total.blind is not None:
        tiles.append((_percent(total.blind), "blind: images shuffled"))
    tiles.append((_percent(total.chance), "chance: the best constant answer"))
    if timed:
        tiles.append((_duration(timed[-1][1]), "for the whole"))
    return tiles


def _placed_boxes(row: dict) -> Iterator[tuple[str, str, str]]:
    """Yield name, colour and place (as CSS) of a row's boxes."""
    for name, colour, (x1, y1, x2, y2) in boxes_of(row):
        height, width = row["size"]
        yield (
            name,
            colour,
            f"left:{x1 / width:.2%};top:{y1 / height:.2%};"
            f"width:{(x2 - x1) / width:.2%};height:{(y2 - y1) / height:.2%}",
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
