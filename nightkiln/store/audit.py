"""What a store's rows say there is, held against what there is.

A scratch database on the local disk holds both lists, so memory is bounded however long they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from nightkiln.core.errors import StoreUnusable
from nightkiln.ports.blobs import Blobs
from nightkiln.store.claims import SeenClaim, newest_claim, read_claim
from nightkiln.store.fetching import looked_into
from nightkiln.store.folding import MEMORY
from nightkiln.store.layout import SCHEMAS
from nightkiln.store.manifest import CompactFile, Manifest, newest_manifest, shard_of
from nightkiln.store.rows import as_results
from nightkiln.store.store import Store
from nightkiln.temporary import temporary_folder

if TYPE_CHECKING:
    import duckdb

LISTED_AT_ONCE = 10_000  # entries of a listing that become rows together
ENTERED_AT_ONCE = 50_000  # rows of files that become rows of ours together, at least
IMAGES = "images/"

_NAMED = ["batch", "job_id", "status", "commit_key", "out_uri", "out_bytes", "out_sha256"]
_BATCH = re.compile(r"images/(?P<batch>[^/]+)/.+")
_FILES = pa.schema([("key", pa.string()), ("bytes", pa.int64()), ("modified_s", pa.float64())])

Tell = Callable[
    [str, int, int], None
]  # what is being looked at, how many bytes or files, of how many


@dataclass(frozen=True, slots=True)
class RowFile:
    """A file with rows that count: a shard, or a compacted file."""

    key: str
    bytes: int
    is_there: bool = True
    compact: CompactFile | None = None


@dataclass(frozen=True, slots=True)
class Damaged:
    """A file with rows that is not what was committed."""

    key: str
    what: str


@contextmanager
def scratch() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database for lists: ``claimed`` (what rows name) and ``found`` (what a listing shows)."""
    import duckdb

    with temporary_folder() as folder, duckdb.connect(str(folder / "audit.duckdb")) as con:
        con.execute("set enable_progress_bar = false")
        con.execute(f"set memory_limit = '{MEMORY}'")
        con.execute(
            "create table claimed(batch varchar, job_id varchar, status varchar, uri varchar, "
            "bytes bigint, sha256 varchar)"
        )
        con.execute("create table found(key varchar, bytes bigint, modified_s double)")
        yield con


def row_files(blobs: Blobs, manifest: Manifest) -> list[RowFile]:
    """Every file whose rows count."""
    sizes = {entry.key: entry.size for entry in blobs.entries("compact/")}
    found = [
        RowFile(one.key, sizes.get(one.key, 0), one.key in sizes, one) for one in manifest.files
    ]
    for entry in blobs.entries("results/"):
        shard = shard_of(entry.key)
        if shard is None or not manifest.replaces(shard):
            found.append(RowFile(entry.key, entry.size))
    return found


def list_claimed(store: Store, con: duckdb.DuckDBPyConnection, tell: Tell) -> list[Damaged]:
    """Fill ``claimed`` with every file that a row names; which files with rows are damaged."""
    files = row_files(store.blobs, newest_manifest(store.blobs))
    damaged = [Damaged(one.key, "it is gone") for one in files if not one.is_there]
    there = [one for one in files if one.is_there]
    total, so_far = sum(one.bytes for one in there), 0
    waiting: list[pa.Table] = []
    for one, data in looked_into(there, partial(_content, store.blobs)):
        try:
            waiting += _named(one, data)
        except ValueError as error:
            damaged.append(Damaged(one.key, str(error)))
        if sum(table.num_rows for table in waiting) >= ENTERED_AT_ONCE:
            _enter(con, waiting)
            waiting = []
        so_far += one.bytes
        tell("rows", so_far, total)
    _enter(con, waiting)
    return damaged


def damaged_records(blobs: Blobs, tell: Tell) -> list[Damaged]:
    """Files about leases, runs and so on that cannot be read: one makes every question fail."""
    kinds = [kind for kind in SCHEMAS if kind != "results"]
    files = [
        RowFile(entry.key, entry.size) for kind in kinds for entry in blobs.entries(f"{kind}/")
    ]
    damaged = []
    for number, (one, data) in enumerate(looked_into(files, partial(_content, blobs)), 1):
        try:
            pq.read_table(pa.BufferReader(data)) if data is not None else None
        except (pa.ArrowException, ValueError, OSError) as error:
            damaged.append(Damaged(one.key, f"it cannot be read: {error}"))
        tell("records", number, len(files))
    return damaged


def _content(blobs: Blobs, key: str) -> bytes | None:
    try:
        return blobs.get(key)
    except KeyError:
        return None


def _named(one: RowFile, data: bytes | None) -> list[pa.Table]:
    """What the rows of a file name.

    Raises:
        ValueError: what is wrong with the file.
    """
    if data is None:
        raise ValueError("it is gone")
    if one.compact is not None:
        if len(data) != one.compact.bytes:
            raise ValueError(f"it has {len(data)} bytes instead of {one.compact.bytes}")
        if hashlib.sha256(data).hexdigest() != one.compact.sha256:
            raise ValueError("its SHA-256 is not that of its manifest")
    # Nothing vouches for the content of a shard: all of it is read to see that it can be.
    columns = [*_NAMED, "out_index", "att_id"] if one.compact is not None else None
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            groups = [
                as_results(file.read_row_group(number, columns=columns)).select(_NAMED)
                for number in range(file.num_row_groups)
            ]
    except (pa.ArrowException, KeyError, ValueError, AssertionError, OSError) as error:
        raise ValueError(f"it cannot be read: {error}") from error
    if one.compact is None and any(_is_foreign(group, one.key) for group in groups):
        raise ValueError("its rows were committed under another name")
    return groups


def _enter(con: duckdb.DuckDBPyConnection, tables: Sequence[pa.Table]) -> None:
    if not tables:
        return
    con.register("rows", pa.concat_tables(tables))
    con.execute(
        "insert into claimed select batch, job_id, status, out_uri[i], out_bytes[i], "
        "out_sha256[i] from (select *, unnest(range(1, len(out_uri) + 1)) as i from rows)"
    )
    con.unregister("rows")


def _is_foreign(table: pa.Table, key: str) -> bool:
    return any(one != key for one in table["commit_key"].unique().to_pylist())


def list_found(
    blobs: Blobs, con: duckdb.DuckDBPyConnection, prefixes: Sequence[str], tell: Tell
) -> None:
    """Fill ``found`` with every file under ``prefixes``."""
    so_far = 0
    for prefix in prefixes:
        entries = iter(blobs.entries(prefix))
        while chunk := list(islice(entries, LISTED_AT_ONCE)):
            columns = [
                [one.key for one in chunk],
                [one.size for one in chunk],
                [one.modified_s for one in chunk],
            ]
            con.register("listed", pa.table(columns, schema=_FILES))
            con.execute("insert into found from listed")
            con.unregister("listed")
            so_far += len(chunk)
            tell("files listed", so_far, 0)


def adoptable_batches(blobs: Blobs, con: duckdb.DuckDBPyConnection) -> set[str]:
    """Batches with files in ``found`` of which a run may still commit some.

    To be asked after the files were listed and before rows are read. A batch whose runs are over
    by then has a row for every file that was listed and ever gets one.
    """
    sql = "select distinct split_part(key, '/', 2) from found where starts_with(key, 'images/')"
    batches = [batch for (batch,) in con.execute(sql).fetchall()]
    return {batch for batch in batches if _may_be_adopted(blobs, batch)}


def unnamed_compact_files(blobs: Blobs) -> set[str]:
    """Compacted files that no manifest needs any more, or ever did."""
    listed = set(blobs.list("compact/"))
    # Listed first: what a compaction has written by then and committed since is in the manifest.
    manifest = newest_manifest(blobs)
    kept = {one.key for one in manifest.files} | {one.key for one in manifest.retired}
    return listed - kept


def batch_of(key: str) -> str | None:
    """The batch that a file under ``images/`` was made for."""
    match = _BATCH.fullmatch(key)
    return match["batch"] if match is not None else None


def _may_be_adopted(blobs: Blobs, batch: str) -> bool:
    """Whether a run of the batch works, or died so that the next one may still commit its files.

    A run that ended in order has committed everything that any journal could prove. One that did
    not even say that it begins (or a collection of orphans that was killed) has made nothing, so
    the one before it decides.
    """
    try:
        claim = newest_claim(blobs, batch)
        while claim is not None and not _is_over(claim):
            if has_begun(blobs, batch, claim.epoch):
                return True
            claim = read_claim(blobs, batch, claim.epoch - 1)
    except StoreUnusable:
        return True  # a claim that nobody can read is no proof of anything
    return False


def _is_over(claim: SeenClaim) -> bool:
    return claim.ended is not None and claim.ended.get("exit_code") is not None


def has_begun(blobs: Blobs, batch: str, epoch: int) -> bool:
    """A run writes this row before anything else, and under a date that need not be known."""
    name = f"/{batch}-{epoch:06d}-start.parquet"
    return any(key.endswith(name) for key in blobs.list("batches/"))
