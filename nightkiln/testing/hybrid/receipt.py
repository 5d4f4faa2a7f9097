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
from nightkiln.store.sql_files import sql_file
from nightkiln.store.store import Store
from nightkiln.story import read_story

TOGETHER_S = 5.0  # what happens within is told as one


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
    """Slots of the fallback that were taken at the same time for the same reason."""

    at_s: float  # since the first run began
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
    lost_s: Sequence[float]  # when machines were lost that had come up
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
        for at_s, said, why in sorted((*self._losses(), *self._takings())):
            yield f"after {duration(at_s):<6}{said}"
            if why:
                yield f"{'':12}{why}"
        if not self.fell_back:
            yield "fell back  nothing"
        what = "within" if self.billed_usd <= self.budget else "ABOVE"
        yield f"budget     {self.billed_usd:.4f} billed: {what} {self.budget:.2f} USD"
        done = self.outcome
        if self.deadline_s is not None and not done.left:
            when = "before" if self.is_in_time else "NOT before"
            took, by = self.last_s - self.began_s, self.deadline_s - self.began_s
            yield f"deadline   the last job ended after {duration(took)}: {when} {duration(by)}"
        yield f"jobs       {done.done} done, {done.failed} failed, {done.left} left"

    def _losses(self) -> Iterator[tuple[float, str, str]]:
        for at_s, count in _together(self.lost_s):
            yield at_s, f"{_counted(count, 'machine')} of {VAST} lost", ""

    def _takings(self) -> Iterator[tuple[float, str, str]]:
        for one in self.fell_back:
            did = f"{_counted(one.jobs, 'job')}, {one.counted_usd:.4f} USD"
            yield one.at_s, f"{_counted(one.slots, 'slot')} of {MODAL}: {did}", one.why


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
        fell_back=_fell_back(rows, tales, began_s),
        lost_s=sorted(at_s - began_s for run in runs for at_s in _losses(run)),
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


def _losses(run: Chronicle) -> Iterator[float]:
    """When machines that had come up were seen to be gone, in epoch seconds."""
    for tale in run.leases.values():
        if tale.offer.provider == VAST and tale.ready_s is not None:
            lost = next((entry for entry in tale.entries if entry.what == "lost"), None)
            if lost is not None:
                yield run.at_epoch_s(lost.at_s)


def _fell_back(
    rows: Sequence[Mapping[str, Any]], tales: Mapping[LeaseId, LeaseTale], began_s: float
) -> list[FellBack]:
    """In the order in which it happened."""
    groups: list[tuple[str, list[Mapping[str, Any]], list[int]]] = []
    for row in rows:  # oldest first
        if row["provider"] != MODAL:
            continue
        why, count = _reason(tales.get(row["lease_id"]))
        is_same = bool(groups) and groups[-1][0] == why
        if not is_same or row["rented_s"] - groups[-1][1][0]["rented_s"] > TOGETHER_S:
            groups.append((why, [], []))
        groups[-1][1].append(row)
        groups[-1][2].extend([count] if count is not None else [])
    return [
        FellBack(
            mine[0]["rented_s"] - began_s,
            f"{_range(counts)}{why}",
            len(mine),
            sum(row["jobs_done"] for row in mine),
            sum((row["usd"] for row in mine), Decimal(0)),
        )
        for why, mine, counts in groups
    ]


def _reason(tale: LeaseTale | None) -> tuple[str, int | None]:
    """Why it was rented, and the number of jobs that this begins with.

    Its price, which comes first, is left out.
    """
    if tale is None:
        return "of a run whose story is lost", None
    said = next(entry.why for entry in tale.entries if entry.what in {"rented", "adopted"})
    why = said.partition("; ")[2] or said
    count, _, rest = why.partition(" ")
    return (f" {rest}", int(count)) if count.isdecimal() else (why, None)


def _range(counts: Sequence[int]) -> str:
    if not counts:
        return ""
    least, most = min(counts), max(counts)
    return f"{least}" if least == most else f"{least} to {most}"


def _together(times_s: Sequence[float]) -> Iterator[tuple[float, int]]:
    """The first of those that follow each other closely, and how many there are."""
    group: list[float] = []
    for at_s in times_s:
        if group and at_s - group[0] > TOGETHER_S:
            yield group[0], len(group)
            group = []
        group.append(at_s)
    if group:
        yield group[0], len(group)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"
