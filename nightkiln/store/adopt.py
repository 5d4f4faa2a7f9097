"""What an earlier run of this batch finished and did not live to commit."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightkiln.core.model import BatchId, JobId, Output, Settled
from nightkiln.journal import read_journal
from nightkiln.store.claims import ended_in_order
from nightkiln.store.settled_json import settled_from_json, settled_to_json
from nightkiln.store.store import Store

SETTLED_KINDS = frozenset({"rendered", "settled"})  # journal lines that hold a settled job
_RANK = {"done": 0, "reused": 1, "failed": 2}


def settled_fields(settled: Settled) -> dict[str, Any]:
    """What a journal line of kind ``rendered`` or ``settled`` must hold to be adoptable."""
    return {"settled": settled_to_json(settled)}


@dataclass(slots=True)
class AdoptionReport:
    """What the journals of earlier runs were good for."""

    journals: int = 0
    adopted: int = 0
    unproven: int = 0  # a file is missing or not the one that was verified: rendered again
    damaged_lines: int = 0


def adoptable(
    store: Store,
    batch: str,
    *,
    before_epoch: int,
    committed: Container[str],
    report: AdoptionReport,
) -> Iterator[Settled]:
    """Settled jobs that earlier journals prove and no shard shows, each once.

    Proven means: every file that the line names is in the store with its length and sha256.
    Blocking (it reads all those files); ``report`` is filled as it goes.
    """
    found: dict[JobId, Settled] = {}
    for path in journals_of(store, batch, before_epoch):
        report.journals += 1
        for settled in _settled_lines(path, report):
            if settled.job.id not in committed:
                before = found.get(settled.job.id)
                if before is None or _RANK[settled.status] <= _RANK[before.status]:
                    found[settled.job.id] = settled
    for settled in found.values():
        if _is_proven(store, settled):
            report.adopted += 1
            yield settled
        else:
            report.unproven += 1


def journals_of(store: Store, batch: str, before_epoch: int) -> list[Path]:
    """Of runs that did not end in order: whoever did has committed everything first."""
    return [
        path
        for epoch in range(1, before_epoch)
        if (path := store.journal_path(batch, epoch)).is_file()
        and not ended_in_order(store.blobs, batch, epoch)
    ]


def _settled_lines(path: Path, report: AdoptionReport) -> Iterator[Settled]:
    def damaged(_line: int) -> None:
        report.damaged_lines += 1

    for entry in read_journal(path, on_damage=damaged):
        if entry["kind"] not in SETTLED_KINDS:
            continue
        try:
            settled = settled_from_json(entry["settled"])
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
            report.damaged_lines += 1
            continue
        if settled.status in _RANK:
            yield settled
        else:
            report.damaged_lines += 1


def _is_proven(store: Store, settled: Settled) -> bool:
    if settled.status == "failed":
        return True  # an explanation needs no file
    return bool(settled.outputs) and all(_is_there(store, output) for output in settled.outputs)


def _is_there(store: Store, output: Output) -> bool:
    if store.blobs.size(output.uri) != output.facts.size:
        return False
    return hashlib.sha256(store.blobs.get(output.uri)).hexdigest() == output.facts.sha256


def drop_journals(store: Store, batch: BatchId) -> None:
    """Forget the journals up to this run's: everything in them is committed."""
    for epoch in range(1, batch.epoch + 1):
        store.journal_path(batch.batch, epoch).unlink(missing_ok=True)
