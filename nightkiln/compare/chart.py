"""The chart of a comparison: for each kind of GPU a bar of dollars by what they are for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nightkiln.compare.comparison import Comparison
from nightkiln.compare.words import PARTS, finish_words, group_words, kind_words
from nightkiln.core.comparing import Basis, Expected, Line
from nightkiln.observers.sentences import duration
from nightkiln.rehearse.chart import GREY, INK, LIMIT, PALE, ticks
from nightkiln.rehearse.picture import Bar, Picture, Stroke, Words

WIDTH = 960
TOP, BOTTOM = 98, 52
LEFT, RIGHT = 236, 214  # for names, and for figures behind the bars
ROW, BAR, HEAD = 24, 14, 34
LINES_MAX = 40  # a longer picture is looked at by nobody
KEY_GAP = 28
LETTER = 6.6  # pixels of a letter of the key
PAPER = "#ffffff"

COLOURS = {
    "rendering": "#3f7d8c",
    "startup": "#b4532a",
    "storage": "#8a7bb0",
    "network": "#d6a13b",
    "idle": "#9aa5b1",
    "own_time": "#5b8c4a",
}


def chart(found: Comparison) -> Picture:
    """Bars by basis, the cheapest first; lines of different basis have headings between them."""
    groups = _shown(found)
    lines = [line for _, group in groups for line in group]
    height = TOP + BOTTOM + HEAD * len(groups) + ROW * len(lines)
    picture = Picture(WIDTH, height)
    most = max((line.expected.usd_per_1000 for line in lines), default=0.0)
    scale = (WIDTH - LEFT - RIGHT) / most if most > 0 else 0.0
    _head(picture, found, lines)
    _grid(picture, most, scale)
    y = float(TOP)
    for basis, group in groups:
        picture.marks += [
            Bar(0, y + 8, WIDTH, HEAD - 12, PAPER),  # or the grid would run through the words
            Words(14, y + 22, group_words(found, basis), 12, GREY),
        ]
        y += HEAD
        for line in group:
            _bar(picture, line, y, scale)
            y += ROW
    return picture


def _shown(found: Comparison) -> list[tuple[Basis, Sequence[Line]]]:
    """As many lines as a picture can hold."""
    groups, left = [], LINES_MAX
    for basis, group in found.groups.items():
        if left > 0:
            groups.append((basis, group[:left]))
            left -= len(group)
    return groups


def _head(picture: Picture, found: Comparison, lines: Sequence[Line]) -> None:
    batch = found.plan.batch
    more = len(found.lines) - len(lines)
    title = f"USD per 1,000 finished jobs: {batch.jobs:,} jobs within {duration(batch.deadline_s)}"
    picture.marks.append(Words(14, 34, title + (f", {more} lines more" * bool(more)), 20, INK))
    x = 14.0
    for name, colour in _key(lines):
        words = PARTS[name]
        picture.marks.append(Bar(x, 52, 12, 12, colour))
        picture.marks.append(Words(x + 17, 62, words, 12, INK))
        x += 17 + LETTER * len(words) + KEY_GAP
    said = "bars under one heading rest on the same and can be compared"
    picture.marks.append(Words(14, 86, said, 12, GREY))


def _key(lines: Sequence[Line]) -> Iterator[tuple[str, str]]:
    """The parts that there are."""
    for name, colour in COLOURS.items():
        if any(line.expected.parts[name] > 0 for line in lines):
            yield name, colour


def _grid(picture: Picture, most: float, scale: float) -> None:
    base = picture.height - BOTTOM
    for tick in ticks(0.0, most) if most > 0 else [0.0]:
        x = LEFT + tick * scale
        picture.marks.append(Stroke(x, TOP + 4, x, base, PALE))
        picture.marks.append(Words(x, base + 18, f"{tick:g}", 12, INK, "middle"))
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    picture.marks.append(Words(middle, base + 40, "USD per 1,000 finished jobs", 13, INK, "middle"))


def _bar(picture: Picture, line: Line, y: float, scale: float) -> None:
    found, x = line.expected, float(LEFT)
    name = f"{line.provider} {line.gpu}{kind_words(line.kind)}"
    picture.marks.append(Words(LEFT - 10, y + BAR - 2, name, 12, INK, "end"))
    for part, colour in COLOURS.items():
        width = found.per_1000(found.parts[part]) * scale
        if width > 0:
            picture.marks.append(Bar(x, y, width, BAR, colour))
            x += width
    colour = LIMIT if found.is_late else INK
    picture.marks.append(Words(x + 8, y + BAR - 2, _figures(found), 12, colour))


def _figures(found: Expected) -> str:
    return f"{found.usd_per_1000:.2f}, {finish_words(found)}, {found.machines} at once"
