"""The row about a quote: what was expected of a run before it cost anything."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

import pyarrow as pa

from nightkiln.core.model import BatchId, Usd
from nightkiln.ports.blobs import Blobs
from nightkiln.store.records import create_row, money
from nightkiln.store.rows import SCHEMA_VERSION, text, utc

_TIME, _USD = pa.timestamp("us"), pa.decimal128(18, 6)

QUOTES = pa.schema(
    [
        ("batch", pa.string()),
        ("epoch", pa.int32()),
        ("made_at", _TIME),
        ("decided_at", _TIME),  # what is left of finish and deadline counts from here
        ("verdict", pa.string()),  # taken | refused | declined
        ("jobs", pa.int64()),  # that were left to do
        ("budget_usd", _USD),
        ("deadline_at", _TIME),  # null: none
        ("usd_p50", _USD),
        ("usd_p90", _USD),
        ("finish_s_p50", pa.float64()),
        ("finish_s_p90", pa.float64()),
        ("deadline_met_fraction", pa.float64()),  # of the nights; null: no deadline
        ("machines_p50", pa.float64()),  # at once
        ("machines_p90", pa.float64()),
        ("nights", pa.int32()),
        ("jobs_per_lump", pa.int32()),
        ("basis", pa.string()),
        ("market", pa.string()),
        ("market_sha256", pa.string()),
        ("schema_version", pa.int32()),
    ]
)


class Verdict(StrEnum):
    """What became of a quote: the run began, its budget was too small, or nobody said yes."""

    TAKEN = "taken"
    REFUSED = "refused"
    DECLINED = "declined"


@dataclass(frozen=True, slots=True)
class Quoted:
    """What was expected of a run."""

    verdict: Verdict
    made_s: float  # epoch seconds
    jobs: int
    budget_usd: Usd
    deadline_s: float | None  # epoch seconds
    usd_p50: float
    usd_p90: float
    finish_s_p50: float  # since the run began to rent
    finish_s_p90: float
    deadline_met_fraction: float | None
    machines_p50: float
    machines_p90: float
    nights: int
    jobs_per_lump: int
    basis: str
    market: str
    market_sha256: str


def write_quote(blobs: Blobs, batch: BatchId, quoted: Quoted, *, decided_s: float) -> None:
    """Record a quote and what became of it, once per run; before anything is paid for."""
    row = {
        "batch": batch.batch,
        "epoch": batch.epoch,
        "made_at": utc(quoted.made_s),
        "decided_at": utc(decided_s),
        "verdict": str(quoted.verdict),
        "jobs": quoted.jobs,
        "budget_usd": money(quoted.budget_usd),
        "deadline_at": utc(quoted.deadline_s),
        "usd_p50": money(Decimal(quoted.usd_p50)),
        "usd_p90": money(Decimal(quoted.usd_p90)),
        "finish_s_p50": quoted.finish_s_p50,
        "finish_s_p90": quoted.finish_s_p90,
        "deadline_met_fraction": quoted.deadline_met_fraction,
        "machines_p50": quoted.machines_p50,
        "machines_p90": quoted.machines_p90,
        "nights": quoted.nights,
        "jobs_per_lump": quoted.jobs_per_lump,
        "basis": quoted.basis,
        "market": text(quoted.market),
        "market_sha256": quoted.market_sha256,
        "schema_version": SCHEMA_VERSION,
    }
    key = f"quotes/dt={batch.date}/{batch.batch}-{batch.epoch:06d}.parquet"
    create_row(blobs, key, QUOTES, row)
