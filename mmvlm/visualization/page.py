"""Figures, and HTML pages that hold their images and load nothing."""

from __future__ import annotations

import base64
import mimetypes
import os
from pathlib import Path
from types import BuiltinMethodType, MethodType
from typing import Any

from mmvlm.utils.files import write_atomic

#: What all pages share; a page's own style comes behind it.
_STYLE = """
:root { color-scheme: light dark; --ground: #f8fafc; --card: #ffffff; --ink: #0f172a;
  --dim: #64748b; --rule: #e2e8f0; --good: #15803d; --bad: #c2410c; --bar: #2563eb; }
@media (prefers-color-scheme: dark) { :root { --ground: #0b1120; --card: #151e31;
  --ink: #e2e8f0; --dim: #94a3b8; --rule: #27344d; --good: #4ade80; --bad: #fb923c;
  --bar: #60a5fa; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1160px; padding: 28px 20px 64px; color: var(--ink);
  background: var(--ground); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 25px; margin: 0 0 16px; } p.note { color: var(--dim); }
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
<h1>{{ title }}</h1>
{{ body }}
</body>
</html>
"""


def render(template: str, **values: Any) -> str:
    """Fill a jinja2 template and return markup, which other templates take as it is.

    Args:
        template (str): every value in it is escaped, unless it is markup.
        **values (Any): by name; ``data_uri`` is known to every template.

    Raises:
        jinja2.UndefinedError: for a name without a value.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=_no_method
    )
    environment.policies["json.dumps_kwargs"] = dict(separators=(",", ":"))
    environment.globals["data_uri"] = data_uri
    return Markup(environment.from_string(template).render(**values))


def _no_method(value: Any) -> Any:
    """Refuse a dict's own method, which ``row.items`` means where a key was meant."""
    if isinstance(value, MethodType | BuiltinMethodType):
        raise TypeError(f"the template writes a function: {value}")
    return value


def write_page(
    path: str | os.PathLike, *, title: str, body: str, style: str = ""
) -> str:
    """Write a page and return its path.

    Args:
        path (str | PathLike): of the page.
        title (str): escaped.
        body (str): of :func:`render`, behind the title.
        style (str): CSS beside what all pages share.
    """
    from markupsafe import Markup

    values = dict(title=title, style=Markup(_STYLE + style), body=body)
    write_atomic(path, render(_PAGE, **values))
    return str(path)


def data_uri(source: bytes | str | os.PathLike, kind: str | None = None) -> str:
    """Return an image as text that stands for its address.

    Args:
        source (bytes | str | PathLike): what the file holds, or its path.
        kind (str | None): ``image/jpeg``; None goes by the name of the file, else PNG.
    """
    if not isinstance(source, bytes):
        kind = kind or mimetypes.guess_type(str(source))[0]
        source = Path(source).read_bytes()
    return f"data:{kind or 'image/png'};base64,{base64.b64encode(source).decode()}"


def new_figure(width: float, height: float, layout: str | None = "constrained") -> Any:
    """Return an empty matplotlib figure, in inches, that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure
