"""``nightkiln status``: where batches stand, read from the store, from anywhere."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from nightkiln.cli.options import JsonOption, StoreOption
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.sharing import SHARE_NAME
from nightkiln.settings import load_settings
from nightkiln.store.claims import STALE_S, SeenClaim, claimed_batches, newest_claim
from nightkiln.store.store import Store
from nightkiln.wiring import open_store

_COUNTS = """
select batch,
       count(*) filter (status = 'done') as done,
       count(*) filter (status = 'reused') as reused,
       count(*) filter (status = 'failed') as failed,
       60 * count(*) filter (status = 'done' and finished_at > now_utc - interval 5 minute) / 300.0
from jobs, (select (now() at time zone 'UTC')::timestamp as now_utc)
group by batch
"""
_TOTALS = "select batch, catalog, jobs_total from batches"


def status(
    batch: Annotated[
        str | None,
        typer.Argument(metavar="BATCH", help="One batch; without it, all.", show_default=False),
    ] = None,
    *,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show batches: what is committed, who works on them, when they were last alive.

    A batch is running, ended (with the exit code of its run), or "dead?": nobody has said for a
    minute that it is alive; the same `nightkiln run` takes it over. A run commits every 256 jobs
    or 30 seconds, so a running batch is a little further than this. jobs/min is of the last five
    minutes.

    Example: nightkiln status --store results

    Exit codes: 0, or 2 if there is no such batch, 3 if there is no such store.
    """
    opened = open_store(load_settings(store=store))
    found = batches(opened, now_s=time.time())
    if batch is not None:
        found = [row for row in found if row["batch"] == batch]
        if not found:
            raise BadInput([Problem(batch, "the store has no such batch", "'nightkiln status'")])
    if as_json:
        for row in found:
            typer.echo(json.dumps(row))
        return
    if not found:
        typer.echo(f"{opened.uri}: no batch has run here yet")
        return
    Console().print(_table(found))


def batches(store: Store, *, now_s: float) -> list[dict[str, Any]]:
    """Every batch of the store, JSON-safe, units in the names."""
    with store.connect() as con:
        counts = {name: rest for name, *rest in con.execute(_COUNTS).fetchall()}
        totals = {name: rest for name, *rest in con.execute(_TOTALS).fetchall()}
    rows = []
    for name in claimed_batches(store.blobs):
        catalog, total = totals.get(name, (None, None))
        done, reused, failed, per_minute = counts.get(name, (0, 0, 0, 0.0))
        claim = newest_claim(store.blobs, name)
        left = None if total is None else total - done - reused - failed
        row: dict[str, Any] = {
            "batch": name,
            "catalog": catalog,
            "jobs_total": total,
            "done": done,
            "reused": reused,
            "failed": failed,
            "left": left,
            "jobs_per_minute": round(float(per_minute), 1),
            **_run(claim, now_s),
        }
        rows.append(row)
    return _with_shares(rows)


def _with_shares(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In a night that is shared out nothing is rendered: it has what its shares have."""
    nights = {row["batch"]: row for row in rows}
    for row in rows:
        found = SHARE_NAME.fullmatch(row["batch"])
        night = nights.get(found["night"]) if found is not None else None
        if night is None:
            continue
        for count in ("done", "reused", "failed", "jobs_per_minute"):
            night[count] += row[count]
        if night["left"] is not None:
            night["left"] -= row["done"] + row["reused"] + row["failed"]
    return rows


def _run(claim: SeenClaim | None, now_s: float) -> Mapping[str, Any]:
    if claim is None:
        return {"state": "never ran"}
    fields = {
        "epoch": claim.epoch,
        "owner": f"{claim.owner.host}:{claim.owner.pid}",
        "started_s": claim.started_s,
        "heartbeat_age_s": round(now_s - claim.alive_s, 1),
    }
    if claim.ended is not None:
        return {"state": "ended", "exit_code": claim.ended.get("exit_code"), **fields}
    is_stale = now_s - claim.alive_s > STALE_S
    return {"state": "dead?" if is_stale else "running", "exit_code": None, **fields}


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(
        "batch", "state", "done", "reused", "failed", "left", "jobs/min", "owner", "alive"
    )
    for row in rows:
        code = "" if row.get("exit_code") is None else f" (exit {row['exit_code']})"
        alive = f"{row['heartbeat_age_s']:.0f} s ago" if "heartbeat_age_s" in row else ""
        shown = ("done", "reused", "failed", "left", "jobs_per_minute")
        cells = ["?" if row[name] is None else str(row[name]) for name in shown]
        table.add_row(row["batch"], row["state"] + code, *cells, row.get("owner", ""), alive)
    return table
