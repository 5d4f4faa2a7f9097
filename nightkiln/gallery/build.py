"""Puts a gallery into a folder.

First thumbnails, then data and page under a name of their own, then the index that names them.
Whoever stops it leaves the page of before, and thumbnails that the next build finds.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from uuid import uuid4

from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import trouble
from nightkiln.gallery.links import Link, origin_of
from nightkiln.gallery.page import (
    INDEX,
    NAMES_MAX,
    SCRIPTS,
    STYLE,
    TILES_PER_FILE,
    Names,
    asset,
    detail,
    head,
    index_html,
    script,
    tile_row,
)
from nightkiln.gallery.thumbnails import Thumbnails
from nightkiln.gallery.tiles import Facts, Tile
from nightkiln.temporary import temporary_folder

THUMBNAILS = "thumbnails"
MAKING = ".page-"  # folders of builds that go on, or were stopped
_PAGE = re.compile(r"page-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a gallery has what it shows from, and where it says that more is to be had."""

    read: Callable[[str], bytes]  # the bytes under a key of the store, from any thread
    link: Link  # where the page finds them
    again: Callable[[Tile], str]  # the command that renders a tile again
    progress: Callable[[int], None]  # so many tiles are done


@dataclass(frozen=True, slots=True)
class Built:
    """What was built."""

    index: Path
    tiles: int
    thumbnails_made: int
    thumbnails_kept: int
    without_thumbnail: int  # files that are no image, or cannot be shown small


def build_gallery(
    batch: str, facts: Facts, tiles: Iterable[Tile], folder: Path, sources: Sources
) -> Built:
    """Build, or build anew, the gallery of ``batch`` in ``folder``.

    Raises:
        StoreUnusable: the store cannot be read, or ``folder`` cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            temporary_folder(folder, prefix=MAKING) as making,
            Thumbnails(folder / THUMBNAILS, sources.read) as thumbnails,
        ):
            pages = _Pages(batch, facts, making / "page", sources)
            for some in _chunks(tiles):
                pages.add(some, list(thumbnails.of(tile.file for tile in some)))
            pages.finish()
            _publish(batch, making / "page", folder, pages)
    except OSError as error:
        raise StoreUnusable(trouble(error, folder)) from error
    return Built(
        index=folder / INDEX,
        tiles=pages.tiles,
        thumbnails_made=thumbnails.made,
        thumbnails_kept=thumbnails.kept,
        without_thumbnail=pages.without_thumbnail,
    )


class _Pages:
    """The files of a page, written as tiles come in."""

    def __init__(self, batch: str, facts: Facts, folder: Path, sources: Sources) -> None:
        self.tiles = 0
        self.without_thumbnail = 0
        self.origins: set[str] = set()
        self.digest = hashlib.sha256()
        self._batch = batch
        self._facts = facts
        self._folder = folder
        folder.mkdir()
        self._sources = sources
        self._columns = Names(NAMES_MAX)
        self._alike = Names()
        self._files = 0

    def add(self, tiles: list[Tile], has_thumbnail: list[bool]) -> None:
        """Write the next so many tiles."""
        rows, details = [], []
        for tile, has in zip(tiles, has_thumbnail, strict=True):
            known = {"columns": self._columns, "alike": self._alike}
            rows.append(tile_row(tile, has_thumbnail=has, **known))
            details.append(detail(tile, link=self._link, again=self._sources.again))
            self.without_thumbnail += tile.file is not None and not has
        self._write(f"tiles-{self._files:04d}.js", script("tiles", self._files, rows))
        self._write(f"details-{self._files:04d}.js", script("details", self._files, details))
        self._files += 1
        self.tiles += len(tiles)
        self._sources.progress(self.tiles)

    def finish(self) -> None:
        """Write what is the same for all of them."""
        told = head(
            self._batch,
            self._facts,
            shown=self.tiles,
            columns=map(str, self._columns.numbers),
        )
        self._write("batch.js", script("batch", 0, told))
        for name in (STYLE, *SCRIPTS):
            self._write(name, asset(name).decode())

    def _link(self, key: str) -> str:
        address = self._sources.link(key)
        origin = origin_of(address)
        if origin is not None:
            self.origins.add(origin)
        return address

    def _write(self, name: str, text: str) -> None:
        data = text.encode()
        self.digest.update(f"{name} {len(data)}\n".encode() + data)
        (self._folder / name).write_bytes(data)


def _publish(batch: str, making: Path, folder: Path, pages: _Pages) -> None:
    """Name the page's files after what is in them, and let the index name them."""
    digest = pages.digest.digest()
    name = f"page-{digest.hex()[:16]}"
    # Of what strangers wrote nothing can hold a digest of itself, so none of it can know this.
    nonce = base64.b64encode(hashlib.sha256(b"nonce" + digest).digest()[:18]).decode()
    if not (folder / name).is_dir():
        making.rename(folder / name)
    text = index_html(f"{batch} - nightkiln", name, nonce, sorted(pages.origins))
    index = folder / f".{INDEX}-{uuid4().hex}"
    index.write_text(text, encoding="utf-8")
    index.replace(folder / INDEX)
    for path in folder.iterdir():
        if path.name != name and _PAGE.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _chunks(tiles: Iterable[Tile]) -> Iterator[list[Tile]]:
    rest = iter(tiles)
    while some := list(islice(rest, TILES_PER_FILE)):
        yield some
