"""What a night on both cost: by whom, against whose bill, and why the fallback was used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from nightkiln.chronicle import Chronicle, LeaseTale
from nightkiln.core.model import LeaseId, Usd
from nightkiln.night import Outcome
from nightkiln.observers.sentences import duration
from nightkiln.places import MODAL, VAST
from nightkiln.store.store import Store
from nightkiln.store.views import sql_file
from nightkiln.story import read_story


@dataclass(frozen=True, slots=True)
class Share:
    """What one provider did."""

    provider: str
    leases: int
    never_up: int
    jobs: int
    counted_usd: Usd  # by our own count
    billed_usd: Usd  # by the provider's truth


@dataclass(frozen=True, slots=True)
class FellBack:
    """Slots of the fallback that were taken for the same reason."""

    why: str
    slots: int
    jobs: int
    counted_usd: Usd


@dataclass(frozen=True, slots=True)
class HybridReceipt:
    """One batch's, all its runs together."""

    outcome: Outcome
    shares: Sequence[Share]
    fell_back: Sequence[FellBack]
    budget: Usd
    began_s: float  # epoch seconds
    last_s: float  # when the last job was settled
    deadline_s: float | None  # epoch seconds

    def of(self, provider: str) -> Share:
        """What that provider did."""
        return next(one for one in self.shares if one.provider == provider)

    @property
    def billed_usd(self) -> Usd:
        return sum((one.billed_usd for one in self.shares), Decimal(0))

    @property
    def is_in_time(self) -> bool:
        """Whether every job has its end, and before the deadline."""
        return not self.outcome.left and (self.deadline_s is None or self.last_s <= self.deadline_s)

    def facts(self) -> dict[str, Any]:
        """The same for programs."""
        told = asdict(self)
        del told["outcome"]
        return {**told, "billed_usd": self.billed_usd, "is_in_time": self.is_in_time}

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """For people; none is longer than a terminal is wide."""
        columns = f"{'leases':>8}{'no start':>10}{'jobs':>6}{'USD':>10}{'our count':>12}"
        yield f"{'provider':<10}{columns}"
        for one in self.shares:
            usd = f"{one.billed_usd:>10.4f}{one.counted_usd:>12.4f}"
            yield f"{one.provider:<10}{one.leases:>8}{one.never_up:>10}{one.jobs:>6}{usd}"
        for each in self.fell_back:
            usd = f"{each.counted_usd:.4f} USD"
            yield f"fell back  {each.slots} slots, {each.jobs} jobs, {usd}: {each.why}"
        if not self.fell_back:
            yield "fell back  nothing"
        what = "within" if self.billed_usd <= self.budget else "ABOVE"
        yield f"budget     {self.billed_usd:.4f} billed: {what} {self.budget:.2f} USD"
        if self.deadline_s is not None:
            when = "before" if self.is_in_time else "NOT before"
            took, by = self.last_s - self.began_s, self.deadline_s - self.began_s
            yield f"deadline   the last job ended after {duration(took)}: {when} {duration(by)}"
        done = self.outcome
        yield f"jobs       {done.done} done, {done.failed} failed, {done.left} left"


def receipt_of(outcome: Outcome, *, vast_usd: Usd, modal_usd: Usd, budget: Usd) -> HybridReceipt:
    """Count it all. Blocks."""
    store = Store.open(outcome.store)
    with store.connect() as con:
        answer = con.execute(sql_file("receipt_leases"), {"batch": outcome.batch})
        names = [column[0] for column in answer.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
        last = con.execute(
            "select epoch_us(max(finished_at)) / 1e6 from jobs where batch = $batch",
            {"batch": outcome.batch},
        ).fetchone()
    runs = [_read(path) for path in store.story_paths(outcome.batch)]
    tales = {lease_id: tale for run in runs for lease_id, tale in run.leases.items()}
    began_s = min(run.opening.began_s for run in runs)
    terms, opening = runs[-1].opening.terms, runs[-1].opening
    deadline_s = None
    if terms.deadline_s is not None:
        deadline_s = opening.began_s + terms.deadline_s - opening.clock_s
    return HybridReceipt(
        outcome=outcome,
        shares=[_share(VAST, rows, vast_usd), _share(MODAL, rows, modal_usd)],
        fell_back=list(_fell_back(rows, tales)),
        budget=budget,
        began_s=began_s,
        last_s=last[0] if last is not None and last[0] is not None else began_s,
        deadline_s=deadline_s,
    )


def _read(path: Path) -> Chronicle:
    opening, lines = read_story(path)
    run = Chronicle(opening)
    run.gather(lines)
    return run


def _share(provider: str, rows: Sequence[Mapping[str, Any]], billed_usd: Usd) -> Share:
    mine = [row for row in rows if row["provider"] == provider]
    return Share(
        provider=provider,
        leases=len(mine),
        never_up=sum(row["ready_s"] is None for row in mine),
        jobs=sum(row["jobs_done"] for row in mine),
        counted_usd=sum((row["usd"] for row in mine), Decimal(0)),
        billed_usd=billed_usd,
    )


def _fell_back(
    rows: Sequence[Mapping[str, Any]], tales: Mapping[LeaseId, LeaseTale]
) -> Iterator[FellBack]:
    """The costliest reason first."""
    by_reason: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["provider"] == MODAL:
            by_reason.setdefault(_reason(tales.get(row["lease_id"])), []).append(row)
    found = [
        FellBack(
            why,
            len(mine),
            sum(row["jobs_done"] for row in mine),
            sum((row["usd"] for row in mine), Decimal(0)),
        )
        for why, mine in by_reason.items()
    ]
    yield from sorted(found, key=lambda one: (-one.counted_usd, one.why))


def _reason(tale: LeaseTale | None) -> str:
    """Why it was rented; its price, which comes first, is left out."""
    if tale is None:
        return "of a run whose story is lost"
    said = next(entry.why for entry in tale.entries if entry.what in {"rented", "adopted"})
    return said.partition("; ")[2] or said
