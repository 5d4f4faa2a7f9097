"""What is left to do: the catalog's jobs, less those that the store has or the journal proves.

Everything happens by column in one DuckDB on a temporary file: planned jobs are joined with
settled ones, and what remains streams out in the order of the catalog.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import duckdb

from nightkiln.catalog import (
    PLANNED,
    Catalog,
    CatalogInput,
    keep_share,
    load_rows,
    plan_jobs,
    reseed_jobs,
    stream_jobs,
)
from nightkiln.catalog.columns import head_of
from nightkiln.core.model import BatchId, Job, JobId, Output, Settled
from nightkiln.core.plan import SeedRule
from nightkiln.core.sharing import Share
from nightkiln.store.adopt import AdoptionReport, adoptable
from nightkiln.store.forced import first_of_forced
from nightkiln.store.plan_joins import are_there, attach, renewed_sql, reused, reused_outputs
from nightkiln.store.store import Store

ADOPT_CHUNK = 256  # proven jobs looked up at once
REUSED_CHUNK = 1024  # outputs of reused jobs looked up at once


@dataclass(frozen=True, slots=True)
class Counts:
    """A batch as the store shows it; jobs, not rows."""

    total: int
    done: int
    failed: int
    reused: int
    left_out: int = 0  # neither settled nor asked for

    @property
    def to_do(self) -> int:
        """Jobs that this run is there for."""
        return self.total - self.settled - self.left_out

    @property
    def settled(self) -> int:
        """Jobs that no run has to look at again."""
        return self.done + self.failed + self.reused


@dataclass(frozen=True, slots=True)
class Again:
    """Settled jobs of this batch that are rendered again, and nothing else of it."""

    job_ids: frozenset[str]
    # Also those that are done, else only what has failed: which wish that is, so that the same
    # one goes on where a run with it was cut short.
    forced: str | None = None


@dataclass(frozen=True, slots=True)
class Reseeded:
    """Jobs of any batch that are rendered anew with other seeds: all that this batch has."""

    job_ids: frozenset[str]
    earlier: frozenset[str]  # what those replaced, and so on


def counts_from(store: Store, batch: BatchId, again: Again | Reseeded | None) -> int:
    """The run from which on forced jobs are done: this one, or one that it goes on with."""
    if not isinstance(again, Again) or again.forced is None:
        return batch.epoch
    return first_of_forced(store.blobs, batch, again.forced)


@dataclass(slots=True)
class Plan:
    """One run's view of its batch. Blocking: call it in a thread, one call at a time."""

    con: duckdb.DuckDBPyConnection
    catalog: Catalog
    store: Store
    batch: str
    date: str  # under which the batch is filed
    reuses: bool  # results of other batches count
    again: Again | Reseeded | None = None  # instead of all that is not settled
    since: int = 1  # the run from which on a forced job counts as done
    share: Share | None = None  # of a night that several controllers work on: only its jobs
    total: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)  # of the catalog -> DuckDB type
    _jobs: Iterator[Job] | None = field(default=None, init=False)

    def prepare(self) -> None:
        """Give every row its jobs and ids, and look at what is settled.

        Raises:
            BadInput: the rows cannot be read or bound.
        """
        fetched = self.store.staging / "inputs"
        fetched.mkdir(parents=True, exist_ok=True)
        # Seeds may hang on the name of the batch, and must be the same in every share.
        named = self.share.night if self.share is not None else self.batch
        planned = plan_jobs(self.con, self.catalog, batch=named, fetched=fetched)
        if self.share is not None:
            planned = keep_share(self.con, self.share)
        if isinstance(self.again, Reseeded):
            chosen, earlier = self.again.job_ids, self.again.earlier
            planned = reseed_jobs(
                self.con, self.catalog, batch=self.batch, chosen=chosen, earlier=earlier
            )
        self.total = planned.jobs
        self.columns = load_rows(self.con, self.catalog)
        attach(self.con, self.store, batch=self.batch, date=self.date)
        self._ask_again()
        self.refresh()

    def _ask_again(self) -> None:
        """Fill ``asked``: the planned jobs that this run is there for, settled or not."""
        if not isinstance(self.again, Again):
            self.con.execute("CREATE OR REPLACE TEMP VIEW asked AS SELECT job_id FROM planned")
            self.con.execute("CREATE OR REPLACE TEMP TABLE again (job_id VARCHAR)")
            return
        self.con.execute(
            "CREATE OR REPLACE TEMP TABLE again AS SELECT DISTINCT job_id FROM planned "
            "SEMI JOIN (SELECT unnest(?::VARCHAR[]) AS job_id) USING (job_id)",
            [sorted(self.again.job_ids)],
        )
        self.con.execute("CREATE OR REPLACE TEMP VIEW asked AS FROM again")

    @property
    def is_forced(self) -> bool:
        return isinstance(self.again, Again) and self.again.forced is not None

    def refresh(self) -> None:
        """Look again at what this batch has settled."""
        stale = "status = 'failed'"
        if self.is_forced:
            self.con.execute(renewed_sql(batch=self.batch, date=self.date, since=self.since))
            stale += " OR job_id NOT IN (SELECT job_id FROM renewed)"
        self.con.execute(
            "CREATE OR REPLACE TEMP TABLE settled AS FROM settled_here "  # noqa: S608 - ours
            f"WHERE NOT (job_id IN (SELECT job_id FROM again) AND ({stale}))"
        )

    def counts(self) -> Counts:
        """Where the batch stands, of the jobs that the catalog asks for today."""
        found = self.con.execute(
            f"SELECT status, count(*) FROM (SELECT status, {head_of('job_id')} AS head "  # noqa: S608
            "FROM settled) SEMI JOIN planned USING (head) GROUP BY status"
        ).fetchall()
        by_status = dict(found)
        return Counts(
            total=self.total,
            done=by_status.get("done", 0),
            failed=by_status.get("failed", 0),
            reused=by_status.get("reused", 0),
            left_out=self._left_out() if isinstance(self.again, Again) else 0,
        )

    def _left_out(self) -> int:
        query = (
            "SELECT count(DISTINCT job_id) FROM planned ANTI JOIN settled USING (job_id) "
            "ANTI JOIN asked USING (job_id)"
        )
        ((count,),) = self.con.execute(query).fetchall()
        return int(count)

    def forgotten(self) -> int:
        """How many of the jobs to be rendered again the catalog does not ask for any more."""
        if self.again is None:
            return 0
        there = "again" if isinstance(self.again, Again) else "planned"
        column = "job_id" if isinstance(self.again, Again) else "replaces"
        query = f"SELECT count(DISTINCT {column}) FROM {there}"  # noqa: S608 - names of ours
        ((count,),) = self.con.execute(query).fetchall()
        return len(self.again.job_ids) - int(count)

    def wanted(self, job_ids: Sequence[JobId]) -> set[JobId]:
        """Those of ``job_ids`` that the catalog asks for and of which the batch has no result.

        One that failed has none: what a retry made of it before it was killed is better.
        """
        found = self.con.execute(
            "SELECT DISTINCT job_id FROM planned SEMI JOIN (SELECT unnest(?::VARCHAR[]) AS job_id) "
            "USING (job_id) ANTI JOIN (FROM settled WHERE status <> 'failed') USING (job_id)",
            [list(job_ids)],
        ).fetchall()
        return {JobId(job_id) for (job_id,) in found}

    def committed(self) -> set[str]:
        """Every job of which this batch has a result in the store."""
        return self._settled("status <> 'failed'")

    def _settled(self, condition: str) -> set[str]:
        query = f"SELECT job_id FROM settled WHERE {condition}"  # noqa: S608 - a constant
        return {job_id for (job_id,) in self.con.execute(query).fetchall()}

    def proven(self, *, before_epoch: int) -> Iterator[Settled]:
        """Results that the journals of earlier runs prove, as far as they are still asked for."""
        found = adoptable(
            self.store,
            self.batch,
            before_epoch=before_epoch,
            committed=self.committed(),
            report=AdoptionReport(),
        )
        failed = self._settled("status = 'failed'")
        while chunk := list(islice(found, ADOPT_CHUNK)):
            wanted = self.wanted([settled.job.id for settled in chunk])
            for settled in chunk:
                is_known = settled.status == "failed" and settled.job.id in failed
                if settled.job.id in wanted and not is_known:
                    yield settled

    def reused(self, *, now_s: float) -> Iterator[Settled]:
        """Jobs that another batch of the store has done, as results of this one, at no cost."""
        if not self.reuses:
            return
        self.con.execute(
            "CREATE OR REPLACE TEMP TABLE reusable AS SELECT done_elsewhere.* FROM done_elsewhere "
            "SEMI JOIN asked USING (job_id) ANTI JOIN settled USING (job_id)"
        )
        jobs = stream_jobs(self.con, self.catalog, "reusable")
        while chunk := list(islice(jobs, REUSED_CHUNK)):
            outputs = self._outputs_elsewhere([job.id for job in chunk])
            for job in chunk:
                if are_there(self.store, outputs[job.id]):
                    yield reused(job, outputs[job.id], now_s=now_s)

    def _outputs_elsewhere(self, job_ids: Sequence[JobId]) -> Mapping[str, tuple[Output, ...]]:
        rows = self.con.sql(
            "SELECT * FROM reusable WHERE job_id IN (SELECT unnest(?::VARCHAR[]))",
            params=[list(job_ids)],
        ).to_arrow_table()
        return {row["job_id"]: reused_outputs(row) for row in rows.to_pylist()}

    def take(self, count_max: int) -> tuple[Sequence[Job], bool]:
        """The next jobs to render, in the order of the catalog, and whether they are the last."""
        if self._jobs is None:
            asked = "again" if isinstance(self.again, Again) else PLANNED
            self._jobs = stream_jobs(self.con, self.catalog, asked, settled="settled")
        taken = list(islice(self._jobs, count_max))
        return taken, len(taken) < count_max

    def params(self) -> Mapping[str, str]:
        """Names and DuckDB types of the bound values, for the views."""
        return {item.name: self._type(item) for item in self.catalog.inputs}

    def _type(self, item: CatalogInput) -> str:
        if item.is_file:
            return "VARCHAR"
        if item.name in self.columns and not item.is_constant:
            return self.columns[item.name]
        if item.seed_rule is not SeedRule.GIVEN:
            return "HUGEINT"
        kinds = {bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE"}
        return kinds.get(type(item.default), "VARCHAR")

    def other_columns(self) -> Mapping[str, str]:
        """Names and DuckDB types of the catalog's columns that bind nothing."""
        bound = {item.name for item in self.catalog.inputs if not item.is_constant}
        return {name: kind for name, kind in self.columns.items() if name not in bound}
