"""All baselines over the same nights: what benchmarks and ``rehearse --compare`` print.

``night_baselines`` is one night, so that nights can be spread over processes; ``summary`` puts
them together. Figures are ratios of means over nights, never means of ratios.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nightkiln.core.model import Kind
from nightkiln.testing.market.baselines.by_hand import Hand, grid, play_by_hand
from nightkiln.testing.market.baselines.clairvoyant import clairvoyant_bound, clairvoyant_plan
from nightkiln.testing.market.baselines.fallback_only import fallback_only
from nightkiln.testing.market.baselines.rental import S_PER_HOUR, Outcome
from nightkiln.testing.market.night import Night
from nightkiln.testing.market.params import Market

MET_SHARE_MIN = 0.99  # only a hand that makes so many deadlines may be the best one
JOBS_PER_FIGURE = 1000


@dataclass(frozen=True, slots=True)
class NightBaselines:
    """One night under every baseline."""

    seed: int
    fallback_only: Outcome
    clairvoyant_usd: float  # the bound
    plan_usd: float  # of somebody clairvoyant who has to make do with a real plan
    hands: Mapping[Hand, Outcome]


@dataclass(frozen=True, slots=True)
class HandFigures:
    """One point of the grid over all nights."""

    hand: Hand
    usd_per_1000: float
    met_share: float
    leases: float  # mean


@dataclass(frozen=True, slots=True)
class Baselines:
    """What a policy is measured against, for one market and one deadline."""

    market: str
    digest: str  # of the market file
    deadline_s: float
    nights: int
    usd_per_1000_fallback_only: float
    feasible_share: float  # nights that the fallback alone would finish in time
    usd_per_1000_clairvoyant: float
    tightness: float  # a clairvoyant's real plan / the bound
    hands: tuple[HandFigures, ...]  # the whole grid

    @property
    def best_on_demand(self) -> HandFigures | None:
        """The cheapest on-demand hand in hindsight; None: none makes the deadline."""
        return _cheapest(one for one in self.hands if one.hand.kind is Kind.ON_DEMAND)

    @property
    def best_hand(self) -> HandFigures | None:
        """The cheapest hand of either kind in hindsight."""
        return _cheapest(self.hands)


def night_baselines(
    night: Night, deadline_s: float, *, hands: Sequence[Hand] | None = None
) -> NightBaselines:
    """``night`` under every baseline; ``hands`` narrows the grid."""
    played = grid(night.market) if hands is None else hands
    return NightBaselines(
        seed=night.seed,
        fallback_only=fallback_only(night, deadline_s),
        clairvoyant_usd=clairvoyant_bound(night, deadline_s).usd,
        plan_usd=clairvoyant_plan(night, deadline_s).usd,
        hands=play_by_hand(night, played, deadline_s),
    )


def baselines(
    market: Market, deadlines_s: Iterable[float], seeds: Sequence[int]
) -> tuple[Baselines, ...]:
    """Every baseline over the nights of ``seeds``, for each deadline."""
    return tuple(
        summary(
            market,
            deadline_s,
            [night_baselines(drawn(market, seed, deadline_s), deadline_s) for seed in seeds],
        )
        for deadline_s in deadlines_s
    )


def drawn(market: Market, seed: int, deadline_s: float) -> Night:
    """The night of ``seed`` as far as a baseline looks: no lease begins after the deadline.

    A night that is drawn further is the same up to there.
    """
    return Night(market, seed=seed, horizon_s=deadline_s, deadline_s=deadline_s)


def summary(market: Market, deadline_s: float, nights: Sequence[NightBaselines]) -> Baselines:
    """Means over ``nights``, all played with the same hands."""
    assert nights, "a table of no nights"

    def mean(figure: Callable[[NightBaselines], float]) -> float:
        return math.fsum(map(figure, nights)) / len(nights)

    per_1000 = JOBS_PER_FIGURE / market.batch.jobs
    bound_usd = mean(lambda night: night.clairvoyant_usd)
    return Baselines(
        market=market.name,
        digest=market.digest,
        deadline_s=deadline_s,
        nights=len(nights),
        usd_per_1000_fallback_only=per_1000 * mean(lambda night: night.fallback_only.usd),
        feasible_share=mean(lambda night: night.fallback_only.is_met),
        usd_per_1000_clairvoyant=per_1000 * bound_usd,
        tightness=mean(lambda night: night.plan_usd) / bound_usd,
        hands=tuple(
            _figures(hand, [night.hands[hand] for night in nights], per_1000)
            for hand in nights[0].hands
        ),
    )


def as_text(table: Baselines) -> str:
    """The table for people, with the whole grid; a star marks the best in hindsight."""
    return "\n".join(_lines(table))


def _lines(table: Baselines) -> Iterator[str]:
    yield (
        f"market {table.market} ({table.digest}), deadline {table.deadline_s / S_PER_HOUR:g} h,"
        f" {table.nights} nights; USD per {JOBS_PER_FIGURE}"
    )
    yield (
        f"fallback only {table.usd_per_1000_fallback_only:.3f}"
        f" (feasible {table.feasible_share:.3f});"
        f" clairvoyant bound {table.usd_per_1000_clairvoyant:.3f}"
        f" (tightness {table.tightness:.4f})"
    )
    best = (table.best_on_demand, table.best_hand)
    for one in table.hands:
        mark = "*" if one in best else " "
        yield (
            f"{mark} {one.usd_per_1000:8.3f}  met {one.met_share:5.3f}"
            f"  leases {one.leases:5.1f}  {one.hand}"
        )


def _figures(hand: Hand, outcomes: Sequence[Outcome], per_1000: float) -> HandFigures:
    nights = len(outcomes)
    return HandFigures(
        hand=hand,
        usd_per_1000=per_1000 * math.fsum(outcome.usd for outcome in outcomes) / nights,
        met_share=sum(outcome.is_met for outcome in outcomes) / nights,
        leases=sum(outcome.leases for outcome in outcomes) / nights,
    )


def _cheapest(hands: Iterable[HandFigures]) -> HandFigures | None:
    in_time = (one for one in hands if one.met_share >= MET_SHARE_MIN)
    return min(in_time, key=lambda one: one.usd_per_1000, default=None)
