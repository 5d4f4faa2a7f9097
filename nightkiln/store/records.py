"""The rows about runs and leases: a start and an end row per run, one row per released lease."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa

from nightkiln.core.model import BatchId, LeaseEnd, Usd
from nightkiln.ports.blobs import Blobs
from nightkiln.store.commit import create_or_same
from nightkiln.store.processes import Process
from nightkiln.store.rows import SCHEMA_VERSION, parquet_bytes, text, utc

REASON_CHARS_MAX = 500
FORCED = "forced"  # in ``columns_json``
_MICRODOLLAR = Decimal("0.000001")  # what a decimal(12, 6) column holds

_TIME = pa.timestamp("us")

BATCHES = pa.schema(
    [
        ("batch", pa.string()),
        ("epoch", pa.int32()),
        ("date", pa.string()),
        ("phase", pa.string()),  # start | end
        ("catalog", pa.string()),
        ("catalog_digest", pa.string()),
        ("workflow_digest", pa.string()),
        ("environment_digest", pa.string()),
        ("host", pa.string()),
        ("pid", pa.int64()),
        ("started_at", _TIME),
        ("ended_at", _TIME),  # null in the start row, like the counts
        ("jobs_total", pa.int64()),
        ("done", pa.int64()),  # of the whole batch, earlier runs included
        ("reused", pa.int64()),
        ("failed", pa.int64()),
        ("exit_code", pa.int32()),
        ("columns_json", pa.string()),  # names and DuckDB types, for the generated views
        ("nightkiln_version", pa.string()),
        ("schema_version", pa.int32()),
    ]
)

LEASES = pa.schema(
    [
        ("lease_id", pa.string()),
        ("batch", pa.string()),
        ("epoch", pa.int32()),
        ("provider", pa.string()),
        ("ref", pa.string()),  # the provider's own name for the offer
        ("gpu", pa.string()),
        ("host", pa.string()),
        ("rented_at", _TIME),
        ("ready_at", _TIME),  # null: it never came up
        ("released_at", _TIME),  # null: not confirmed, it may still cost money
        ("reason", pa.string()),
        ("jobs_done", pa.int64()),
        ("attempts_failed", pa.int64()),
        ("busy_s", pa.float64()),  # GPU seconds of all its attempts
        ("usd_per_hour", pa.decimal128(12, 6)),
        ("usd", pa.decimal128(12, 6)),  # by our own count; the view calls it usd_estimated
        ("schema_version", pa.int32()),
        # Rows of earlier versions lack the parts: the view shows null.
        ("usd_gpu", pa.decimal128(12, 6)),
        ("usd_storage", pa.decimal128(12, 6)),
        ("usd_in", pa.decimal128(12, 6)),
        ("usd_out", pa.decimal128(12, 6)),
        ("gpu_billed_s", pa.float64()),  # those at a lower rate count for their share
        ("gb_in", pa.float64()),
        ("gb_out", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True)
class BatchStart:
    """A run that begins."""

    batch: BatchId
    catalog_digest: str
    process: Process
    started_s: float
    jobs_total: int
    version: str  # of nightkiln
    columns: Mapping[str, str] = field(default_factory=dict)  # catalog column -> DuckDB type
    params: Mapping[str, str] = field(default_factory=dict)  # input name -> DuckDB type
    forced: str | None = None  # which jobs it renders anew though they are done: a digest


@dataclass(frozen=True, slots=True)
class BatchEnd:
    """How it went; the counts are the batch's, not the run's."""

    ended_s: float
    done: int
    reused: int
    failed: int
    exit_code: int


def write_batch_start(blobs: Blobs, start: BatchStart) -> None:
    """Record that a run has begun, and which columns its catalog brings."""
    _write_batch(blobs, start, "start", {})


def write_batch_end(blobs: Blobs, start: BatchStart, end: BatchEnd) -> None:
    """Record how the run ended."""
    facts = {
        "ended_at": utc(end.ended_s),
        "done": end.done,
        "reused": end.reused,
        "failed": end.failed,
        "exit_code": end.exit_code,
    }
    _write_batch(blobs, start, "end", facts)


def write_lease_end(blobs: Blobs, batch: BatchId, end: LeaseEnd) -> None:
    """Record a lease that is over, once; a second call with other facts is a conflict.

    What is told late has a name of its own: the run that rented it may have said something before.
    """
    lease, cost = end.lease, end.cost
    told = "" if end.released_s is None else f"-{round(end.released_s * 1000)}"
    name = f"{lease.id}-{batch.epoch:06d}{told}" if end.is_late else lease.id
    row = {
        "lease_id": lease.id,
        "batch": batch.batch,
        "epoch": batch.epoch,
        "provider": text(lease.provider),
        "ref": text(lease.offer.ref),
        "gpu": text(lease.offer.gpu),
        "host": text(lease.host),
        "rented_at": utc(end.rented_s),
        "ready_at": utc(end.ready_s),
        "released_at": utc(end.released_s),
        "reason": text(end.reason, chars_max=REASON_CHARS_MAX),
        "jobs_done": end.jobs_done,
        "attempts_failed": end.attempts_failed,
        "busy_s": end.busy_s,
        "usd_per_hour": money(lease.offer.usd_per_hour),
        "usd": money(end.usd),
        "schema_version": SCHEMA_VERSION,
        "usd_gpu": money(cost.gpu),
        "usd_storage": money(cost.storage),
        "usd_in": money(cost.traffic_in),
        "usd_out": money(cost.traffic_out),
        "gpu_billed_s": cost.gpu_s,
        "gb_in": cost.gb_in,
        "gb_out": cost.gb_out,
    }
    create_row(blobs, f"leases/dt={batch.date}/{name}.parquet", LEASES, row)


def _write_batch(blobs: Blobs, start: BatchStart, phase: str, facts: Mapping[str, Any]) -> None:
    batch = start.batch
    row = {
        "batch": batch.batch,
        "epoch": batch.epoch,
        "date": batch.date,
        "phase": phase,
        "catalog": batch.catalog,
        "catalog_digest": start.catalog_digest,
        "workflow_digest": batch.workflow_digest,
        "environment_digest": batch.environment_digest,
        "host": text(start.process.host),
        "pid": start.process.pid,
        "started_at": utc(start.started_s),
        "jobs_total": start.jobs_total,
        "columns_json": _told(start),
        "nightkiln_version": start.version,
        "schema_version": SCHEMA_VERSION,
        **facts,
    }
    create_row(blobs, run_key(batch, batch.epoch, phase), BATCHES, row)


def run_key(batch: BatchId, epoch: int, phase: str) -> str:
    """Where the row is that says how run ``epoch`` of a batch began, or ended."""
    return f"batches/dt={batch.date}/{batch.batch}-{epoch:06d}-{phase}.parquet"


def _told(start: BatchStart) -> str:
    told = {"columns": dict(start.columns), "params": dict(start.params)}
    return json.dumps(told | ({FORCED: start.forced} if start.forced else {}), sort_keys=True)


def create_row(blobs: Blobs, key: str, schema: pa.Schema, row: Mapping[str, Any]) -> None:
    """A file of one row, created once."""
    create_or_same(blobs, key, parquet_bytes(pa.Table.from_pylist([dict(row)], schema=schema)))


def money(usd: Usd) -> Usd:
    """As precise as a column of money is."""
    return usd.quantize(_MICRODOLLAR)
