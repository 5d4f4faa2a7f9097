"""The chart of a rehearsal: how cost and finish are distributed over its nights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nightkiln.rehearse.picture import Bar, Picture, Stroke, Words
from nightkiln.rehearse.summary import Spread, Summary

WIDTH, HEIGHT = 960, 400
TOP, BOTTOM, LEFT, GAP = 104, 58, 56, 64  # margins, and between the two panels
BINS = 24
TICKS = 5  # about so many on an axis
LETTER = 7.2  # pixels that a letter of a line's name takes
ROOM = 0.06  # of the width of an axis, beside its outermost value
FAR = 1.6  # a limit beyond so many times the nights' range is told in words only
INK, GREY, PALE = "#1f2933", "#6b7785", "#dde3ea"
FILL, MIDDLE, LIMIT = "#3f7d8c", "#b4532a", "#b3202c"
NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
MINUTES_MAX_S = 2 * 3600.0  # nights that end sooner are shown in minutes


@dataclass(frozen=True, slots=True)
class Axis:
    """One distribution: what is counted, and the line it should stay left of."""

    title: str
    unit: str
    values: Sequence[float]
    spread: Spread
    limit: float | None
    limit_name: str


def chart(summary: Summary) -> Picture:
    """Two histograms side by side, with medians, 90th percentiles and limits."""
    picture = Picture(WIDTH, HEIGHT)
    _head(picture, summary)
    panel = (WIDTH - LEFT - GAP - 24) / 2
    for number, axis in enumerate((_cost(summary), _finish(summary))):
        left = LEFT + number * (panel + GAP)
        _panel(picture, axis, left, left + panel)
    return picture


def _cost(summary: Summary) -> Axis:
    budget = summary.script.budget
    return Axis(
        title="Cost of a night",
        unit="USD",
        values=[night.usd for night in summary.nights],
        spread=summary.spread(lambda night: night.usd),
        limit=float(budget) if budget is not None else None,
        limit_name="budget",
    )


def _finish(summary: Summary) -> Axis:
    deadline_s = summary.script.deadline_s
    unit_s, unit = (60.0, "minutes") if deadline_s <= MINUTES_MAX_S else (3600.0, "hours")
    return Axis(
        title="Finish after the start",
        unit=unit,
        values=[night.finish_s / unit_s for night in summary.nights],
        spread=summary.spread(lambda night: night.finish_s / unit_s),
        limit=deadline_s / unit_s,
        limit_name="deadline",
    )


def _head(picture: Picture, summary: Summary) -> None:
    script, nights = summary.script, len(summary.nights)
    title = f"{script.market.batch.jobs:,} jobs, {nights} rehearsed nights"
    met = f"deadline met {summary.deadline_met_fraction:.1%}"
    price = f"{summary.usd_per_1000:.3f} USD per 1,000 jobs"
    waste = f"{summary.waste_fraction:.0%} of it bought no result"
    market = f"market {script.market.name} ({script.market.digest})"
    picture.marks += [
        Words(LEFT, 34, title, 20, INK),
        Words(LEFT, 58, f"{met}   |   {price}   |   {waste}   |   {market}", 13, GREY),
    ]


def _panel(picture: Picture, axis: Axis, left: float, right: float) -> None:
    low, high = _range(axis)
    base = HEIGHT - BOTTOM
    scale = (right - left) / (high - low)
    counts = _counts(axis.values, low, high)
    most, width = max(counts), (right - left) / BINS
    _grid(picture, most, left, right)
    for number, count in enumerate(counts):
        height = count / most * (base - TOP)
        picture.marks.append(Bar(left + number * width + 1, base - height, width - 2, height, FILL))
    picture.marks.append(Stroke(left, base, right, base, INK))
    for tick in ticks(low, high):
        x = left + (tick - low) * scale
        picture.marks.append(Stroke(x, base, x, base + 4, INK))
        picture.marks.append(Words(x, base + 18, f"{tick:g}", 12, INK, "middle"))
    _lines(picture, axis, left - low * scale, scale)
    title = f"{axis.title}, {axis.unit}"
    if axis.limit is not None and axis.limit > high:
        title += f"  ({axis.limit_name} {axis.limit:g})"
    picture.marks.append(Words((left + right) / 2, base + 42, title, 13, INK, "middle"))


def _lines(picture: Picture, axis: Axis, origin: float, scale: float) -> None:
    """Median, 90th percentile and limit, each with its name, on as many levels."""
    lines = [
        ("p50", axis.spread.p50, MIDDLE, False),
        ("p90", axis.spread.p90, MIDDLE, True),
    ]
    if axis.limit is not None and axis.limit <= _range(axis)[1]:
        lines.append((axis.limit_name, axis.limit, LIMIT, False))
    taken = -math.inf
    for name, value, colour, is_dashed in lines:
        x, text = origin + value * scale, f"{name} {value:.3g}"
        half = LETTER * len(text) / 2
        is_free = x - half > taken
        level = TOP - 10 if is_free else TOP - 25
        taken = x + half if is_free else taken
        picture.marks.append(Stroke(x, level + 4, x, HEIGHT - BOTTOM, colour, 1.5, is_dashed))
        picture.marks.append(Words(x, level, text, 12, colour, "middle"))


def _grid(picture: Picture, most: int, left: float, right: float) -> None:
    """How many nights a bar stands for."""
    base = HEIGHT - BOTTOM
    for tick in ticks(0, most):
        if tick != int(tick) or tick == 0:
            continue
        y = base - tick / most * (base - TOP)
        picture.marks.append(Stroke(left, y, right, y, PALE))
        picture.marks.append(Words(left - 7, y + 4, f"{tick:g}", 11, GREY, "end"))


def _range(axis: Axis) -> tuple[float, float]:
    """What the axis shows: every night, and the limit where that is not far off."""
    low, high = min(axis.values), max(axis.values)
    span = max(high - low, abs(high) * 0.02, 1e-9)
    if axis.limit is not None and low - span <= axis.limit <= high + FAR * span:
        low, high = min(low, axis.limit), max(high, axis.limit)
    room = ROOM * max(high - low, span)
    return max(0.0, low - room), high + room


def _counts(values: Sequence[float], low: float, high: float) -> list[int]:
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int((value - low) / (high - low) * BINS))] += 1
    return counts


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high``."""
    rough = (high - low) / TICKS
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(nice * scale for nice in NICE if nice * scale >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]
