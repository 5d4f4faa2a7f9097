"""What DuckDB reads an object store through: s3fs, spared most of its questions.

DuckDB asks ten times and more how large a file is before it reads one, and each question is a
request. A store's Parquet files are written once, so what a listing has told of one holds until the
next connection; s3fs reads with the ETag of what it was told, so a file that was replaced all the
same is an error, never nonsense.
"""

from __future__ import annotations

from typing import Any

from s3fs import S3FileSystem

KNOWN_MAX = 200_000  # files whose facts are kept
WRITTEN_ONCE = ".parquet"


class ReadingFiles(S3FileSystem):  # type: ignore[misc]
    """An s3fs file system that remembers what it was told of files that are written once."""

    protocol = ("s3", "s3a")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._known: dict[str, dict[str, Any]] = {}

    def forget(self) -> None:
        """Ask anew from now on."""
        self._known = {}

    async def _lsdir(self, path: str, *positional: Any, **options: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await super()._lsdir(path, *positional, **options)
        for entry in found:
            self._keep(entry)
        return found

    async def _info(self, path: str, *positional: Any, **options: Any) -> dict[str, Any]:
        known = self._known.get(self._strip_protocol(path))
        if known is not None and not positional and not any(options.values()):
            return known
        found: dict[str, Any] = await super()._info(path, *positional, **options)
        self._keep(found)
        return found

    def _keep(self, entry: dict[str, Any]) -> None:
        if entry["type"] == "file" and entry["name"].endswith(WRITTEN_ONCE):
            if len(self._known) >= KNOWN_MAX:
                self._known = {}
            self._known[entry["name"]] = entry
