"""The frame of a self-contained HTML page: style, headings, tables. No scripts, no outside references."""

from collections.abc import Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --bg:#fff; --fg:#1b1f24; --dim:#5d6673; --line:#d5dae1; --card:#f6f8fa;
  --c0:#2463b5; --c1:#c2501b; --c2:#1f7a4d; --c3:#8a3fa0; --c4:#9a7b00; --c5:#b3284f; --c6:#0e7c86; --c7:#6b6f76; }
@media (prefers-color-scheme: dark) { :root { --bg:#14171b; --fg:#e4e8ee; --dim:#9aa5b3; --line:#363d47;
  --card:#1c2127; --c0:#6ea8f5; --c1:#f59a6b; --c2:#62c894; --c3:#c88be0; --c4:#d9ba45; --c5:#f0789a; --c6:#56c4cf;
  --c7:#a9b0ba; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px; max-width: 1240px; background: var(--bg); color: var(--fg);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 8px; }
h3 { font-size: 16px; margin: 20px 0 6px; }
p { margin: 6px 0; max-width: 80ch; } .dim { color: var(--dim); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 8px 0; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { font-weight: 600; white-space: nowrap; } td.num, th.num { text-align: right; white-space: nowrap; }
td small { color: var(--dim); display: block; font-size: 11px; }
td.text { min-width: 150px; max-width: 300px; overflow-wrap: anywhere; white-space: pre-wrap; }
tr.detail td { color: var(--dim); border-bottom-style: dotted; } tr.detail td:first-child { padding-left: 26px; }
.plots { display: flex; flex-wrap: wrap; gap: 16px; }
figure { margin: 0; padding: 12px; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  flex: 1 1 440px; max-width: 620px; }
figcaption { font-size: 14px; font-weight: 600; margin-bottom: 4px; }
svg { width: 100%; height: auto; } svg text { fill: var(--dim); font-size: 12px; }
svg .grid { stroke: var(--line); } svg .tick { stroke: var(--dim); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: 13px; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 5px;
  vertical-align: -1px; }
details { margin: 10px 0; } summary { cursor: pointer; font-weight: 600; }
code { font: 13px ui-monospace, monospace; }
"""


def page(title: str, body: Sequence[str]) -> str:
    """Return a whole HTML document; ``title`` is text, ``body`` is HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def figure(caption: str, content: str) -> str:
    """Return a plot under its caption; ``caption`` is text, ``content`` HTML."""
    return f"<figure><figcaption>{escape(caption)}</figcaption>{content}</figure>"


def table(head: Sequence[str], rows: Sequence[str], *, numeric_from: int = 1) -> str:
    """Return a table; ``rows`` are ``<tr>`` elements, columns from ``numeric_from`` on are numbers."""
    cells = "".join(
        f'<th class="num">{escape(name)}</th>' if i >= numeric_from else f"<th>{escape(name)}</th>"
        for i, name in enumerate(head)
    )
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def text_cell(text: str, limit: int = 400) -> str:
    """Return a cell of text that came from data or a model, shortened and escaped."""
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    return f'<td class="text">{escape(shown)}</td>'


def number_cell(text: str, small: str = "") -> str:
    """Return a cell of a number with small print under it."""
    under = f"<small>{escape(small)}</small>" if small else ""
    return f'<td class="num">{escape(text)}{under}</td>'
