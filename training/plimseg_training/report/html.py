"""Building blocks of a report: tables, heat table, line charts and pictures as HTML and SVG."""

from __future__ import annotations

import base64
import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


Series = list[tuple[float, float]]

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #202124; --faint: #5f6368;
  --rule: #d8dade; --panel: #f6f7f8; --warn: #8a5300; --heat: 11, 87, 208; --strong: #fff; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e6e7e9;
  --faint: #9aa0a6; --rule: #383c42; --panel: #1e2125; --warn: #f2b45c;
  --heat: 120, 170, 255; --strong: #101214; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 28px 24px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 40px 0 10px; padding-top: 12px; border-top: 1px solid var(--rule); }
h3 { font-size: 15px; margin: 20px 0 6px; }
p { margin: 6px 0 10px; max-width: 78ch; }
.lead, .faint, figcaption, caption { color: var(--faint); }
.caveat { border-left: 3px solid var(--warn); padding: 6px 14px; background: var(--panel); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 6px 0 14px; font-size: 14px;
  font-variant-numeric: tabular-nums; }
th, td { padding: 4px 12px 4px 0; text-align: right; border-bottom: 1px solid var(--rule);
  vertical-align: top; }
th { font-weight: 600; color: var(--faint); }
th:first-child, td:first-child, .text td, .text th { text-align: left; }
.heat td { min-width: 64px; padding: 6px 10px; border: 1px solid var(--paper); }
.heat th { padding: 6px 10px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; margin: 8px 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--panel); padding: 12px 14px; overflow-x: auto; font-size: 13px;
  line-height: 1.45; border-radius: 6px; }
figure { margin: 14px 0 22px; } figure img { max-width: 100%; height: auto; display: block;
  border: 1px solid var(--rule); border-radius: 4px; background: #fff; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr));
  gap: 8px 28px; }
.pictures { display: flex; flex-wrap: wrap; gap: 0 24px; align-items: flex-end; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.keys { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 13px; color: var(--faint); }
.keys i { display: inline-block; width: 14px; height: 3px; vertical-align: middle;
  margin-right: 6px; border-radius: 2px; }
details summary { cursor: pointer; color: var(--faint); }
"""
# distinguishable on white and on near-black, also for color-blind readers
LINE_COLORS = ("#3b82f6", "#e07b00", "#12a37f", "#c2418f", "#7c6ff0", "#8a8f98", "#b58900")
_WIDTH, _HEIGHT = 460, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 26


def table(rows: Sequence[Sequence[str]], *, kind: str = "", caption: str = "") -> str:
    """Return an HTML table of text cells whose first row holds the headings.

    Parameters
    ----------
    rows : sequence of sequences of str
    kind : str
        A class of the style sheet: "text" aligns every cell to the left.
    caption : str
    """
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:]
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    marks = f' class="{kind}"' if kind else ""
    return (
        f'<div class="scroll"><table{marks}>{title}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def heat_table(names: Sequence[str], counts: Sequence[Sequence[float]]) -> str:
    """Return a confusion matrix with cells colored by their share of the row.

    Parameters
    ----------
    names : sequence of str
        Names of the K classes.
    counts : sequence of sequences of numbers, shape (K, K)
        Rows are the truth.
    """
    head = "<th>truth ↓ mask →</th>" + "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for name, row in zip(names, counts, strict=True):
        total = sum(row)
        cells = []
        for count in row:
            share = count / total if total else 0.0
            ink = "var(--strong)" if share > 0.55 else "var(--ink)"
            text = f"{100 * share:.1f}" if total else "–"
            cells.append(
                f'<td style="background: rgba(var(--heat), {share:.3f}); color: {ink}" '
                f'title="{count:,.0f} pixels">{text}</td>'
            )
        rows.append(f"<tr><th>{escape(name)}</th>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table class="heat"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def facts(pairs: Mapping[str, str]) -> str:
    """Return a list of names with values; empty values are skipped."""
    inside = "".join(f"<dt>{escape(n)}</dt><dd>{escape(v)}</dd>" for n, v in pairs.items() if v)
    return f"<dl>{inside}</dl>"


def picture(content: bytes, kind: str, caption: str) -> str:
    """Return a picture embedded in the page.

    Parameters
    ----------
    content : bytes
        The file.
    kind : str
        "png" or "jpeg".
    caption : str
        Under the picture, and for those who can't see it.
    """
    data = base64.b64encode(content).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/{kind};base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def line_chart(title: str, series: Mapping[str, Series], x_label: str = "epoch") -> str:
    """Return a line chart as SVG, with a key when there is more than one line.

    Parameters
    ----------
    title : str
    series : mapping of str to list of (x, y)
        Points whose y is not finite are left out; a line without any is not drawn.
    x_label : str

    Returns
    -------
    str
        Empty when there is nothing to draw.
    """
    lines = {n: [p for p in points if math.isfinite(p[1])] for n, points in series.items()}
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return ""
    every = [point for points in lines.values() for point in points]
    left, right = min(x for x, _ in every), max(x for x, _ in every)
    ticks = _ticks(min(0.0, *(y for _, y in every)), max(y for _, y in every))
    low, high = ticks[0], ticks[-1]
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - left) / (right - left) if right > left else 0.5
        return _LEFT + across * inner_width, _TOP + (high - y) / (high - low) * inner_height

    parts = []
    for tick in ticks:
        _, y = at(left, tick)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>'
        )
    for x in sorted({left, right}):
        parts.append(
            f'<text x="{at(x, low)[0]:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{x:g}</text>'
        )
    parts.append(
        f'<text x="{_LEFT + inner_width / 2:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    keys = []
    for i, (name, points) in enumerate(lines.items()):
        color = LINE_COLORS[i % len(LINE_COLORS)]
        places = [at(*point) for point in points]
        if len(places) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            parts.append(f'<polyline class="line" stroke="{color}" points="{path}"/>')
        x, y = places[-1]
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.8" fill="{color}">'
            f"<title>{escape(name)}: {points[-1][1]:.4g}</title></circle>"
        )
        keys.append(
            f'<span><i style="background: {color}"></i>{escape(name)} '
            f"{_number(points[-1][1])}</span>"
        )
    return (
        f'<figure><h3>{escape(title)}</h3><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
        f'<div class="keys">{"".join(keys)}</div></figure>'
    )


def page(title: str, body: str) -> str:
    """Return a complete page without external resources."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers that enclose a range."""
    span = high - low or abs(high) or 1.0
    raw = span / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def _number(value: float) -> str:
    if value and abs(value) < 0.01:
        digits, _, power = f"{value:.2e}".partition("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.3g}"
