"""What there is to look at of a batch, read from the store's views."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nightkiln.core.errors import BadInput, Problem
from nightkiln.store.sql_files import sql_file

if TYPE_CHECKING:
    import duckdb

TILES_MAX = 50_000  # of one page: all of them are in the browser's memory
READ_AT_ONCE = 500  # rows in memory here
TRIES_MAX = 20  # shown of one job
SEED_NAMES = frozenset({"seed", "noise_seed"})  # of inputs; pictures that differ in these only


@dataclass(frozen=True, slots=True)
class File:
    """One file that a job gave."""

    index: int
    uri: str  # key in the store
    sha256: str
    size: int  # bytes
    media: str
    width: int | None  # pixels
    height: int | None


@dataclass(frozen=True, slots=True)
class Tile:
    """One thing to look at: a file that a job gave, or a job that gave none."""

    job_id: str
    row: int | None  # of the catalog
    catalog: str
    status: str
    fault: str | None
    error: str | None
    prompt: str | None
    negative: str | None
    seed: int | None
    provider: str | None
    gpu: str | None
    host: str | None
    usd: float | None  # of the whole job; None until its lease is over
    gpu_seconds: float | None
    attempt_count: int
    finished_s: float | None  # epoch seconds
    columns: Mapping[str, Any]
    params: Mapping[str, Any]
    tries: Sequence[Mapping[str, Any]]  # that gave nothing
    file: File | None

    def alike(self) -> bytes:
        """The same for pictures that differ in nothing but their seed, and for no others."""
        values = {name: value for name, value in self.params.items() if name not in SEED_NAMES}
        index = self.file.index if self.file is not None else 0
        spelled = json.dumps([self.catalog, index, values], sort_keys=True)
        return hashlib.blake2b(spelled.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Facts:
    """A batch in figures."""

    catalog: str
    date: str
    jobs: int
    done: int
    reused: int
    failed: int
    usd: float | None  # of its jobs
    tiles: int  # that ``where`` chooses, before any limit


def read_facts(con: duckdb.DuckDBPyConnection, batch: str, *, where: str) -> Facts:
    """The figures of ``batch``; ``where`` is a condition over the view ``jobs``.

    Raises:
        BadInput: DuckDB refuses ``where``, or the batch has settled nothing yet.
    """
    import duckdb

    try:
        # All of it: a connection with a rest left has no other query.
        [row] = con.execute(sql_file("gallery_facts", where=where), {"batch": batch}).fetchall()
    except duckdb.Error as error:
        fix = "a condition over the view jobs, such as \"status = 'failed'\""
        raise BadInput([Problem("--where", str(error).strip(), fix)]) from error
    if row[2] == 0:
        what = "nothing of it is settled yet"
        raise BadInput([Problem(batch, what, "a run commits every 30 s; `nightkiln status`")])
    return Facts(*row)


def read_tiles(
    con: duckdb.DuckDBPyConnection, batch: str, *, where: str, tiles_max: int = TILES_MAX
) -> Iterator[Tile]:
    """The tiles of ``batch`` in the order of its catalog, at most so many."""
    values = {"batch": batch, "tiles_max": tiles_max, "tries_max": TRIES_MAX}
    reader = con.sql(sql_file("gallery_tiles", where=where).rstrip("; \n"), params=values)
    for some in reader.to_arrow_reader(READ_AT_ONCE):
        for row in some.to_pylist():
            yield _tile(row)


def _tile(row: dict[str, Any]) -> Tile:
    index, uri, sha256, size, media, width, height = (
        row.pop(name) for name in ("index", "uri", "sha256", "bytes", "media", "width", "height")
    )
    file = None
    if uri is not None:
        file = File(index, uri, sha256, size, media, width, height)
    columns, params, tries = (row.pop(name) for name in ("columns", "params", "tries"))
    return Tile(
        **row,
        columns=_object(columns),
        params=_object(params),
        tries=tries if tries is not None else (),
        file=file,
    )


def _object(text: str | None) -> dict[str, Any]:
    """What a JSON column holds; nothing, if that is no object."""
    try:
        value = json.loads(text) if text is not None else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
