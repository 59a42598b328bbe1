"""A page of two runs: their scores, and the questions on which they part."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmvlm.visualization.page import data_uri, render, write_page

#: Flipped questions that are shown per benchmark and direction.
_SHOWN = 24
_STYLE = """
table { border-collapse: collapse; width: 100%; } h2 { margin: 34px 0 8px; }
th, td { padding: 5px 10px; text-align: right; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; } th { color: var(--dim); }
.up { color: var(--good); } .down { color: var(--bad); }
.cards { display: grid; gap: 14px; margin: 10px 0;
  grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  padding: 12px; overflow-wrap: anywhere; }
.card img { width: 100%; max-height: 190px; object-fit: contain; }
.card p { margin: 6px 0 0; } .card small { color: var(--dim); }
"""
_BODY = """
<p class="note">A: {{ first }}<br>B: {{ second }}</p>
<table>
<tr><th>benchmark</th><th>items</th><th>A</th><th>B</th><th>B &minus; A</th>
<th>95 % interval</th><th>p</th><th>p, Holm</th><th>McNemar</th>
<th>smallest visible</th></tr>
{% for one in comparisons %}
<tr><td><a href="#{{ one.name }}">{{ one.title }}</a></td><td>{{ one.num_items }}</td>
<td>{{ one.before }}</td><td>{{ one.after }}</td>
<td class="{{ one.mark }}">{{ one.difference }}</td><td>{{ one.interval }}</td>
<td>{{ one.p_value }}</td><td>{{ one.adjusted }}</td><td>{{ one.mcnemar }}</td>
<td>{{ one.detectable }}</td></tr>
{% endfor %}
</table>
<p class="note">The interval and p come from resampling pictures or groups of questions,
the same for both runs. A difference below the last column would show in fewer than four
of five such sets.</p>
{% for one in comparisons %}
<h2 id="{{ one.name }}">{{ one.title }}</h2>
{% for label, mark, count, cards in one.sides %}
<h3 class="{{ mark }}">{{ label }}: {{ count }}</h3>
{% if cards|length < count %}
<p class="note">The first {{ cards|length }}.</p>
{% endif %}
<div class="cards">
{% for card in cards %}
<div class="card">
{% if card.image %}<img src="{{ card.image }}" alt="{{ card.name }}" loading="lazy">
{% else %}<small>{{ card.name }}</small>{% endif %}
<p>{{ card.question }}</p>
<p><small>right:</small> {{ card.reference }}</p>
<p class="{{ card.marks[0] }}"><small>A:</small> {{ card.texts[0] }}</p>
<p class="{{ card.marks[1] }}"><small>B:</small> {{ card.texts[1] }}</p>
<small>{{ card.uid }}</small>
</div>
{% endfor %}
</div>
{% endfor %}
{% endfor %}
"""


def write_comparison(
    path: str | os.PathLike, comparisons: Sequence[Any], first: str, second: str
) -> str:
    """Write the page and return its path.

    Args:
        path (str | PathLike): of the page.
        comparisons (Sequence[Comparison]): of :func:`compare_runs`.
        first (str): name of run A.
        second (str): name of run B.
    """
    values = [_shown(one) for one in comparisons]
    body = render(_BODY, comparisons=values, first=first, second=second)
    return write_page(path, title="Two runs compared", body=body, style=_STYLE)


def _shown(one: Any) -> dict[str, Any]:
    gains = [flip for flip in one.flips if flip.after > flip.before]
    losses = [flip for flip in reversed(one.flips) if flip.after < flip.before]
    sides = [("better in B", "up", gains), ("worse in B", "down", losses)]
    return dict(
        name=one.benchmark.name,
        title=" ".join(filter(None, [one.benchmark.title, one.benchmark.variant])),
        num_items=one.items,
        before=f"{one.before:.2f}",
        after=f"{one.after:.2f}",
        difference=f"{one.difference:+.2f}",
        mark="up" if one.low > 0 else "down" if one.high < 0 else "",
        interval=f"{one.low:+.2f} to {one.high:+.2f}",
        p_value=f"{one.p_value:.4f}",
        adjusted=f"{one.adjusted:.4f}",
        mcnemar="" if one.mcnemar is None else f"{one.mcnemar:.4f}",
        detectable=f"{one.detectable:.2f}",
        sides=[
            (
                label,
                mark,
                len(flips),
                [_card(f, one.image_root) for f in flips[:_SHOWN]],
            )
            for label, mark, flips in sides
        ],
    )


def _card(flip: Any, image_root: str) -> dict[str, Any]:
    images = flip.first["image"] or []
    name = images if isinstance(images, str) else ", ".join(map(str, images))
    path = Path(image_root, images if isinstance(images, str) else "")
    marks = [
        "up" if score > other else "down"
        for score, other in ((flip.before, flip.after), (flip.after, flip.before))
    ]
    return dict(
        image=data_uri(path) if path.is_file() else "",
        name=name or "no picture",
        question=flip.first["question"],
        reference=_words(flip.first["reference"]),
        texts=[flip.first["text"], flip.second["text"]],
        marks=marks,
        uid=flip.first["uid"],
    )


def _words(reference: Any) -> str:
    if isinstance(reference, list):
        return ", ".join(dict.fromkeys(map(str, reference)))
    return str(reference)
