"""Reports as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto;
       padding: 0 1rem; color: #1c1c1c; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
tr.total td { font-weight: 600; border-top: 2px solid #888; }
img { max-width: 100%; } pre { background: #f4f4f4; padding: .8rem; overflow: auto; }
"""


@dataclass
class Report:
    """Collect headings, text, tables and pictures; write them as HTML.

    Args:
        title (str): of the page.
        body (list[str]): HTML so far.

    Example:
        >>> report = Report("Run").text("All well & good.")
        >>> "All well &amp; good." in report.render()
        True

    """

    title: str
    body: list[str] = field(default_factory=list)

    def heading(self, text: str) -> Report:
        """Add a heading."""
        return self._add(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> Report:
        """Add a paragraph."""
        return self._add(f"<p>{html.escape(text)}</p>")

    def code(self, text: str) -> Report:
        """Add preformatted text."""
        return self._add(f"<pre>{html.escape(text)}</pre>")

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        has_total: bool = False,
    ) -> Report:
        """Add a table; with ``has_total`` the last row stands out."""
        cells = "".join(f"<th>{html.escape(str(c))}</th>" for c in header)
        lines = [f"<tr>{cells}</tr>"]
        for number, row in enumerate(rows, 1):
            cells = "".join(f"<td>{html.escape(str(c))}</td>" for c in row)
            mark = ' class="total"' if has_total and number == len(rows) else ""
            lines.append(f"<tr{mark}>{cells}</tr>")
        return self._add("<table>" + "".join(lines) + "</table>")

    def picture(self, path: str | os.PathLike, caption: str = "") -> Report:
        """Add a PNG, its bytes inside the page."""
        data = base64.b64encode(Path(path).read_bytes()).decode()
        alt = html.escape(caption, quote=True)
        return self._add(f'<img alt="{alt}" src="data:image/png;base64,{data}">')

    def render(self) -> str:
        """Return the page."""
        title = html.escape(self.title)
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f"<title>{title}</title><style>{_STYLE}</style></head><body>"
            f"<h1>{title}</h1>\n" + "\n".join(self.body) + "\n</body></html>\n"
        )

    def write(self, path: str | os.PathLike) -> None:
        """Write the page."""
        Path(path).write_text(self.render(), encoding="utf-8")

    def _add(self, piece: str) -> Report:
        self.body.append(piece)
        return self
