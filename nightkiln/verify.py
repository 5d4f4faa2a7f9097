"""Tells from an output's bytes what it is, and whether it is whole; believes nothing a worker said.

What each check catches (measured on damaged files): a PNG whose last byte or IEND is missing
passes a Pillow decode, one with damaged deflate data but right checksums passes a chunk walk;
so a PNG is walked chunk by chunk up to IEND *and* inflated. Inflating with ISA-L and comparing the
length with the header proves the pixels at about half the price of a Pillow decode.

Blocking and CPU-bound: call it in a thread, never on the event loop. zlib, ISA-L, Pillow and
hashlib let go of the interpreter lock for the expensive part.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from isal import isal_zlib
from isal.igzip_lib import IsalError
from PIL import Image

from nightkiln.core.errors import BadOutput
from nightkiln.core.model import Fault, OutputFacts

BYTES_MAX = 2 * 1024**3  # of one output file, whatever its kind
IMAGE_BYTES_MAX = 512 * 1024**2  # of one image, which is held in memory while it is checked
PIXELS_MAX = 256 * 1024 * 1024  # of one PNG: 16384 x 16384, ComfyUI's largest image
DECODED_PIXELS_MAX = 89_478_485  # of one frame that Pillow decodes: its own bound for bombs
FRAMES_PIXELS_MAX = 1 << 30  # of all frames of an animation together
CHUNKS_MAX = 100_000  # of one PNG
# An image of one colour deflates about 1000:1. Only what packs suspiciously well, or was stored
# without packing at all, is decoded to look at its colours.
PACKED_WELL = 40
INFLATED_BYTES_MAX = 16 * 1024**2  # held at once while the pixels of a PNG are unpacked

# How closely a file was looked at before it counted: every pixel; all its bytes here, and how they
# hang together; or its SHA-256 and length by the store, and its first bytes here.
DECODED, READ, CHECKSUM = "decoded", "read", "checksum"
PIXELS_DIGITS = 32  # hex, of a SHA-256: 128 bits do not meet by chance

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # PNG specification, table 11.1: colour type
_PALETTE = 3
# Adam7 passes as (x start, y start, x step, y step): PNG specification, section 8.2.
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A file format as its first bytes show it."""

    media: str
    ext: str
    is_image: bool


PNG = Kind("image/png", "png", is_image=True)
_JPEG = Kind("image/jpeg", "jpg", is_image=True)
_GIF = Kind("image/gif", "gif", is_image=True)
_WEBP = Kind("image/webp", "webp", is_image=True)
_MP4 = Kind("video/mp4", "mp4", is_image=False)
_WEBM = Kind("video/webm", "webm", is_image=False)
_FLAC = Kind("audio/flac", "flac", is_image=False)
_MP3 = Kind("audio/mpeg", "mp3", is_image=False)
_OGG = Kind("audio/ogg", "ogg", is_image=False)
_WAV = Kind("audio/wav", "wav", is_image=False)
_GLB = Kind("model/gltf-binary", "glb", is_image=False)

_BY_PREFIX: tuple[tuple[bytes, Kind], ...] = (
    (_PNG_SIGNATURE, PNG),
    (b"\xff\xd8\xff", _JPEG),
    (b"GIF87a", _GIF),
    (b"GIF89a", _GIF),
    (b"\x1aE\xdf\xa3", _WEBM),
    (b"fLaC", _FLAC),
    (b"ID3", _MP3),
    (b"\xff\xfb", _MP3),
    (b"\xff\xf3", _MP3),
    (b"OggS", _OGG),
    (b"glTF", _GLB),
)
_PILLOW_FORMATS = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/gif": "GIF",
    "image/webp": "WEBP",
}


def sniff(head: bytes) -> Kind | None:
    """The format that the first bytes (12 are enough) show, or None for one we do not carry."""
    if head[:4] == b"RIFF":
        return {b"WEBP": _WEBP, b"WAVE": _WAV}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _MP4
    for prefix, kind in _BY_PREFIX:
        if head.startswith(prefix):
            return kind
    return None


def inspect(
    path: Path, *, decode: bool = True, blank_is_fault: bool = True, sha256: str | None = None
) -> OutputFacts:
    """Verify the file at ``path`` and say what it is.

    ``decode=False`` leaves the pixels out (and with them the blank check); checksums and structure
    of a PNG are always checked. ``sha256`` (hex) may be given when it was taken on the way in.

    Raises:
        BadOutput: empty, too large, of no known kind, damaged, or one colour all over.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        kind = sniff(head := file.read(16))
        if size == 0:
            raise _bad("the file is empty", "empty")
        if kind is None:
            raise _bad(f"not a known image, video or audio file (it begins {head!r})", "type")
        if size > (IMAGE_BYTES_MAX if kind.is_image else BYTES_MAX):
            raise _bad(f"{size} bytes are too many for {kind.media}", "too_large")
        file.seek(0)
        if not kind.is_image:
            digest = (
                sha256 if sha256 is not None else hashlib.file_digest(file, "sha256").hexdigest()
            )
            return OutputFacts(digest, size, kind.media, kind.ext, verified=READ)
        data = file.read()
    pixels = None
    if kind is PNG:
        width, height, pixels = _check_png(data, decode=decode, blank_is_fault=blank_is_fault)
    else:
        width, height = _check_image(data, kind, decode=decode, blank_is_fault=blank_is_fault)
    digest = sha256 if sha256 is not None else hashlib.sha256(data).hexdigest()
    looked = DECODED if decode else READ
    return OutputFacts(digest, size, kind.media, kind.ext, width, height, looked, pixels)


def _bad(message: str, kind: str, fault: Fault = Fault.MACHINE) -> BadOutput:
    return BadOutput(f"output rejected: {message}", fault=fault, kind=kind)


def _blank() -> BadOutput:
    # Half precision that overflowed or a prompt for darkness: another machine will tell.
    return _bad("the image is one colour all over", "blank", Fault.UNKNOWN)


@dataclass(frozen=True, slots=True)
class _Header:
    """What IHDR says."""

    width: int
    height: int
    bits: int
    colour: int
    is_interlaced: bool

    def identity(self) -> bytes:
        """What equal pixels have in common beside themselves."""
        values = (self.width, self.height, self.bits, self.colour, int(self.is_interlaced))
        return ",".join(map(str, values)).encode()

    def raw_bytes(self) -> int:
        """Length of the inflated pixel data, filter bytes included."""
        if not self.is_interlaced:
            return self._pass_bytes(self.width, self.height)
        return sum(
            self._pass_bytes(
                (self.width - x + dx - 1) // dx,
                (self.height - y + dy - 1) // dy,
            )
            for x, y, dx, dy in _ADAM7
        )

    def _pass_bytes(self, width: int, height: int) -> int:
        if width <= 0 or height <= 0:
            return 0
        return height * (1 + (width * self.bits * _PNG_CHANNELS[self.colour] + 7) // 8)


def _check_png(data: bytes, *, decode: bool, blank_is_fault: bool) -> tuple[int, int, str | None]:
    """Width, height, and the digest of its pixels if they were looked at."""
    header, pixels, is_animated = _walk_png(data)
    if not decode:
        return header.width, header.height, None
    packed = sum(len(part) for part in pixels)
    raw = header.raw_bytes()
    digest = _inflate(pixels, raw, header.identity())
    is_suspect = packed * PACKED_WELL < raw or packed >= raw
    is_decodable = header.width * header.height <= DECODED_PIXELS_MAX
    if is_animated or (blank_is_fault and is_suspect and is_decodable):
        _check_image(data, PNG, decode=True, blank_is_fault=blank_is_fault)
    is_all = not is_animated and header.colour != _PALETTE  # else colours stand elsewhere, too
    return header.width, header.height, digest if is_all else None


def _walk_png(data: bytes) -> tuple[_Header, list[memoryview], bool]:
    """Every chunk up to IEND, checksums included; the parts of the packed pixels."""
    view = memoryview(data)
    at, header, is_animated = len(_PNG_SIGNATURE), None, False
    pixels: list[memoryview] = []
    for _ in range(CHUNKS_MAX):
        length = int.from_bytes(view[at : at + 4], "big")
        name, body = bytes(view[at + 4 : at + 8]), view[at + 8 : at + 8 + length]
        end = at + 12 + length
        if end > len(data):
            raise _bad(f"the PNG ends inside a chunk at byte {at}", "truncated")
        if isal_zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise _bad(f"PNG checksum differs in chunk {name!r} at byte {at}", "checksum")
        if header is None:
            header = _header(name, bytes(body))
        elif name == b"IDAT":
            pixels.append(body)
        elif name == b"acTL":
            is_animated = True
        elif name == b"IEND":
            if end != len(data):
                raise _bad(f"{len(data) - end} bytes follow the end of the PNG", "trailing")
            return header, pixels, is_animated
        at = end
    raise _bad(f"a PNG of more than {CHUNKS_MAX} chunks", "too_large")


def _header(name: bytes, body: bytes) -> _Header:
    if name != b"IHDR" or len(body) != 13:  # noqa: PLR2004 - PNG specification, section 11.2.2
        raise _bad("the PNG does not begin with its header", "header")
    width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
    bits, colour, interlace = body[8], body[9], body[12]
    if colour not in _PNG_CHANNELS or bits not in {1, 2, 4, 8, 16} or not width or not height:
        raise _bad("the PNG header makes no sense", "header")
    if width * height > PIXELS_MAX:
        raise _bad(f"{width} x {height} pixels, more than {PIXELS_MAX} in all", "too_large")
    return _Header(width, height, bits, colour, is_interlaced=bool(interlace))


def _inflate(parts: list[memoryview], raw_bytes: int, identity: bytes) -> str:
    """Unpack the pixels and keep their digest alone; length and Adler-32 must be right.

    They are hashed as they were filtered for packing: one encoder filters equal pixels equally.
    """
    hasher = hashlib.sha256(identity)
    inflater = isal_zlib.decompressobj()
    got = 0
    try:
        for part in parts:
            pending: bytes | memoryview = part
            while True:
                # One byte more than there may be shows a bomb without letting it go off.
                room = min(raw_bytes - got + 1, INFLATED_BYTES_MAX)
                unpacked = inflater.decompress(pending, max_length=room)
                hasher.update(unpacked)
                step = len(unpacked)
                got += step
                pending = inflater.unconsumed_tail
                # What fills its room may have left more behind it than the tail shows.
                if got > raw_bytes or inflater.eof or (not pending and step < room):
                    break
    except IsalError as error:  # type: ignore[misc]  # its stub declares an instance
        raise _bad(f"the pixels do not unpack: {error}", "pixels") from error
    if got != raw_bytes or not inflater.eof:
        raise _bad(f"{got} bytes of pixels instead of {raw_bytes}", "pixels")
    return hasher.hexdigest()[:PIXELS_DIGITS]


def _check_image(data: bytes, kind: Kind, *, decode: bool, blank_is_fault: bool) -> tuple[int, int]:
    """Decode with Pillow, every frame, and look for more than one colour."""
    try:
        with Image.open(io.BytesIO(data), formats=[_PILLOW_FORMATS[kind.media]]) as image:
            width, height = _bounded_size(image)
            frames = getattr(image, "n_frames", 1) * decode
            one_colour = [_is_one_colour(image, frame) for frame in range(frames)]
    except BadOutput:
        raise
    except (
        Exception
    ) as error:  # what damage makes Pillow raise has no end: IndexError, struct.error
        raise _bad(f"the {kind.media} does not decode: {error}", "pixels") from error
    if one_colour and all(one_colour) and blank_is_fault:
        raise _blank()
    return width, height


def _bounded_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    frames = getattr(image, "n_frames", 1)
    if width * height > DECODED_PIXELS_MAX or width * height * frames > FRAMES_PIXELS_MAX:
        raise _bad(f"{width} x {height} pixels x {frames} frames", "too_large")
    return width, height


def _is_one_colour(image: Image.Image, frame: int) -> bool:
    image.seek(frame)
    image.load()
    extrema = image.getextrema()
    channels = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(low == high for low, high in channels)
