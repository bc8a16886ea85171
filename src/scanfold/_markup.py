"""HTML built from elements: all text is escaped, unless an element made it."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence


class Markup(str):
    """Text that is HTML already."""


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """Return an element; children and attributes that are not `Markup` are escaped.

    Examples
    --------
    >>> element("p", "a < b", element("b", "!"), title='say "x"')
    '<p title="say &quot;x&quot;">a &lt; b<b>!</b></p>'
    """
    written = "".join(f' {name.rstrip("_")}="{html.escape(str(value))}"' for name, value in attributes.items())
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def image(png: bytes, text: str) -> Markup:
    """Return an image that is part of the page, with the text that stands for it."""
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    return Markup(f'<img src="{source}" alt="{html.escape(text)}">')


def join(children: Iterable[object]) -> Markup:
    """Return pieces one after the other, escaped where they are plain text."""
    return Markup("".join(c if isinstance(c, Markup) else html.escape(str(c)) for c in children))


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Markup:
    """Return a table; cells that hold numbers stand right."""
    top = element("tr", *(element("th", h) for h in head))
    body = join(element("tr", *(_cell(c) for c in row)) for row in rows)
    return element("div", element("table", element("thead", top), element("tbody", body)), class_="scroll")


def _cell(value: object) -> Markup:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return element("td", value)
    return element("td", f"{value:,}" if isinstance(value, int) else number(value), class_="number")


def number(value: float) -> str:
    """Return a number with six digits at most, and a dash for NaN.

    Examples
    --------
    >>> number(1000.98234), number(float("nan"))
    ('1000.98', '–')
    """
    return f"{value:.6g}" if value == value else "–"


def overview(thing: object, *details: object) -> str:
    """Return what a notebook shows of an object: its ``repr``, and below it tables or Datasets; nothing is computed.

    Examples
    --------
    >>> overview("<bragg.Data: 3 groups>", table(["name"], [["a < b"]]))[:68]
    '<div><p><strong>&lt;bragg.Data: 3 groups&gt;</strong></p><div class='
    """
    said = thing if isinstance(thing, str) else repr(thing)
    shown = (d if isinstance(d, Markup) else Markup(d._repr_html_()) for d in details)  # type: ignore[attr-defined]
    return element("div", element("p", element("strong", said)), *shown)


def section(title: str, *children: object) -> Markup:
    """Return a section with its heading; empty without content."""
    content = join(children)
    return element("section", element("h2", title), content) if content else Markup("")


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:1100px;margin:2em auto;padding:0 1em}
h1{margin-bottom:0}h2{border-bottom:1px solid #ccc;margin-top:2em}h3{margin:1.2em 0 .2em}
.scroll{overflow-x:auto}table{border-collapse:collapse;margin:.6em 0}
th,td{text-align:left;padding:.2em .8em .2em 0;border-bottom:1px solid #e5e5e5;vertical-align:top}
.number{text-align:right;font-variant-numeric:tabular-nums;padding-right:1.2em}
img{max-width:100%;height:auto}pre{background:#f5f5f5;padding:1em;overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere}
.note{color:#555}
"""
#: Nothing is loaded and nothing runs, whatever the metadata holds.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, *children: object) -> str:
    """Return a whole page that needs nothing but itself."""
    policy = html.escape(_POLICY)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{element('title', title)}<style>{_STYLE}</style></head>\n<body>{join(children)}</body></html>\n"
    )
