"""Settled jobs to fill a store with, small and different from each other."""

from __future__ import annotations

import hashlib
from decimal import Decimal

from nightkiln.core.model import (
    Attempt,
    AttemptId,
    BatchId,
    CatalogRow,
    Fault,
    Job,
    JobId,
    LeaseId,
    Output,
    OutputFacts,
    Settled,
)

BATCH = BatchId(
    batch="night",
    epoch=1,
    date="2026-01-31",
    catalog="parti",
    workflow_digest="w" * 64,
    environment_digest="e" * 64,
)


def picture(number: int) -> bytes:
    """What stands for the image of job ``number``; stores do not look into files."""
    return f"picture {number} ".encode() * 20


def job(number: int) -> Job:
    """Job ``number``, asked for by the catalog row of that number."""
    return Job(
        id=JobId(hashlib.sha256(f"job {number}".encode()).hexdigest()),
        values={"prompt": f"a fox, number {number}", "seed": number, "steps": 20},
        rows=(CatalogRow(number, {"category": "Animals", "challenge": number}),),
    )


def done(number: int, *, batch: BatchId = BATCH, finished_s: float = 1_770_000_000.0) -> Settled:
    """Job ``number``, rendered once, its output under the key that it would really have."""
    asked = job(number)
    content = picture(number)
    sha256 = hashlib.sha256(content).hexdigest()
    output = Output(
        index=0,
        node="9",
        uri=f"images/{batch.batch}/{asked.id[:2]}/{asked.id}-0-{sha256[:8]}.png",
        facts=OutputFacts(sha256, len(content), "image/png", "png", 64, 48, "decoded"),
    )
    return Settled(
        job=asked,
        status="done",
        outputs=(output,),
        attempts=(_attempt(number, batch, finished_s, status="done"),),
        queued_s=finished_s - 10,
        finished_s=finished_s,
        download_s=0.25,
        usd_marginal=Decimal("0.000100"),
    )


def failed(number: int, *, batch: BatchId = BATCH, finished_s: float = 1_770_000_000.0) -> Settled:
    """Job ``number``, refused everywhere."""
    return Settled(
        job=job(number),
        status="failed",
        attempts=(_attempt(number, batch, finished_s, status="failed"),),
        fault=Fault.JOB,
        error="the graph was refused",
        queued_s=finished_s - 10,
        finished_s=finished_s,
    )


def _attempt(number: int, batch: BatchId, finished_s: float, *, status: str) -> Attempt:
    has_failed = status == "failed"
    return Attempt(
        id=AttemptId(f"{batch.batch}-{batch.epoch}-{number}"),
        lease_id=LeaseId(f"{batch.batch}-{batch.epoch}-lease"),
        provider="local",
        host="kiln.example",
        gpu="RTX 4090",
        started_s=finished_s - 4,
        finished_s=finished_s,
        gpu_s=2.0,
        status=status,
        fault=Fault.JOB if has_failed else None,
        error="the graph was refused" if has_failed else None,
    )
