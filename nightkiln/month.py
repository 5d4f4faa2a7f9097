"""What a calendar month has cost so far, and a gate that keeps a night within the rest of it.

The store is the ledger: leases of all its batches, as billed where that is known. Beside what is
spent stands what others are about to spend: a living run its whole budget, a lease of a dead one
all that it may come to. Two runs that begin within the same second may both have what is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from decimal import Decimal

from nightkiln.core.budget import lease_cost
from nightkiln.core.errors import Problem
from nightkiln.core.model import Usd
from nightkiln.core.monthly import Month
from nightkiln.gate import Ahead, Gate, Passage, Tell
from nightkiln.lease_book import LeaseBook, Standing
from nightkiln.store.claim import verdict_on
from nightkiln.store.claims import Held, not_ended
from nightkiln.store.quotes import Verdict
from nightkiln.store.sql_files import sql_file
from nightkiln.store.store import Store


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where a month's money is counted. Blocking."""

    store: Store
    book: LeaseBook
    limit: Usd  # a month
    zone: tzinfo  # where a month begins

    def month(self, now_s: float, *, but_for: str = "") -> Month:
        """The month of ``now_s`` (epoch seconds); batch ``but_for`` is who asks.

        Raises:
            StoreUnusable: store or book cannot be read.
        """
        begin, end = bounds(datetime.fromtimestamp(now_s, self.zone))
        times = {"begin": _utc(begin), "end": _utc(end)}
        with self.store.connect("leases") as con:
            ((spent,),) = con.execute(sql_file("month_spend"), times).fetchall()
        return Month(f"{begin:%Y-%m}", self.limit, Decimal(spent), self._held(now_s, but_for))

    def _held(self, now_s: float, but_for: str) -> Usd:
        claims = dict(not_ended(self.store.blobs))
        claims.pop(but_for, None)
        living = {
            (batch, claim.epoch)
            for batch, claim in claims.items()
            if isinstance(verdict_on(claim, now_s=now_s), Held)
        }
        at_work = self._at_work() if living else {}
        held = sum((usd for run, usd in at_work.items() if run in living), Usd(0))
        quoted = {batch for batch, _ in living.intersection(at_work)}
        for entry in self.book.entries():
            is_other = entry.store == self.store.uri and entry.batch not in {but_for, *quoted}
            if is_other and entry.standing is not Standing.ENDED:
                life_s = max(entry.expires_s, now_s) - entry.asked_s
                held += lease_cost(entry.offer, entry.load, life_s=life_s).usd
        return held

    def _at_work(self) -> dict[tuple[str, int], Usd]:
        with self.store.connect("runs", "quotes") as con:
            names = {
                name for (name,) in con.execute("select view_name from duckdb_views()").fetchall()
            }
            if "quotes" not in names:
                return {}  # nothing was ever quoted here
            rows = con.execute(sql_file("month_at_work")).fetchall()
        return {(batch, epoch): Decimal(usd) for batch, epoch, usd in rows}


def bounds(now: datetime) -> tuple[datetime, datetime]:
    """The first moment of the month of ``now``, and of the next one, where its clock hangs."""
    begin = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)
    years, month = divmod(begin.month, 12)
    return begin, begin.replace(year=begin.year + years, month=month + 1)


def _utc(moment: datetime) -> datetime:
    """As it stands in tables: UTC, without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


@dataclass(frozen=True, slots=True)
class MonthGate:
    """Gives a run no more than the month has left, and looks again after somebody was asked."""

    gate: Gate
    ledger: Ledger
    clock: Callable[[], float]  # epoch seconds

    async def __call__(self, ahead: Ahead, tell: Tell) -> Passage:
        month = await self._month(ahead)
        await tell("month", {"told": month.told(), **month.as_object()})
        if (problem := month.objection()) is not None:
            return Passage(refusal=problem)
        rest = min(ahead.budget, month.left)
        passage = await self.gate(replace(ahead, goals=replace(ahead.goals, budget=rest)), tell)
        quoted = passage.quoted
        if quoted is not None and quoted.verdict is Verdict.REFUSED and rest < ahead.budget:
            problem = month.objection(usd_p90=quoted.usd_p90)
            return replace(passage, refusal=problem if problem is not None else passage.refusal)
        if passage.refusal is not None:
            return passage
        cap = passage.budget if passage.budget is not None else rest
        return self._within(passage, cap, await self._month(ahead))

    def _within(self, passage: Passage, cap: Usd, month: Month) -> Passage:
        """What is left by now is less than what was agreed to, if others went on meanwhile."""
        if cap <= month.left:
            return replace(passage, budget=cap)
        quoted = passage.quoted
        problem: Problem | None = month.objection()
        if quoted is None or problem is not None:
            return replace(passage, refusal=problem, budget=month.left)
        # Who agreed to less than the p90 has agreed to a part of the batch.
        problem = month.objection(usd_p90=min(quoted.usd_p90, float(cap)))
        verdict = Verdict.REFUSED if problem is not None else quoted.verdict
        told = replace(quoted, budget_usd=month.left, verdict=verdict)
        return Passage(told, problem, month.left)

    async def _month(self, ahead: Ahead) -> Month:
        return await asyncio.to_thread(self.ledger.month, self.clock(), but_for=ahead.batch)
