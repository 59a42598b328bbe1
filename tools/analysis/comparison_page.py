"""A page of two runs: their scores, and the questions on which they part."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mmvlm.datasets.bad_samples import DATA_ERRORS
from mmvlm.engine.benchmarks.questions import Questions
from mmvlm.evaluation.benchmark import Benchmark
from mmvlm.evaluation.comparison import Comparison
from mmvlm.evaluation.records import image_name, is_embedded
from mmvlm.evaluation.scoring import rule_of
from mmvlm.visualization.page import data_uri, render, write_page

#: Flipped questions that are shown per benchmark and direction.
_SHOWN = 24
_STYLE = """
table { border-collapse: collapse; width: 100%; } h2 { margin: 34px 0 8px; }
th, td { padding: 5px 10px; text-align: right; border-bottom: 1px solid var(--rule); }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
th { color: var(--dim); }
.up { color: var(--good); } .down { color: var(--bad); }
.cards { display: grid; gap: 14px; margin: 10px 0;
  grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  padding: 12px; overflow-wrap: anywhere; }
.card img { width: 100%; max-height: 190px; object-fit: contain; }
td small { color: var(--dim); margin-left: 6px; }
.card p { margin: 6px 0 0; white-space: pre-line; } .card small { color: var(--dim); }
"""
_BODY = """
<p class="note">A: {{ first }}<br>B: {{ second }}</p>
<table>
<tr><th>benchmark</th><th>items</th><th>A</th><th>B</th><th>B &minus; A</th>
<th>95 % interval</th><th>p</th><th>p, Holm</th><th>McNemar</th>
<th>smallest visible</th></tr>
{% for one in comparisons %}
<tr><td><a href="#{{ one.name }}">{{ one.title }}</a>
<small>{{ one.metric }}</small></td><td>{{ one.num_items }}</td>
<td>{{ one.before }}</td><td>{{ one.after }}</td>
<td class="{{ one.mark }}">{{ one.difference }}</td><td>{{ one.interval }}</td>
<td>{{ one.p_value }}</td><td>{{ one.adjusted }}</td><td>{{ one.mcnemar }}</td>
<td>{{ one.detectable }}</td></tr>
{% endfor %}
</table>
<p class="note">The interval and p come from resampling images or groups of questions,
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
{% for name, image in card.images %}
{% if image %}<img src="{{ image }}" alt="{{ name }}" loading="lazy">
{% else %}<small>{{ name }}</small>{% endif %}
{% else %}<small>no image</small>
{% endfor %}
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
    images = Images(one.benchmark, one.image_root, one.data_root)
    gains = [flip for flip in one.flips if flip.after > flip.before]
    losses = [flip for flip in reversed(one.flips) if flip.after < flip.before]
    sides = [("better in B", "up", gains), ("worse in B", "down", losses)]
    return dict(
        name=one.benchmark.name,
        title=" ".join(filter(None, [one.benchmark.title, one.benchmark.variant])),
        metric=f"{one.benchmark.headline} ({rule_of(one.benchmark)})",
        num_items=one.items,
        before=f"{one.before:.2f}",
        after=f"{one.after:.2f}",
        difference=f"{one.difference:+.2f}",
        mark="up" if one.low > 0 else "down" if one.high < 0 else "",
        interval=interval(one),
        p_value=chance(one.p_value),
        adjusted=chance(one.adjusted),
        mcnemar=chance(one.mcnemar),
        detectable="" if math.isnan(one.detectable) else f"{one.detectable:.2f}",
        sides=[
            (
                label,
                mark,
                len(flips),
                [_card(f, images) for f in flips[:_SHOWN]],
            )
            for label, mark, flips in sides
        ],
    )


def chance(value: float | None) -> str:
    """Return a p-value as text, empty where there is none."""
    if value is None:
        return ""
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def interval(one: Comparison) -> str:
    """Return the interval of a difference as text."""
    few = math.isnan(one.low)
    return "too few items" if few else f"{one.low:+.2f} to {one.high:+.2f}"


class Images:
    """The images of questions: files, or what lies inside a benchmark's own files.

    Args:
        benchmark (Benchmark): whose questions they are.
        image_root (str): where files lie.
        data_root (str): where the benchmark's files lay when it was asked.
    """

    def __init__(self, benchmark: Benchmark, image_root: str, data_root: str) -> None:
        dataset = {**benchmark.dataset, "data_root": data_root}
        self._benchmark = replace(benchmark, dataset=dataset)
        self._root, self._has_data = image_root, bool(data_root)

    @cached_property
    def _places(self) -> tuple[Questions | None, dict[str, int]]:
        """The questions and the place of each uid; none that cannot be read now."""
        if not self._has_data:
            return None, {}
        try:
            questions = Questions(self._benchmark)
            return questions, {uid: place for place, uid in enumerate(questions.uids)}
        except DATA_ERRORS:
            return None, {}

    def of(self, record: dict[str, Any]) -> list[tuple[str, str]]:
        """Return name and address of each image; no address of one that is gone."""
        names = record["image"] or []
        names = [names] if isinstance(names, str) else list(map(str, names))
        embedded = self._embedded(record) if any(map(is_embedded, names)) else {}
        return [(name, self._address(name, embedded)) for name in names]

    def _embedded(self, record: dict[str, Any]) -> dict[str, Any]:
        questions, places = self._places
        if record["uid"] not in places:
            return {}
        try:
            talk = questions.dataset.item_at(places[record["uid"]])["conversation"]
        except DATA_ERRORS:
            return {}
        return {image_name(one): one for one in talk.images}

    def _address(self, name: str, embedded: dict[str, Any]) -> str:
        content = embedded.get(name)
        if isinstance(content, bytes):
            return data_uri(content)
        path = Path(self._root, name)
        return data_uri(path) if path.is_file() else ""


def _card(flip: Any, images: Images) -> dict[str, Any]:
    marks = [
        "up" if score > other else "down"
        for score, other in ((flip.before, flip.after), (flip.after, flip.before))
    ]
    return dict(
        images=images.of(flip.first),
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
