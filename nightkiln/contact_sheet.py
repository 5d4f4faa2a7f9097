"""Many results in one picture, each with a caption."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont, ImageOps

BOX_PX = 256  # that a picture is fitted into
GAP_PX, MARGIN_PX, HEAD_PX = 20, 28, 84
TITLE_PX, TEXT_PX, LINE_PX = 15, 13, 18  # sizes of letters, and from line to line
TEXT_LINES = 2
COLUMNS_FEW, COLUMNS_MAX = 4, 10
WIDE = 1.5  # columns per line of tiles, about
WIDTH_MIN_PX = 2 * (BOX_PX + GAP_PX) + 2 * MARGIN_PX  # a heading needs so much
TEXT_CHARS_MAX = 400  # of a caption; more would not be seen
PIXELS_MAX = 64_000_000  # of a picture: more is not brought into memory to show it small
NIGHT, BOX, INK, GREY, FAILED = "#101014", "#1c1c24", "#f2f2f5", "#9a9aa8", "#ff8a7a"
ELLIPSIS = "\u2026"


@dataclass(frozen=True, slots=True)
class Tile:
    """One result, or what there is instead of one."""

    title: str
    note: str = ""  # at the right end of the title's line
    text: str = ""  # below, cut to ``TEXT_LINES`` lines
    picture: Callable[[], bytes] | None = None  # fetches a verified image; KeyError: it is gone
    instead: str = ""  # what is said where there is no picture
    is_failed: bool = False


def contact_sheet(heading: str, below: str, tiles: Sequence[Tile]) -> bytes:
    """A PNG of all tiles under a heading."""
    assert tiles, "a sheet of nothing"
    columns = _columns(len(tiles))
    lines = math.ceil(len(tiles) / columns)
    step_x, step_y = BOX_PX + GAP_PX, BOX_PX + (TEXT_LINES + 2) * LINE_PX + GAP_PX
    width = max(WIDTH_MIN_PX, 2 * MARGIN_PX + columns * step_x - GAP_PX)
    sheet = Image.new("RGB", (width, HEAD_PX + lines * step_y + MARGIN_PX - GAP_PX), NIGHT)
    draw = ImageDraw.Draw(sheet)
    room = width - 2 * MARGIN_PX
    draw.text((MARGIN_PX, 36), _cut(heading, 22, room), INK, _font(22), anchor="ls")
    draw.text((MARGIN_PX, 62), _cut(below, TITLE_PX, room), GREY, _font(TITLE_PX), anchor="ls")
    for at, tile in enumerate(tiles):
        line, column = divmod(at, columns)
        _draw(sheet, draw, tile, MARGIN_PX + column * step_x, HEAD_PX + line * step_y)
    buffer = BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _columns(tiles: int) -> int:
    few = min(tiles, COLUMNS_FEW)
    return min(COLUMNS_MAX, max(few, math.ceil(math.sqrt(WIDE * tiles))))


def _draw(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, x: int, y: int) -> None:
    draw.rectangle((x, y, x + BOX_PX - 1, y + BOX_PX - 1), fill=BOX)
    picture = _picture(tile.picture) if tile.picture is not None else None
    if picture is not None:
        corner = (x + (BOX_PX - picture.width) // 2, y + (BOX_PX - picture.height) // 2)
        sheet.paste(picture, corner, picture)
    else:
        said = tile.instead or "cannot be shown"
        _say_instead(draw, said, FAILED if tile.is_failed else GREY, x, y)
    base = y + BOX_PX + LINE_PX + 2
    note_px = _length(tile.note, TITLE_PX)
    title = _cut(tile.title, TITLE_PX, BOX_PX - note_px - 10)
    draw.text((x, base), title, INK, _font(TITLE_PX), anchor="ls")
    draw.text((x + BOX_PX, base), tile.note, GREY, _font(TITLE_PX), anchor="rs")
    for number, line in enumerate(_wrapped(tile.text, BOX_PX, TEXT_LINES), 1):
        place = (x, base + number * LINE_PX + 2)
        draw.text(place, line, GREY, _font(TEXT_PX), anchor="ls")


def _say_instead(draw: ImageDraw.ImageDraw, said: str, colour: str, x: int, y: int) -> None:
    """A few lines in the middle of the box."""
    lines = [
        line for part in said.splitlines() for line in _wrapped(part, BOX_PX - 40, TEXT_LINES + 3)
    ]
    first = y + BOX_PX / 2 - (len(lines) - 1) * LINE_PX / 2
    for number, line in enumerate(lines):
        place = (x + BOX_PX / 2, first + number * LINE_PX)
        draw.text(place, line, colour, _font(TEXT_PX), anchor="mm")


def _picture(fetch: Callable[[], bytes]) -> Image.Image | None:
    """The first frame, as large as the box allows; None if it cannot be shown."""
    try:
        with Image.open(BytesIO(fetch())) as image:
            if image.width * image.height > PIXELS_MAX:
                return None
            image.draft("RGB", (2 * BOX_PX, 2 * BOX_PX))
            return ImageOps.contain(image.convert("RGBA"), (BOX_PX, BOX_PX))
    except (
        KeyError,
        OSError,
        ValueError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ):
        return None


# Text.


def _wrapped(text: str, room_px: float, lines_max: int) -> list[str]:
    """The text in so many lines at most, the last one cut."""
    words = _showable(text).split()
    lines: list[str] = []
    while words and len(lines) < lines_max - 1:
        line = words.pop(0)
        while words and _length(f"{line} {words[0]}", TEXT_PX) <= room_px:
            line += f" {words.pop(0)}"
        lines.append(_cut(line, TEXT_PX, room_px))
    return [*lines, _cut(" ".join(words), TEXT_PX, room_px)] if words else lines


def _cut(text: str, size: int, room_px: float) -> str:
    text = _showable(text)
    if _length(text, size) <= room_px:
        return text
    while text and _length(text + ELLIPSIS, size) > room_px:
        text = text[:-1]
    return text.rstrip() + ELLIPSIS


def _showable(text: str) -> str:
    """What the font has letters for; boxes instead of the others would say no more than a dot."""
    return "".join(
        " " if letter.isspace() else letter if _has_letter(letter) else "\u00b7"
        for letter in text[:TEXT_CHARS_MAX]
    )


@lru_cache(maxsize=4096)
def _has_letter(letter: str) -> bool:
    font = _font(TEXT_PX)
    return letter.isprintable() and bytes(font.getmask(letter)) != bytes(font.getmask("\uffff"))


def _length(text: str, size: int) -> float:
    return _font(size).getlength(text)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow comes with FreeType"
    return font
