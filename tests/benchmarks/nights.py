"""Nights in simulated markets: what the scheduler pays, beside what others would have paid.

All policies are played on the same nights. Ratios are ratios of means, and a night's unfinished
jobs are charged at the fallback's price. What is wanted is from the simulation that preceded the
scheduler; each figure's unit ends in the digest of the market file that it was played with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from nightkiln.core.model import Kind
from nightkiln.core.terms import Fallback, Late, Rules
from nightkiln.rehearse import Script, Stage, Summary, percentile, summary_of
from nightkiln.testing.market import SHIPPED, shipped_market
from tests.benchmarks.figure import Figure, at_least, at_most

HOURS = (8, 2, 1)
LUMP = 20
LEASES_MAX = 128
NIGHTS, NIGHTS_QUICK = 200, 6
NIGHTS_ELSEWHERE = 60  # in the other markets, and without single rules: seen in pairs
MET_MIN = 0.995  # 199 of 200
REGRET_MAX, REGRET_ELSEWHERE_MAX = 1.03, 1.10
ABLATED_MIN = 0.98  # without a rule it must not be cheaper by more than 2 %
BUDGET_NIGHTS, BUDGET_NIGHTS_QUICK = 20, 3
OURS = "ordinary"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of the ordinary market, by deadline."""

    clairvoyant: float
    half_known: float
    fallback: float
    hand_on_demand: float
    hand: float


WANTED: Mapping[int, Wanted] = {
    8: Wanted(1.30, 1.27, 0.13, 0.65, 0.88),
    2: Wanted(1.25, 1.20, 0.17, 0.65, 0.83),
    1: Wanted(1.25, 1.20, 0.21, 0.65, 0.75),
}
ABLATIONS: Mapping[str, Rules] = {
    "ranks_by_hour": Rules(ranks_by_hour=True),
    "ignores_starts": Rules(counts_start=False),
    "no_drop": Rules(drops=False),
    "no_swap": Rules(swaps=False),
    "no_learning": Rules(learns=False),
    "no_hedge": Rules(hedges=False),
}


def figures(*, is_quick: bool, count: int | None = None) -> Iterator[Figure]:
    """The ordinary market in full, the others in short, and each rule switched off.

    ``count``: so many nights of each instead of what is usual.
    """
    many, fewer = (NIGHTS_QUICK, NIGHTS_QUICK // 2) if is_quick else (NIGHTS, NIGHTS_ELSEWHERE)
    if count is not None:
        many, fewer = count, min(count, fewer)
    short = HOURS[-1:] if is_quick else HOURS
    with Stage() as stage:
        for hours in HOURS:
            yield from _Market(stage, OURS, hours, many).in_full()
        for hours in short:
            yield from _Market(stage, OURS, hours, fewer).ablated()
        for name in SHIPPED:
            for hours in short:
                market = _Market(stage, name, hours, fewer)
                if name != OURS:
                    yield from market.in_short()
                yield market.within_budget(BUDGET_NIGHTS_QUICK if is_quick else BUDGET_NIGHTS)


class _Market:
    """One market and deadline."""

    def __init__(self, stage: Stage, name: str, hours: int, nights: int) -> None:
        self._stage, self._hours, self._seeds = stage, hours, range(nights)
        self._script = Script(
            shipped_market(name),
            hours * 3600.0,
            lump=LUMP,
            leases_max=LEASES_MAX,
            late=Late.FINISH,
        )
        self._prefix = f"nights_{name}_{hours}h"
        self._digest = self._script.market.digest

    def in_full(self) -> Iterator[Figure]:
        cold, wanted = self._played(self._script, compares=True), WANTED[self._hours]
        yield from self._against_others(cold, wanted)
        half = self._played(replace(self._script, known_share=0.5))
        others = cold.baselines
        assert others is not None
        ratio = half.usd_per_1000 / others.usd_per_1000_clairvoyant
        yield self._at_most("over_clairvoyant_half_known", ratio, wanted.half_known)
        yield from self._met(cold)
        yield from self._regret(cold, REGRET_MAX)

    def in_short(self) -> Iterator[Figure]:
        cold = self._played(self._script, compares=True)
        yield from self._against_others(cold, None)
        yield from self._met(cold)
        yield from self._regret(cold, REGRET_ELSEWHERE_MAX)

    def ablated(self) -> Iterator[Figure]:
        """USD without a rule over USD with it, on the same nights."""
        whole = self._played(self._script)
        without = {name: replace(self._script, rules=rules) for name, rules in ABLATIONS.items()}
        without["no_fallback"] = replace(self._script, fallback=Fallback.NEVER)
        for name, script in without.items():
            played = self._played(script)
            ratio = played.usd_per_1000 / whole.usd_per_1000
            figure = f"{self._prefix}_{name}_over_all_rules"
            yield at_least(figure, ratio, self._unit("x"), ABLATED_MIN)
        yield self._plain("no_fallback_met", played.deadline_met_fraction, "of nights")

    def _played(self, script: Script, *, compares: bool = False) -> Summary:
        nights = self._stage.rehearsed(script, self._seeds, compares=compares)
        return summary_of(script, list(nights))

    def _against_others(self, cold: Summary, wanted: Wanted | None) -> Iterator[Figure]:
        others, usd = cold.baselines, cold.usd_per_1000
        assert others is not None
        yield self._plain("usd", usd, "USD per 1,000")
        yield self._plain("clairvoyant_tightness", others.tightness, "x")
        yield self._at_most(
            "over_clairvoyant",
            usd / others.usd_per_1000_clairvoyant,
            wanted.clairvoyant if wanted is not None else None,
        )
        yield self._at_most(
            "over_fallback_only",
            usd / others.usd_per_1000_fallback_only,
            wanted.fallback if wanted is not None else None,
        )
        for name, hand, most in (
            ("hand_on_demand", others.best_on_demand, wanted.hand_on_demand if wanted else None),
            ("hand", others.best_hand, wanted.hand if wanted else None),
        ):
            if hand is not None:
                yield self._at_most(f"over_{name}", usd / hand.usd_per_1000, most)
        yield self._plain("waste", cold.waste_fraction, "of the money")

    def _met(self, cold: Summary) -> Iterator[Figure]:
        """Of the nights on which the fallback alone would have been in time."""
        feasible = [night for night in cold.nights if night.seed in cold.feasible]
        if feasible:
            met = sum(night.is_met for night in feasible) / len(feasible)
            name = f"{self._prefix}_met_of_feasible"
            yield at_least(name, met, self._unit(f"of {len(feasible)} nights"), MET_MIN)

    def _regret(self, cold: Summary, most: float) -> Iterator[Figure]:
        """Against the better of renting on demand only and by bid only."""
        kinds = (Kind.ON_DEMAND, Kind.INTERRUPTIBLE)
        only = [self._played(replace(self._script, kinds=(kind,))).usd_per_1000 for kind in kinds]
        yield self._at_most("regret", cold.usd_per_1000 / min(only), most)

    def within_budget(self, nights: int) -> Figure:
        """Nights dearer than their budget, which is too small for half of them."""
        seeds = range(nights)
        rich = [
            one.played.usd for one in self._stage.rehearsed(self._script, seeds, compares=False)
        ]
        budget = Decimal(f"{percentile(rich, 0.5):.4f}")
        poor = replace(self._script, budget=budget, late=Late.STOP)
        found = summary_of(poor, list(self._stage.rehearsed(poor, seeds, compares=False)))
        return self._at_most("over_budget", found.over_budget, 0, f"of {nights} nights")

    def _at_most(self, name: str, value: float, most: float | None, unit: str = "x") -> Figure:
        if most is None:
            return self._plain(name, value, unit)
        return at_most(f"{self._prefix}_{name}", value, self._unit(unit), most)

    def _plain(self, name: str, value: float, unit: str) -> Figure:
        return Figure(f"{self._prefix}_{name}", value, self._unit(unit))

    def _unit(self, unit: str) -> str:
        return f"{unit} ({self._digest})"
