"""Small line and bar charts as inline SVG, which follows the page's colours in light and in dark."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 26, 14, 44
COLOURS = 8
"""Number of series colours the page's style sheet defines (``--c0`` ... ``--c7``)."""


@dataclass(frozen=True, slots=True)
class Series:
    """A named line: points (x, y), and for each the ends of its interval, where there is one."""

    name: str
    points: tuple[tuple[float, float], ...]
    intervals: tuple[tuple[float, float], ...] = ()


def line_chart(
    series: Sequence[Series], *, x_label: str, y_label: str, y_range: tuple[float, float], x_ticks: Sequence[float]
) -> str:
    """Return an SVG of lines over a linear x axis from the first to the last of ``x_ticks``."""
    low, high = x_ticks[0], x_ticks[-1] if x_ticks[-1] > x_ticks[0] else x_ticks[0] + 1

    def x_at(x: float) -> float:
        return _LEFT + (x - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    parts = [_axes(x_label, y_label, y_range), *(_x_tick(x_at(tick), _number(tick)) for tick in x_ticks)]
    for i, line in enumerate(series):
        parts.append(_line(line, i, x_at, y_range))
    return _figure(parts, [line.name for line in series])


def bar_chart(bars: Sequence[tuple[str, float]], *, y_label: str) -> str:
    """Return an SVG of one bar a name, from zero."""
    top = _round_up(max((value for _, value in bars), default=1.0))
    y_range = (0.0, top)
    slot = (_WIDTH - _LEFT - _RIGHT) / max(1, len(bars))
    parts = [_axes("", y_label, y_range)]
    for i, (name, value) in enumerate(bars):
        x, y = _LEFT + slot * i + slot * 0.15, _y_at(value, y_range)
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{slot * 0.7:.1f}" height="{_HEIGHT - _BOTTOM - y:.1f}" '
            f'style="fill:var(--c{i % COLOURS})"><title>{escape(name)}: {_number(value)}</title></rect>'
            f'<text x="{x + slot * 0.35:.1f}" y="{y - 4:.1f}" text-anchor="middle">{_number(value)}</text>'
            f'<text x="{x + slot * 0.35:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{escape(name)}</text>'
        )
    return _figure(parts, [])


def _round_up(value: float) -> float:
    """Return the end of an axis of four equal steps of a round size, above ``value``."""
    if value <= 0:
        return 1.0
    step = value * 1.05 / 4
    power = 10.0 ** math.floor(math.log10(step))
    return 4 * power * next(round_step for round_step in (1, 2, 2.5, 5, 10) if round_step * power >= step)


def _line(line: Series, i: int, x_at: Callable[[float], float], y_range: tuple[float, float]) -> str:
    places = [(x_at(x), _y_at(y, y_range)) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    colour = f"var(--c{i % COLOURS})"
    dash = "" if i < COLOURS else ' stroke-dasharray="5 3"'
    marks = [f'<polyline points="{path}" fill="none" style="stroke:{colour}" stroke-width="2"{dash}/>']
    if len(places) <= 24:
        for (x, y), (value_x, value_y) in zip(places, line.points, strict=True):
            label = f"{escape(line.name)}: {_number(value_y)} at {_number(value_x)}"
            mark = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill:{colour}">'
            marks.append(f"{mark}<title>{label}</title></circle>")
    for (x, _), (low, high) in zip(places, line.intervals, strict=False):
        top, bottom = _y_at(high, y_range), _y_at(low, y_range)
        marks.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" style="stroke:{colour}"/>')
    return "".join(marks)


def _axes(x_label: str, y_label: str, y_range: tuple[float, float]) -> str:
    low, high = y_range
    parts = []
    for i in range(5):
        value = low + (high - low) * i / 4
        y = _y_at(value, y_range)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>'
        )
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text transform="translate(13,{middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _x_tick(x: float, label: str) -> str:
    y = _HEIGHT - _BOTTOM
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 4}" class="tick"/>'
        f'<text x="{x:.1f}" y="{y + 17}" text-anchor="middle">{label}</text>'
    )


def _y_at(value: float, y_range: tuple[float, float]) -> float:
    low, high = y_range
    share = (value - low) / (high - low) if high > low else 0.0
    return _HEIGHT - _BOTTOM - min(1.0, max(0.0, share)) * (_HEIGHT - _TOP - _BOTTOM)


def _figure(parts: Sequence[str], names: Sequence[str]) -> str:
    keys = "".join(
        f'<span><i style="background:var(--c{i % COLOURS})"></i>{escape(name)}</span>' for i, name in enumerate(names)
    )
    legend = f'<div class="legend">{keys}</div>' if keys else ""
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg>{legend}'


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
