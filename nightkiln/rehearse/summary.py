"""What many nights say together: a distribution, and ratios of means."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from nightkiln.rehearse.nights import Rehearsed
from nightkiln.rehearse.playing import Played
from nightkiln.rehearse.script import Script
from nightkiln.rehearse.uses import NightParts
from nightkiln.testing.market.baselines import Baselines, summary

PER = 1000  # jobs that a price is told for
WASTE = ("startup", "traffic_in", "failed_starts", "failed_tries", "hedges", "idle")
COUNTS = ("jobs_failed", "jobs_left", "leases", "leases_lost", "starts_failed", "not_released")


@dataclass(frozen=True, slots=True)
class Spread:
    """Of one figure over all nights."""

    p10: float
    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Nights of one script."""

    script: Script
    nights: tuple[Played, ...]
    baselines: Baselines | None
    feasible: frozenset[int] = frozenset()  # seeds: the fallback alone would have been in time

    @property
    def deadline_met_fraction(self) -> float:
        return self.mean(lambda night: night.is_met)

    @property
    def usd_per_1000(self) -> float:
        """Ratio of means; what a night left undone is charged at the fallback's price."""
        usd = self.mean(lambda night: night.usd + night.finishing_usd)
        return PER * usd / self.script.market.batch.jobs

    @property
    def waste_fraction(self) -> float:
        """Of the money: all that bought no result."""
        usd = self.mean(lambda night: night.parts.usd)
        return self.mean(lambda night: night.parts.waste_usd) / usd if usd > 0 else 0.0

    @property
    def parts(self) -> NightParts:
        """Mean USD of a night by what they were for."""
        return NightParts(*(self.mean(_part(part.name)) for part in fields(NightParts)))

    @property
    def over_budget(self) -> int:
        """Nights whose bill passed the budget; there must be none."""
        budget = self.script.budget
        if budget is None:
            return 0
        return sum(max(night.billed_usd, night.ledger_usd) > budget for night in self.nights)

    def mean(self, figure: Callable[[Played], float]) -> float:
        return math.fsum(map(figure, self.nights)) / len(self.nights)

    def spread(self, figure: Callable[[Played], float]) -> Spread:
        values = [figure(night) for night in self.nights]
        return Spread(*(percentile(values, share) for share in (0.1, 0.5, 0.9)))

    def as_object(self) -> dict[str, Any]:
        """For programs: units in the names, ``null`` where there is nothing to say."""
        script, others = self.script, self.baselines
        usd = self.spread(lambda night: night.usd)
        finish = self.spread(lambda night: night.finish_s)
        hand = others.best_hand if others is not None else None
        on_demand = others.best_on_demand if others is not None else None
        return {
            "market": script.market.name,
            "market_sha256": script.market.sha256,
            "basis": script.basis,
            "measured": _measured(script),
            "seconds_per_job_by_gpu": {
                name: facts.seconds_per_job for name, facts in script.market.classes.items()
            },
            "jobs": script.market.batch.jobs,
            "jobs_per_lump": script.lump,
            "deadline_s": script.deadline_s,
            "budget_usd": float(script.budget) if script.budget is not None else None,
            "nights": len(self.nights),
            "deadline_met_fraction": self.deadline_met_fraction,
            "nights_over_budget": self.over_budget,
            "usd_per_1000": self.usd_per_1000,
            "usd_per_1000_fallback_only": _or_none(others, "usd_per_1000_fallback_only"),
            "usd_per_1000_by_hand": _or_none(hand, "usd_per_1000"),
            "usd_per_1000_by_hand_on_demand": _or_none(on_demand, "usd_per_1000"),
            "usd_per_1000_clairvoyant": _or_none(others, "usd_per_1000_clairvoyant"),
            "by_hand": str(hand.hand) if hand is not None else None,
            "by_hand_on_demand": str(on_demand.hand) if on_demand is not None else None,
            "fallback_only_met_fraction": _or_none(others, "feasible_share"),
            "usd_p10": usd.p10,
            "usd_p50": usd.p50,
            "usd_p90": usd.p90,
            "finish_s_p10": finish.p10,
            "finish_s_p50": finish.p50,
            "finish_s_p90": finish.p90,
            "waste_fraction": self.waste_fraction,
            **{f"waste_{name}_usd": self.parts[name] for name in WASTE},
            **{f"{name}_mean": self.mean(attrgetter(name)) for name in COUNTS},
        }


def summary_of(script: Script, nights: Sequence[Rehearsed]) -> Summary:
    """What ``nights`` of ``script`` say together."""
    assert nights, "a summary of no nights"
    others = [night.baselines for night in nights if night.baselines is not None]
    compared = summary(script.market, script.deadline_s, others) if others else None
    feasible = frozenset(other.seed for other in others if other.fallback_only.is_met)
    return Summary(script, tuple(night.played for night in nights), compared, feasible)


def percentile(values: Sequence[float], share: float) -> float:
    """Below which so large a share of ``values`` lies, interpolated."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def _measured(script: Script) -> list[dict[str, Any]]:
    """What the workflow took by GPU class, and where each of these figures can be used."""
    if script.measured is None:
        return []
    return [
        {
            "gpu": one.gpu,
            "jobs": one.jobs,
            "machines": one.machines,
            "seconds_per_job": one.seconds_per_job,
            "measured_at": datetime.fromtimestamp(one.seen_s, UTC).isoformat(timespec="seconds"),
            "is_for_rent": one.is_for_rent,
            "is_used": one.is_compared,
        }
        for one in script.measured.classes
    ]


def _part(name: str) -> Callable[[Played], float]:
    return lambda night: night.parts[name]


def _or_none(thing: Any, name: str) -> float | None:
    return getattr(thing, name) if thing is not None else None
