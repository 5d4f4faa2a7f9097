"""WebDataset shards, by the package of that name: tar files that are read from front to end.

A sample is ``<key>.png``, ``<key>.txt`` (its caption) and ``<key>.json`` (its metadata), next to
each other. The package's writer gives the same bytes for the same samples once it is told the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from nightkiln.core.errors import BadInput, Problem
from nightkiln.export.formats import caption_bytes, json_line
from nightkiln.export.place import Made, Place
from nightkiln.export.plan import Row

MODE = 0o644
SHARD_DIGITS = 6  # as in other WebDatasets: shard-{000000..000146}.tar


class WebDataset:
    """``shard-000000.tar`` and so on."""

    takes_files = True

    def __init__(self, place: Place) -> None:
        self._place = place
        self._writer = _tar_writer()

    @contextmanager
    def shard(self, number: int) -> Iterator[_Tar]:
        path = f"shard-{number:0{SHARD_DIGITS}d}.tar"
        with self._place.stream(path) as stream:
            # PAX is USTAR, but for names that USTAR has no room for.
            writer = self._writer(
                stream, user="", group="", mode=MODE, encoder=False, mtime=0,
                format="PAX_FORMAT",
            )  # fmt: skip
            tar = _Tar(writer)
            with writer:
                yield tar
        tar.files = [Made(path, stream.sha256, stream.size)]

    def closing(self) -> Sequence[Made]:
        return ()


class _Tar:
    """One shard."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self.files: Sequence[Made] = ()

    def add(self, row: Row, data: bytes) -> None:
        sample = {row.ext: data, "txt": caption_bytes(row), "json": json_line(row)}
        self._writer.write({"__key__": row.name, **sample})

    def made(self) -> Sequence[Made]:
        return self.files


def _tar_writer() -> Any:
    """The package's writer.

    Raises:
        BadInput: the package is not installed.
    """
    try:
        return import_module("webdataset").TarWriter
    except ImportError as error:
        fix = "pip install 'nightkiln[webdataset]'"
        what = f"it needs a package: {error}"
        raise BadInput([Problem("--format webdataset", what, fix)]) from error
