"""Draws a small deterministic picture; cheap, so that a benchmark measures its client.

A picture is a mirrored mosaic whose colours come from a digest of what shapes the pixels, so two
jobs can be told apart at a glance. It is written with PNG's ``Up`` filter, which makes the
gradient inside a tile a repeated line of small numbers.
"""

from __future__ import annotations

import colorsys
import hashlib
import random
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

Chunks: TypeAlias = tuple[bytes, ...]  # a file in parts, of which files may share some

SIDE_MAX = 256  # pixels; a larger picture is drawn smaller, in the same proportions
SIZE_MB_MAX = 64.0
MARK = ("nightkiln-stand-in", "true")

_TILES = 8  # across and down
_NOISE_WIDTH = 1024  # pixels across, of a picture with a weight
_NOISE_TOP = 128  # lines of the picture proper, above the noise
_ADLER = 65521  # RFC 1950
_KEYWORD_MAX = 79  # bytes: PNG specification, section 11.3.4.2


@dataclass(frozen=True, slots=True)
class Noise:
    """Lines of noise that deflate to half their size, as a photograph does; shared by all files."""

    chunk: bytes  # a whole IDAT chunk: the rest of a deflate stream
    lines: int
    length: int  # bytes, inflated
    adler: int


class Painter:
    """Makes PNG files, of about ``size_mb`` megabytes each if that is not 0."""

    def __init__(self, size_mb: float = 0.0) -> None:
        if not 0 <= size_mb <= SIZE_MB_MAX:
            raise ValueError(f"a size of {size_mb} MB; 0 to {SIZE_MB_MAX:g} is possible")
        self._noise = _noise(size_mb) if size_mb else None

    def png(
        self,
        identity: str,
        size: tuple[int, int],
        *,
        text: Iterable[tuple[str, str]] = (),
        is_blank: bool = False,
    ) -> Chunks:
        """The picture of ``identity``; with a weight, 1024 pixels wide and as high as it takes."""
        if self._noise is None or is_blank:
            width, height = _drawn(size)
            lines = _blank(width, height) if is_blank else _mosaic(identity, width, height)
            data: Chunks = (_chunk(b"IDAT", zlib.compress(lines, 1)),)
        else:
            width, height = _NOISE_WIDTH, _NOISE_TOP + self._noise.lines
            data = _with_noise(_mosaic(identity, width, _NOISE_TOP), self._noise)
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
        head += b"".join(_text(key, value) for key, value in (*text, MARK))
        return (head, *data, _chunk(b"IEND", b""))


def damaged(picture: Chunks) -> Chunks:
    """The same file with one bit of its data turned over."""
    whole = bytearray(b"".join(picture))
    start = whole.index(b"IDAT")
    (length,) = struct.unpack(">I", whole[start - 4 : start])
    whole[start + 4 + length // 2] ^= 0x10
    return (bytes(whole),)


def _drawn(size: tuple[int, int]) -> tuple[int, int]:
    width, height = (max(1, side) for side in size)
    scale = min(1.0, SIDE_MAX / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _mosaic(identity: str, width: int, height: int) -> bytes:
    """Filtered PNG lines."""
    digest = hashlib.sha256(identity.encode()).digest()
    palette = _palette(digest)
    columns, rows = min(_TILES, width), min(_TILES, height)
    lines: list[bytes] = []
    for row in range(rows):
        top, bottom = row * height // rows, (row + 1) * height // rows
        first, step = bytearray(b"\x00"), bytearray(b"\x02")
        for column in range(columns):
            mirrored = min(column, columns - 1 - column)
            number = digest[(row * _TILES // 2 + mirrored) % len(digest)]
            colour = number % len(palette)
            if mirrored == 0 and row in {0, rows - 1}:
                colour = int(row > 0)  # two corners differ, so that no picture is blank
            across = (column + 1) * width // columns - column * width // columns
            first += palette[colour] * across
            step += (b"\x01\x00\xff" if number & 0x40 else b"\xff\x01\x00") * across
        lines.append(bytes(first))
        lines.append(bytes(step) * (bottom - top - 1))
    return b"".join(lines)


def _palette(digest: bytes) -> list[bytes]:
    """Five colours of two hues, none so near black or white that a gradient would wrap."""
    hue, apart = digest[30] / 256, 0.3 + digest[31] / 640
    colours = []
    for number, value in enumerate((0.35, 0.55, 0.75, 0.45, 0.65)):
        shade = colorsys.hsv_to_rgb(hue + apart * (number % 2), 0.55, value)
        colours.append(bytes(40 + round(channel * 210) for channel in shade))
    return colours


def _blank(width: int, height: int) -> bytes:
    return (b"\x00" + b"\x00\x00\x00" * width) * height


def _noise(size_mb: float) -> Noise:
    lines = max(1, round(size_mb * 2e6 / (_NOISE_WIDTH * 3)))
    # Sixteen levels of each colour: four bits of every byte cannot be foreseen.
    levels = bytes(96 + (value & 15) * 4 for value in range(256))
    source = random.Random(0)  # noqa: S311 - the same noise in every process, not a secret
    raw = b"".join(
        b"\x00" + source.randbytes(_NOISE_WIDTH * 3).translate(levels) for _ in range(lines)
    )
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15, 8, zlib.Z_HUFFMAN_ONLY)
    packed = deflate.compress(raw) + deflate.flush()
    return Noise(_chunk(b"IDAT", packed), lines, len(raw), zlib.adler32(raw))


def _with_noise(lines: bytes, noise: Noise) -> Chunks:
    """One deflate stream of lines of our own and the noise, which was deflated beforehand."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
    own = b"\x78\x01" + deflate.compress(lines) + deflate.flush(zlib.Z_FULL_FLUSH)
    checksum = _adler_of_both(zlib.adler32(lines), noise.adler, noise.length)
    return (_chunk(b"IDAT", own), noise.chunk, _chunk(b"IDAT", struct.pack(">I", checksum)))


def _adler_of_both(first: int, second: int, second_length: int) -> int:
    """The Adler-32 of two parts from those of each; follows from the sums in RFC 1950."""
    low, high = first & 0xFFFF, first >> 16
    low_both = (low + (second & 0xFFFF) - 1) % _ADLER
    high_both = (high + (second >> 16) + second_length * (low - 1)) % _ADLER
    return high_both << 16 | low_both


def _text(key: str, value: str) -> bytes:
    keyword = key.encode("latin-1", "replace")[:_KEYWORD_MAX]
    return _chunk(b"tEXt", keyword + b"\x00" + value.encode("latin-1", "replace"))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
