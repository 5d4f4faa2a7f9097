"""A night that was shared out, asked as if it were one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightkiln.core.sharing import Share, share_batch, share_called
from nightkiln.store.shares import found_split
from nightkiln.store.sql_files import literal
from nightkiln.store.store import Store

if TYPE_CHECKING:
    import duckdb

WHOLE = "whole_store"
# The night's own rows say when somebody watched over it, what it was quoted, how many jobs it has.
OF_THE_NIGHT = frozenset({"runs", "batches", "quotes"})
WHEN = {"jobs": "finished_at", "leases": "rented_at"}  # which decides to which run of the night


def shares_of(store: Store, batch: str) -> list[str]:
    """The batches that a night was shared out to; none: it was not.

    Raises:
        StoreUnusable: nobody can tell.
    """
    split = found_split(store.blobs, batch)
    if split is None:
        return []
    return [share_batch(batch, number, split.of) for number in range(1, split.of + 1)]


def share_named(store: Store, batch: str) -> Share | None:
    """The share of a night that a batch is; None: it is a batch like any other.

    Raises:
        StoreUnusable: nobody can tell.
    """
    share = share_called(batch)
    if share is None:
        return None
    split = found_split(store.blobs, share.night)
    return share if split is not None and split.of == share.of else None


def connect_as_one(store: Store, batch: str) -> duckdb.DuckDBPyConnection:
    """A connection with all views, in which the shares of a night are one batch.

    Of a night that was shared out the views show nothing else; of any other batch they are those
    of the store.

    Raises:
        StoreUnusable: what the views are made of cannot be read.
    """
    con, shares = store.connect(), shares_of(store, batch)
    if not shares:
        return con
    store.attach(con, WHOLE)
    found = con.execute(
        "SELECT table_name, list(column_name) FROM duckdb_columns() "
        "WHERE database_name = ? AND NOT internal GROUP BY table_name",
        [WHOLE],
    ).fetchall()
    for view, columns in found:
        if "batch" in columns:
            con.execute(_view(view, columns, batch, shares))
    return con


def _view(view: str, columns: list[str], night: str, shares: list[str]) -> str:
    source, name = f"{WHOLE}.main.{view}", literal(night)
    if view in OF_THE_NIGHT:
        return f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM {source} WHERE batch = {name}"  # noqa: S608 - quoted
    replaced = f"{name} AS batch"
    if view in WHEN and "epoch" in columns:
        began = f"r.batch = {name} AND r.started_at <= v.{WHEN[view]}"
        run = f"SELECT max(r.epoch) FROM {WHOLE}.main.runs r WHERE {began}"  # noqa: S608 - quoted
        replaced += f", coalesce(({run}), v.epoch) AS epoch"
    listed = ", ".join(map(literal, shares))
    chosen = f"SELECT * REPLACE ({replaced}) FROM {source} v WHERE v.batch IN ({listed})"  # noqa: S608 - quoted
    return f"CREATE OR REPLACE VIEW {view} AS {chosen}"
