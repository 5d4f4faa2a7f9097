"""Which run of a batch a forced retry goes on with: the first of those that were cut short."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nightkiln.core.model import BatchId
from nightkiln.outcome import ALL_DONE, SOME_FAILED
from nightkiln.ports.blobs import Blobs
from nightkiln.store.records import FORCED, run_key

_IN_ORDER = frozenset({ALL_DONE, SOME_FAILED})


def first_of_forced(blobs: Blobs, batch: BatchId, forced: str) -> int:
    """The number of the run that first wanted what ``forced`` names, and has not got all of it.

    That of this run (``batch.epoch``), unless an earlier one was killed or stopped. Other runs of
    the batch between them change nothing.
    """
    first = batch.epoch
    for epoch in range(batch.epoch - 1, 0, -1):
        if _forced_by(blobs, batch, epoch) != forced:
            continue
        if _has_ended_in_order(blobs, batch, epoch):
            break
        first = epoch
    return first


def _forced_by(blobs: Blobs, batch: BatchId, epoch: int) -> object:
    start = _row(blobs, batch, epoch, "start")
    if start is None:
        return None
    try:
        told = json.loads(start["columns_json"])
    except ValueError:
        return None
    return told.get(FORCED) if isinstance(told, dict) else None


def _has_ended_in_order(blobs: Blobs, batch: BatchId, epoch: int) -> bool:
    end = _row(blobs, batch, epoch, "end")
    return end is not None and end["exit_code"] in _IN_ORDER


def _row(blobs: Blobs, batch: BatchId, epoch: int, phase: str) -> dict[str, Any] | None:
    try:
        data = blobs.get(run_key(batch, epoch, phase))
    except KeyError:
        return None
    rows: list[dict[str, Any]] = pq.read_table(
        pa.BufferReader(data), columns=["columns_json", "exit_code"]
    ).to_pylist()
    return rows[0] if rows else None
