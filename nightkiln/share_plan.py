"""What there is to do in a night that is shared out, and in each of its shares."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from nightkiln.catalog import catalog_digest, count_shares
from nightkiln.core.model import BatchId
from nightkiln.core.sharing import share_batch
from nightkiln.planner import Plan
from nightkiln.run_record import run_start
from nightkiln.store.records import BatchStart
from nightkiln.store.shares import Split
from nightkiln.store.sql_files import literal
from nightkiln.store.store import Store
from nightkiln.wiring import Request


@dataclass(frozen=True, slots=True)
class Planned:
    """What there is to do in a night."""

    start: BatchStart  # the row that says so
    of_shares: Sequence[int]  # those that neither this night nor, where that counts, another did

    @property
    def total(self) -> int:
        return self.start.jobs_total

    @property
    def left(self) -> int:
        return sum(self.of_shares)


def plan_shares(
    con: duckdb.DuckDBPyConnection, request: Request, store: Store, batch: BatchId, split: Split
) -> Planned:
    """Count what there is to do, by share. Blocking.

    Raises:
        BadInput: the rows cannot be read or bound.
    """
    catalog, name = request.catalog, batch.batch
    reuses = catalog.reuse == "store" and not request.is_fresh
    plan = Plan(con, catalog, store, name, batch.date, reuses)
    plan.prepare()
    numbers = range(1, split.of + 1)
    shares = ", ".join(literal(share_batch(name, number, split.of)) for number in numbers)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE not_to_do AS "  # noqa: S608 - names of ours, quoted
        f"SELECT DISTINCT job_id FROM _results WHERE batch IN ({shares})"
        + (" UNION SELECT job_id FROM done_elsewhere" if reuses else "")
    )
    start = run_start(batch, plan, catalog_digest(catalog), time.time())
    return Planned(start, count_shares(con, split.of, without="not_to_do"))
