"""What the first bytes of a file tell, where the rest of it is not here.

The store vouches for length and SHA-256; whether the pixels are whole only ``verify`` can say.
"""

from __future__ import annotations

import io

from PIL import Image

from nightkiln.core.errors import BadOutput
from nightkiln.core.model import Fault, OutputFacts
from nightkiln.verify import BYTES_MAX, CHECKSUM, IMAGE_BYTES_MAX, PIXELS_MAX, PNG, sniff

BEGINNING_BYTES = 64 * 1024  # of a JPEG with its metadata, up to where its size stands
_IHDR = slice(12, 16)  # PNG specification, section 5.3: after the signature and a length
_WIDTH, _HEIGHT = slice(16, 20), slice(20, 24)


def glimpse(beginning: bytes, *, size: int, sha256: str) -> OutputFacts:
    """What a file of ``size`` bytes and that SHA-256 is that begins like this.

    Width and height are None where they do not stand so early.

    Raises:
        BadOutput: of no known kind, too large, or a PNG without a header that makes sense.
    """
    kind = sniff(beginning)
    if kind is None:
        raise _bad(f"not a known image, video or audio file (it begins {beginning[:16]!r})", "type")
    if size > (IMAGE_BYTES_MAX if kind.is_image else BYTES_MAX):
        raise _bad(f"{size} bytes are too many for {kind.media}", "too_large")
    width = height = None
    if kind is PNG:
        width, height = _size_of_png(beginning)
    elif kind.is_image:
        width, height = _size_of_image(beginning)
    return OutputFacts(sha256, size, kind.media, kind.ext, width, height, CHECKSUM)


def _size_of_png(beginning: bytes) -> tuple[int, int]:
    width = int.from_bytes(beginning[_WIDTH], "big")
    height = int.from_bytes(beginning[_HEIGHT], "big")
    if beginning[_IHDR] != b"IHDR" or not 0 < width * height <= PIXELS_MAX:
        raise _bad("the PNG header makes no sense", "header")
    return width, height


def _size_of_image(beginning: bytes) -> tuple[int, int] | tuple[None, None]:
    try:
        with Image.open(io.BytesIO(beginning)) as image:  # no pixels are decoded
            width, height = image.size
    except Exception:  # noqa: BLE001 - Pillow raises anything at a file that ends too soon
        return None, None
    return width, height


def _bad(message: str, kind: str) -> BadOutput:
    return BadOutput(f"output rejected: {message}", fault=Fault.MACHINE, kind=kind)
