"""Which settled jobs of a batch are rendered again: those that a condition, or a list, names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nightkiln.core.errors import BadInput, Problem
from nightkiln.store.shared_views import shares_of
from nightkiln.store.sql_files import literal
from nightkiln.store.store import Store

if TYPE_CHECKING:
    import duckdb

BATCHES_TOLD_MAX = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants again: all conditions together; none of them means every job."""

    where: str | None = None  # SQL over the columns of ``jobs``
    job_ids: Collection[str] | None = None

    @property
    def digest(self) -> str:
        """The same for the same wish, whatever it chooses by now."""
        listed = sorted(self.job_ids) if self.job_ids is not None else None
        return hashlib.sha256(json.dumps([self.where, listed]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Chosen:
    """Jobs of a batch, by how they ended."""

    failed: frozenset[str]
    others: frozenset[str]  # done or reused
    unknown: int = 0  # ids in the list that the batch does not have
    # Of a night that was shared out: which of them lie in which share. Of others: empty.
    shares: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def wanted(self, *, is_all: bool) -> frozenset[str]:
        """Those to be rendered again; ``is_all``: also those that are done."""
        return self.failed | self.others if is_all else self.failed


def choose(store: Store, batch: str, wanted: Wanted) -> Chosen:
    """The settled jobs of ``batch`` that are wanted; of a shared night, those of all its shares.

    Words of ``status`` and ``fault`` are compared whatever their case.

    Raises:
        BadInput: there is no such batch, or DuckDB refuses the condition.
    """
    shares = shares_of(store, batch)
    found = _found(store, batch, shares or [batch], wanted)
    listed = wanted.job_ids
    if listed is not None:
        found = [one for one in found if one[1] in listed]
    failed = frozenset(job_id for _, job_id, status in found if status == "failed")
    others = frozenset(job_id for _, job_id, status in found if status != "failed")
    unknown = 0
    if listed is not None and wanted.where is None:
        unknown = len(set(listed)) - len(failed) - len(others)
    of_shares = {
        share: frozenset(job_id for there, job_id, _ in found if there == share) for share in shares
    }
    return Chosen(failed, others, unknown, of_shares)


def earlier(store: Store, job_ids: Collection[str]) -> frozenset[str]:
    """Every job that these were rendered instead of, directly or not."""
    with store.connect("jobs") as con:
        links = dict(
            con.execute("select job_id, replaces from jobs where replaces is not null").fetchall()
        )
    found: set[str] = set()
    for job_id in job_ids:
        at = links.get(job_id)
        while at is not None and at not in found:
            found.add(at)
            at = links.get(at)
    return frozenset(found)


def _found(
    store: Store, batch: str, among: Sequence[str], wanted: Wanted
) -> list[tuple[str, str, str]]:
    """Batch, id and status of every settled job that meets the condition."""
    with store.connect("jobs", "runs", "batches") as con:
        _check_batch(con, batch)
        try:
            return con.execute(_query(con, among, wanted)).fetchall()
        except _duckdb_error() as error:
            fix = "a condition over the columns of jobs, such as \"fault = 'machine'\""
            raise BadInput([Problem("--where", str(error).strip(), fix)]) from error


def _query(con: duckdb.DuckDBPyConnection, batches: Sequence[str], wanted: Wanted) -> str:
    """The condition stands in brackets of its own, so that it says which rows and nothing else."""
    words = "status collate nocase as status, fault collate nocase as fault"
    # S608: the condition is the user's own SQL over the user's own store.
    query = (
        f"select batch, job_id, status from (select * replace ({words}) from jobs "  # noqa: S608
        f"where batch in ({', '.join(map(literal, batches))}))"
    )
    if wanted.where is not None:
        query += f" where (\n{wanted.where}\n)"
    kinds = [statement.type.name for statement in con.extract_statements(query)]
    if kinds != ["SELECT"]:
        fix = "one condition, such as \"fault = 'machine'\""
        raise BadInput([Problem("--where", "is not one condition", fix)])
    return query


def _check_batch(con: duckdb.DuckDBPyConnection, batch: str) -> None:
    known = [
        name
        for (name,) in con.execute("select batch from batches order by started_at desc").fetchall()
    ]
    if batch not in known:
        newest = ", ".join(known[:BATCHES_TOLD_MAX])
        fix = f"give the --name and options of its run; newest batches: {newest}"
        raise BadInput(
            [Problem(batch, "the store has no such batch", fix if known else "nightkiln run")]
        )


def _duckdb_error() -> type[Exception]:
    import duckdb

    return duckdb.Error
