"""What a plan asks of the store: which jobs are settled here, which are done elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from nightkiln.core.model import Job, Output, OutputFacts, Settled
from nightkiln.store.sql_files import literal, sql_file
from nightkiln.store.store import Store

if TYPE_CHECKING:
    import duckdb


_FACTS = ("sha256", "size", "media", "width", "height", "verified", "pixels")
_COLUMNS = {"size": "bytes"}  # where the table's name is another one


def attach(con: duckdb.DuckDBPyConnection, store: Store, *, batch: str, date: str) -> None:
    """Give a plan's DuckDB connection the views ``settled_here`` and ``done_elsewhere``.

    ``settled_here(job_id, status)`` has one row per job that this batch has settled.
    ``done_elsewhere(job_id, batch, finished_at, out_index, out_node, out_uri, ...)`` has one per
    job that another batch has done: its newest result, whose row makes ``reused_outputs``.
    Neither reads the store before it is asked; a view is as old as the question.
    """
    store.register(con)
    con.execute(store.settled_sql())
    con.execute(sql_file("settled_here", date=literal(date), batch=literal(batch)))
    con.execute(sql_file("done_elsewhere", batch=literal(batch)))


def renewed_sql(*, batch: str, date: str, since: int) -> str:
    """Fills ``renewed(job_id)``: what runs of this batch, from run ``since`` on, have done."""
    return sql_file("renewed", date=literal(date), batch=literal(batch), since=str(since))


def reused_outputs(row: Mapping[str, Any]) -> tuple[Output, ...]:
    """The outputs that a row of ``done_elsewhere`` points at."""
    return tuple(
        Output(
            index=index,
            node=node,
            uri=uri,
            facts=OutputFacts(ext=uri.rpartition(".")[2], **dict(zip(_FACTS, facts, strict=True))),
        )
        for index, node, uri, *facts in zip(
            row["out_index"],
            row["out_node"],
            row["out_uri"],
            *(row[f"out_{_COLUMNS.get(name, name)}"] for name in _FACTS),
            strict=True,
        )
    )


def reused(job: Job, outputs: tuple[Output, ...], *, now_s: float) -> Settled:
    """The settled job whose result was already there: it cost nothing and was tried nowhere."""
    return Settled(
        job=job,
        status="reused",
        outputs=outputs,
        queued_s=now_s,
        finished_s=now_s,
        usd_marginal=Decimal(0),
    )


def are_there(store: Store, outputs: tuple[Output, ...]) -> bool:
    """Whether the store still holds every file, in its full length."""
    return bool(outputs) and all(
        store.blobs.size(output.uri) == output.facts.size for output in outputs
    )
