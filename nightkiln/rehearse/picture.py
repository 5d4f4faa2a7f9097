"""Pictures of bars, lines and words, as SVG or PNG; just what a chart needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from typing import Literal

Anchor = Literal["start", "middle", "end"]

FONT = "Helvetica, Arial, sans-serif"
PNG_SCALE = 2  # for screens with small dots
DASH = 5.0  # pixels on, and as many off
_PILLOW_ANCHORS: dict[Anchor, str] = {"start": "ls", "middle": "ms", "end": "rs"}


@dataclass(frozen=True, slots=True)
class Bar:
    """A filled rectangle; ``x``, ``y`` is its upper left corner."""

    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True, slots=True)
class Stroke:
    """A straight line, upright or level where it is dashed."""

    x: float
    y: float
    to_x: float
    to_y: float
    colour: str
    width: float = 1.0
    is_dashed: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """Text on a baseline."""

    x: float
    y: float
    text: str
    size: float
    colour: str
    anchor: Anchor = "start"


@dataclass(slots=True)
class Picture:
    """What is drawn, in order; units are pixels."""

    width: int
    height: int
    marks: list[Bar | Stroke | Words] = field(default_factory=list)


def svg(picture: Picture) -> str:
    """The picture as a text that browsers show."""
    width, height = picture.width, picture.height
    size = f'width="{width}" height="{height}"'
    box = f'viewBox="0 0 {width} {height}" font-family="{FONT}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box}>',
        f'<rect {size} fill="#ffffff"/>',
        *map(_svg_mark, picture.marks),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _svg_mark(mark: Bar | Stroke | Words) -> str:
    match mark:
        case Bar(x, y, width, height, colour):
            return (
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
                f'fill="{colour}"/>'
            )
        case Stroke(x, y, to_x, to_y, colour, width, is_dashed):
            dashes = f' stroke-dasharray="{DASH:g}"' if is_dashed else ""
            return (
                f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" '
                f'stroke="{colour}" stroke-width="{width:g}"{dashes}/>'
            )
        case Words(x, y, text, size, colour, anchor):
            return (
                f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{colour}" '
                f'text-anchor="{anchor}">{escape(text)}</text>'
            )


def png(picture: Picture) -> bytes:
    """The picture as an image of twice as many pixels."""
    from PIL import Image, ImageDraw

    size = (picture.width * PNG_SCALE, picture.height * PNG_SCALE)
    image = Image.new("RGB", size, "#ffffff")
    draw = ImageDraw.Draw(image)
    for mark in picture.marks:
        _draw(draw, mark)
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _draw(draw: object, mark: Bar | Stroke | Words) -> None:
    from PIL import ImageFont
    from PIL.ImageDraw import ImageDraw

    assert isinstance(draw, ImageDraw)
    scale = PNG_SCALE
    match mark:
        case Bar(x, y, width, height, colour):
            if width * scale >= 1 and height * scale >= 1:  # thinner, it is no pixel
                corners = (x * scale, y * scale, (x + width) * scale - 1, (y + height) * scale - 1)
                draw.rectangle(corners, fill=colour)
        case Stroke(colour=colour, width=width):
            for part in _dashes(mark):
                ends = tuple(number * scale for number in part)
                draw.line(ends, fill=colour, width=max(1, round(width * scale)))
        case Words(x, y, text, size, colour, anchor):
            font = ImageFont.load_default(size * scale)
            place = (x * scale, y * scale)
            draw.text(place, text, fill=colour, font=font, anchor=_PILLOW_ANCHORS[anchor])


def _dashes(stroke: Stroke) -> list[tuple[float, float, float, float]]:
    """The parts of a line that are drawn."""
    x, y, to_x, to_y = stroke.x, stroke.y, stroke.to_x, stroke.to_y
    length = max(abs(to_x - x), abs(to_y - y))
    if not stroke.is_dashed or length == 0:
        return [(x, y, to_x, to_y)]
    along_x, along_y = (to_x - x) / length, (to_y - y) / length
    parts, at = [], 0.0
    while at < length:
        end = min(at + DASH, length)
        parts.append((x + along_x * at, y + along_y * at, x + along_x * end, y + along_y * end))
        at += 2 * DASH
    return parts
