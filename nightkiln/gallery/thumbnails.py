"""Small pictures, each made once: named after the sha256 of the large one, found again by it.

Threads, not processes: Pillow lets go of the interpreter lock while it decodes, scales and encodes,
which is nearly all of the work, and threads share the connections to an object store.
"""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from PIL import Image, ImageOps

from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import trouble
from nightkiln.gallery.tiles import File

SIDE_PX = 256  # of the longer side
QUALITY, METHOD = 78, 2  # WebP: a better method takes twice the time for a tenth of the bytes
BYTES_MAX = 128 * 1024**2  # of an image that is brought into memory, per thread
PIXELS_MAX = 89_478_485  # Pillow's own bound for bombs
THREADS_MAX = 32
WAITING_PER_CORE = 2  # more threads than cores, so that reading and decoding overlap
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, MemoryError)

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Thumbnails:
    """Thumbnails in a folder, made by threads that live as long as the context.

    ``read`` gets the bytes under a key of the store, in any thread.
    """

    def __init__(
        self, folder: Path, read: Callable[[str], bytes], *, threads: int | None = None
    ) -> None:
        cores = os.cpu_count()
        usual = WAITING_PER_CORE * (cores if cores is not None else 1)
        self.made = 0
        self.kept = 0  # there from an earlier build
        self._folder = folder
        self._read = read
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(
            min(threads if threads is not None else usual, THREADS_MAX), "thumbnail"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def of(self, files: Iterable[File | None]) -> Iterator[bool]:
        """Whether there is a thumbnail, for each file in order, made now if there was none.

        Raises:
            StoreUnusable: thumbnails cannot be written, or the store cannot be read.
        """
        return self._pool.map(self._there, files)

    def _there(self, file: File | None) -> bool:
        if file is None or not file.media.startswith("image/") or not is_digest(file.sha256):
            return False
        path = self._folder / thumbnail_name(file.sha256)
        if path.is_file() and path.stat().st_size > 0:
            self._count(is_made=False)
            return True
        if file.size > BYTES_MAX:
            return False
        try:
            small = thumbnail(self._read(file.uri))
        except KeyError:
            return False  # the row is there and its file is not: `store verify` is to say so
        if small is None:
            return False
        _write(path, small)
        self._count(is_made=True)
        return True

    def _count(self, *, is_made: bool) -> None:
        with self._lock:
            self.made += is_made
            self.kept += not is_made


def is_digest(sha256: str) -> bool:
    """Whether it can name a file: rows are read, not believed."""
    return _SHA256.fullmatch(sha256) is not None


def thumbnail_name(sha256: str) -> str:
    """Where the thumbnail of a file lies, in the folder of thumbnails."""
    return f"{sha256[:2]}/{sha256}.webp"


def thumbnail(data: bytes) -> bytes | None:
    """The first frame as a small WebP; None for what cannot be shown small."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > PIXELS_MAX:
                return None
            image.draft("RGB", (SIDE_PX, SIDE_PX))  # JPEG: decoded at a fraction, not below this
            small = _scaled(_plain(image))
            ImageOps.exif_transpose(small, in_place=True)
        sink = io.BytesIO()
        small.save(sink, "WEBP", quality=QUALITY, method=METHOD)
    except UNREADABLE:
        return None
    return sink.getvalue()


def _plain(image: Image.Image) -> Image.Image:
    """In one of the two modes that WebP has; most images are, and are not copied."""
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _scaled(image: Image.Image) -> Image.Image:
    scale = SIDE_PX / max(image.size)
    if scale >= 1:
        return image
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize((size[0], size[1]), Image.Resampling.BILINEAR, reducing_gap=1.1)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, whoever else writes the same one."""
    making = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        making.write_bytes(data)
        making.replace(path)
    except OSError as error:
        making.unlink(missing_ok=True)
        raise StoreUnusable(trouble(error, path)) from error
