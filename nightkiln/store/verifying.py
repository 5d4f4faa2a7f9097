"""Whether everything is there that the rows say, as they say, and nothing else."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from nightkiln.ports.blobs import Blobs
from nightkiln.store.audit import (
    IMAGES,
    Tell,
    adoptable_batches,
    batch_of,
    damaged_records,
    list_claimed,
    list_found,
    scratch,
    unnamed_compact_files,
)
from nightkiln.store.fetching import looked_into
from nightkiln.store.store import Store

if TYPE_CHECKING:
    import duckdb

FINDINGS_MAX = 10_000  # kept one by one; all are counted
ROWS_AT_ONCE = 1000


class Kind(StrEnum):
    """What can be wrong with a store."""

    DAMAGED_ROWS = "damaged rows"
    DAMAGED_RECORD = "damaged record"
    MISSING = "missing"
    WRONG_SIZE = "wrong size"
    WRONG_SHA256 = "wrong sha256"
    ORPHAN = "orphan"


REPAIR = {
    Kind.DAMAGED_ROWS: "put the file back from a copy of the store; without one, remove it and run "
    "its batch again: what only it told of is rendered anew",
    Kind.DAMAGED_RECORD: "put the file back from a copy of the store; without one, remove it: "
    "while it lies there questions fail, and what it told of a machine or a run is lost",
    Kind.MISSING: "put the files back from a copy, or render their jobs again: --jobs FILE writes "
    "which, for 'nightkiln retry --jobs FILE --force'",
    Kind.WRONG_SIZE: "as for missing files",
    Kind.WRONG_SHA256: "as for missing files",
    Kind.ORPHAN: "no row names them: 'nightkiln store gc' shows those that are old enough, and "
    "removes them with --yes",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    kind: Kind
    key: str
    what: str
    batch: str | None = None
    job_id: str | None = None


@dataclass(slots=True)
class Verified:
    """What a look at everything has found."""

    rows: int = 0  # that name a file: one per job and file
    files: int = 0  # under images/
    checked: int = 0  # files whose content was read
    bytes: int = 0  # of those
    adoptable: int = 0  # files that no row names yet, of runs that are not over
    counts: Counter[Kind] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)  # the first so many

    @property
    def problems(self) -> int:
        """How many things are wrong."""
        return sum(self.counts.values())

    def add(self, finding: Finding) -> None:
        """One more problem."""
        self.counts[finding.kind] += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(finding)


@dataclass(frozen=True, slots=True)
class Part:
    """One of so many equal parts of all images; the parts together are all of them."""

    number: int  # from 0
    of: int

    def __post_init__(self) -> None:
        assert 0 <= self.number < self.of, "there is such a part"


WHOLE = Part(0, 1)


def verify(store: Store, *, is_quick: bool, tell: Tell, part: Part = WHOLE) -> Verified:
    """Hold every row against its files, and every file against the rows. Blocking.

    ``is_quick``: without reading the images, only whether each is there in its size. ``part``: read
    only those. Runs may go on meanwhile.

    Raises:
        StoreUnusable: the store cannot be listed.
    """
    found = Verified()
    with scratch() as con:
        list_found(store.blobs, con, (IMAGES,), tell)
        found.files = _count(con, "select count(*) from found")
        adoptable = adoptable_batches(store.blobs, con)
        for one in list_claimed(store, con, tell):
            found.add(Finding(Kind.DAMAGED_ROWS, one.key, one.what))
        for one in damaged_records(store.blobs, tell):
            found.add(Finding(Kind.DAMAGED_RECORD, one.key, one.what))
        found.rows = _count(con, "select count(*) from claimed")
        _hold_rows_against_files(store.blobs, con, found)
        _hold_files_against_rows(store.blobs, con, found, adoptable)
        if not is_quick:
            _read_files(store.blobs, con, found, tell, part)
    return found


def _count(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = con.execute(sql).fetchone()
    assert row is not None, "an aggregate has one row"
    return int(row[0])


_NOT_THERE = """
    select uri, batch, job_id, bytes from claimed anti join found on uri = key order by all
"""
_OTHER_SIZE = """
    select uri, batch, job_id, found.bytes, claimed.bytes
    from claimed join found on uri = key where found.bytes <> claimed.bytes order by all
"""


def _hold_rows_against_files(blobs: Blobs, con: duckdb.DuckDBPyConnection, found: Verified) -> None:
    for key, batch, job_id, told in _rows(con, _NOT_THERE):
        size = blobs.size(key)  # it may have come since the files were listed
        if size is None:
            found.add(Finding(Kind.MISSING, key, "it is not there", batch, job_id))
        elif size != told:
            found.add(_of_other_size(key, batch, job_id, size, told))
    for key, batch, job_id, size, told in _rows(con, _OTHER_SIZE):
        found.add(_of_other_size(key, batch, job_id, size, told))


def _of_other_size(key: str, batch: str, job_id: str, size: int, told: int) -> Finding:
    what = f"{size} bytes, where its row says {told}"
    return Finding(Kind.WRONG_SIZE, key, what, batch, job_id)


def _hold_files_against_rows(
    blobs: Blobs, con: duckdb.DuckDBPyConnection, found: Verified, adoptable: Container[str]
) -> None:
    sql = "select key from found anti join claimed on key = uri order by key"
    for (key,) in _rows(con, sql):
        batch = batch_of(key)
        if batch is not None and batch in adoptable:
            found.adoptable += 1
        else:
            found.add(Finding(Kind.ORPHAN, key, "no row names it", batch))
    for key in sorted(unnamed_compact_files(blobs)):
        found.add(Finding(Kind.ORPHAN, key, "no manifest names it"))


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A file that is there in the size that its row tells."""

    key: str
    batch: str
    job_id: str
    bytes: int
    sha256: str


_TO_READ = """
    create table to_read as
    select uri, any_value(batch), any_value(job_id), claimed.bytes as bytes, claimed.sha256
    from claimed join found on uri = key
    where found.bytes = claimed.bytes and hash(uri) % {of} = {number}
    group by uri, claimed.bytes, claimed.sha256
    order by uri
"""


def _read_files(
    blobs: Blobs, con: duckdb.DuckDBPyConnection, found: Verified, tell: Tell, part: Part
) -> None:
    """Read every image of the part once and compare its SHA-256 with what its rows say."""
    con.execute(_TO_READ.format(of=part.of, number=part.number))
    total = _count(con, "select coalesce(sum(bytes), 0) from to_read")

    def digest(key: str) -> str | None:
        try:
            return hashlib.sha256(blobs.get(key)).hexdigest()
        except KeyError:
            return None

    wanted = (_Claimed(*row) for row in _rows(con, "from to_read"))
    for one, sha256 in looked_into(wanted, digest):
        found.checked += 1
        found.bytes += one.bytes
        if sha256 is None:
            found.add(Finding(Kind.MISSING, one.key, "it is gone", one.batch, one.job_id))
        elif sha256 != one.sha256:
            what = f"its SHA-256 is {sha256[:12]}..., where its row says {one.sha256[:12]}..."
            found.add(Finding(Kind.WRONG_SHA256, one.key, what, one.batch, one.job_id))
        tell("image bytes", found.bytes, total)


def _rows(con: duckdb.DuckDBPyConnection, sql: str) -> Iterator[tuple[Any, ...]]:
    """Rows of an answer, some at a time, while others are asked."""
    with con.cursor() as cursor:
        answer = cursor.execute(sql)
        while rows := answer.fetchmany(ROWS_AT_ONCE):
            yield from rows
