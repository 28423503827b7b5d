"""Small charts as inline SVG, which follows the page's colours in light and in dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from memedit.evaluation.report.rendering import chart

COLOURS = 8
"""Number of series colours the page's style sheet defines (``--c0`` ... ``--c7``)."""
Figure = tuple[str, Markup]
"""A chart under its caption."""


@dataclass(frozen=True, slots=True)
class Series:
    """A named line: points (x, y), and for each the ends of its interval, where there is one."""

    name: str
    points: tuple[tuple[float, float], ...]
    intervals: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class _Box:
    """A drawing's size and its margins, in pixels at natural size."""

    width: int = 560
    height: int = 300
    left: int = 52
    right: int = 26
    top: int = 14
    bottom: int = 44

    @property
    def across(self) -> int:
        """Width between the margins."""
        return self.width - self.left - self.right

    @property
    def down(self) -> int:
        """Height between the margins."""
        return self.height - self.top - self.bottom

    def x_at(self, x: float, low: float, high: float) -> float:
        """Return where ``x`` lies on an axis from ``low`` to ``high``."""
        return self.left + (x - low) / (high - low) * self.across

    def y_at(self, y: float, low: float, high: float) -> float:
        """Return where ``y`` lies on an axis from ``low`` to ``high``; what lies outside stands at its end."""
        share = (y - low) / (high - low) if high > low else 0.0
        return self.height - self.bottom - min(1.0, max(0.0, share)) * self.down


_PLOT, _HEAT = _Box(), _Box(height=240, left=150, right=70)


def line_chart(
    series: Sequence[Series], *, x_label: str, y_label: str, y_range: tuple[float, float], x_ticks: Sequence[float]
) -> Markup:
    """Return an SVG of lines over a linear x axis from the first to the last of ``x_ticks``."""
    low, high = x_ticks[0], x_ticks[-1] if x_ticks[-1] > x_ticks[0] else x_ticks[0] + 1
    lines = []
    for line in series:
        places = [(_PLOT.x_at(x, low, high), _PLOT.y_at(y, *y_range)) for x, y in line.points]
        ends = zip(places, line.intervals, strict=False)
        intervals = [(x, _PLOT.y_at(above, *y_range), _PLOT.y_at(below, *y_range)) for (x, _), (below, above) in ends]
        lines.append({"name": line.name, "points": line.points, "places": places, "intervals": intervals})
    ticks = [(tick, _PLOT.x_at(tick, low, high)) for tick in x_ticks]
    axes = _axes(x_label, y_label, y_range)
    return chart("lines.svg", lines=lines, ticks=ticks, names=[line.name for line in series], **axes)


def bar_chart(bars: Sequence[tuple[str, float]], *, y_label: str) -> Markup:
    """Return an SVG of one bar a name, from zero."""
    y_range = (0.0, _round_up(max((value for _, value in bars), default=1.0)))
    slot = _PLOT.across / max(1, len(bars))
    drawn = [(name, value, _PLOT.left + slot * i, _PLOT.y_at(value, *y_range)) for i, (name, value) in enumerate(bars)]
    return chart("bars.svg", bars=drawn, slot=slot, names=[], **_axes("", y_label, y_range))


def heat_map(
    values: Sequence[Sequence[float]], rows: Sequence[str], *, x_label: str, outlined: Sequence[int] = ()
) -> Markup:
    """Return an SVG of fields, darker where the value is higher; what is below zero is drawn as zero.

    Args:
        values: ``[len(rows)][columns]``.
        rows: names at the left.
        x_label: what the columns are; they are numbered from 0.
        outlined: columns inside a frame, from the first to the last of them.
    """
    most = max((value for row in values for value in row), default=0.0)
    columns = len(values[0])
    width, height = _HEAT.across / columns, _HEAT.down / len(rows)
    return chart(
        "heat.svg",
        box=_HEAT,
        cell_width=width,
        cell_height=height,
        most=max(most, 0.0),
        rows=[
            {
                "name": name,
                "y": _HEAT.top + i * height,
                "cells": [
                    (_HEAT.left + j * width, max(0.0, value) / most if most > 0 else 0.0, value)
                    for j, value in enumerate(values[i])
                ],
            }
            for i, name in enumerate(rows)
        ],
        ticks=[(j, _HEAT.left + (j + 0.5) * width) for j in range(0, columns, math.ceil(columns / 12))],
        outline=(_HEAT.left + outlined[0] * width, (outlined[-1] - outlined[0] + 1) * width) if outlined else None,
        x_label=x_label,
    )


def _axes(x_label: str, y_label: str, y_range: tuple[float, float]) -> dict[str, object]:
    low, high = y_range
    steps = [low + (high - low) * i / 4 for i in range(5)]
    grid = [(value, _PLOT.y_at(value, low, high)) for value in steps]
    return {"box": _PLOT, "colours": COLOURS, "x_label": x_label, "y_label": y_label, "grid": grid}


def _round_up(value: float) -> float:
    """Return the end of an axis of four equal steps of a round size, above ``value``."""
    if value <= 0:
        return 1.0
    step = value * 1.05 / 4
    power = 10.0 ** math.floor(math.log10(step))
    return 4 * power * next(round_step for round_step in (1, 2, 2.5, 5, 10) if round_step * power >= step)
