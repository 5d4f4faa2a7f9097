"""Baseline (b): somebody who picks N machines by the hour and replaces what dies.

Exact: jobs are fluid, so the work left falls linearly between two events (a machine becomes
ready, dies, is given up or is found), and only events are stepped through. Nothing is rounded
to a time step.
"""

from __future__ import annotations

import heapq
import itertools
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from nightkiln.core.model import Kind
from nightkiln.testing.market.baselines.fallback_only import (
    attempts,
    fewest_containers,
    jobs_doable,
)
from nightkiln.testing.market.baselines.rental import (
    RENTED_KINDS,
    Bill,
    Outcome,
    Rental,
    rented,
)
from nightkiln.testing.market.night import Boot, Night, Stretch
from nightkiln.testing.market.params import Market

MACHINES = (1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64)
BOOT_LIMIT_S = 25 * 60.0  # who is not up by then is given up, also one that would have come
LATE_WITHIN_S = 3600.0  # what the deadline cut off is finished by as few containers as can


@dataclass(frozen=True, slots=True)
class Hand:
    """A rule that somebody without a scheduler could follow."""

    machines: int  # kept rented until the work is done
    kind: Kind
    gpu: str | None = None  # the cheapest of this class only; None: of all

    def __str__(self) -> str:
        return f"{self.machines} cheapest {self.gpu or 'of any class'}, {self.kind}"


def grid(market: Market) -> tuple[Hand, ...]:
    """Every hand that is played: any N, any class or all, either kind."""
    choices = (None, *(name.replace("_", " ") for name in market.classes))
    return tuple(
        Hand(machines, kind, gpu)
        for kind in RENTED_KINDS
        for gpu in choices
        for machines in MACHINES
    )


def play_by_hand(night: Night, hands: Iterable[Hand], deadline_s: float) -> Mapping[Hand, Outcome]:
    """The night under each of ``hands``; what is left at the deadline goes to the fallback."""
    shelves: dict[tuple[Kind, str | None], _Shelf] = {}
    outcomes = {}
    for hand in hands:
        key = (hand.kind, hand.gpu)
        if key not in shelves:
            shelves[key] = _Shelf(night, *key)
        outcomes[hand] = _Play(night, shelves[key], deadline_s).play(hand.machines)
    return outcomes


class _Shelf:
    """What a hand looks at: stretches by USD per hour, cheapest first."""

    def __init__(self, night: Night, kind: Kind, gpu: str | None) -> None:
        def usd_h(stretch: Stretch) -> tuple[float, str]:
            gpu_usd_h = night.gpu_usd_h(stretch, kind, stretch.listed_s)
            return gpu_usd_h + stretch.storage_usd_h, stretch.ref

        self.kind = kind
        self._ranked = sorted((s for s in night.stretches if gpu in (None, s.gpu)), key=usd_h)
        self._listings_s = sorted(stretch.listed_s for stretch in self._ranked)

    def cheapest(self, count: int, at_s: float, *, unwanted: set[str]) -> list[Stretch]:
        """At most ``count`` of those listed at ``at_s``, none of an ``unwanted`` machine."""
        listed = (
            stretch
            for stretch in self._ranked
            if stretch.listed_s <= at_s < stretch.gone_s and stretch.machine not in unwanted
        )
        return list(itertools.islice(listed, count))

    def next_listing_s(self, after_s: float) -> float:
        index = bisect_right(self._listings_s, after_s)
        return self._listings_s[index] if index < len(self._listings_s) else math.inf


class _Change(NamedTuple):
    """What happens next: so much speed gained or lost, so many machines to find."""

    at_s: float
    number: int  # of equals the first made comes first
    rate: float = 0.0  # jobs per second
    wanted: int = 0


class _Play:
    """One night under one hand."""

    def __init__(self, night: Night, shelf: _Shelf, deadline_s: float) -> None:
        self._night = night
        self._shelf = shelf
        self._deadline_s = deadline_s
        self._now_s = 0.0
        self._left = attempts(night.market)
        self._rate = 0.0
        self._wanted = 0
        self._rentals: list[tuple[Rental, float]] = []  # and when it is over, if not before
        self._used: set[str] = set()  # a machine is rented once a night
        self._changes: list[_Change] = []
        self._numbers = itertools.count()

    def play(self, machines: int) -> Outcome:
        self._at(0.0, wanted=machines)
        while self._changes and self._changes[0].at_s < self._deadline_s:
            change = heapq.heappop(self._changes)
            if self._work_until(change.at_s):
                return self._outcome()
            self._rate += change.rate
            self._wanted += change.wanted
            if self._wanted:
                self._rent()
        self._work_until(self._deadline_s)
        return self._outcome()

    def _work_until(self, until_s: float) -> bool:
        """Let the ready machines render; whether that finishes the batch."""
        done = self._rate * (until_s - self._now_s)
        if done < self._left:
            self._left -= done
            self._now_s = until_s
            return False
        self._now_s += self._left / self._rate
        self._left = 0.0
        return True

    def _rent(self) -> None:
        found = self._shelf.cheapest(self._wanted, self._now_s, unwanted=self._used)
        for stretch in found:
            self._used.add(stretch.machine)
            self._follow(rented(self._night, stretch, self._shelf.kind, self._now_s))
        self._wanted -= len(found)
        if self._wanted:
            self._at(self._shelf.next_listing_s(self._now_s))

    def _follow(self, rental: Rental) -> None:
        """Schedule what becomes of a machine that was just rented."""
        over_s, seen_s = self._end(rental)
        self._rentals.append((rental, over_s))
        if rental.ready_s < over_s:
            self._at(rental.ready_s, rate=1 / rental.stretch.s_per_job)
            self._at(over_s, rate=-1 / rental.stretch.s_per_job)
        self._at(seen_s, wanted=1)

    def _end(self, rental: Rental) -> tuple[float, float]:
        """When it costs nothing more, and when it is seen that another is needed."""
        detect_s = self._night.market.hazard.detect_s
        dies_s = rental.dies_s
        if rental.stretch.boot is Boot.EARLY:
            dies_s = min(dies_s, rental.rented_s + rental.stretch.boot_fails_s)
        given_up_s = rental.rented_s + BOOT_LIMIT_S
        if rental.ready_s > given_up_s and dies_s + detect_s > given_up_s:
            return min(dies_s, given_up_s), given_up_s
        return dies_s, dies_s + detect_s

    def _at(self, at_s: float, *, rate: float = 0.0, wanted: int = 0) -> None:
        if at_s < self._deadline_s:
            heapq.heappush(self._changes, _Change(at_s, next(self._numbers), rate, wanted))

    def _outcome(self) -> Outcome:
        market = self._night.market
        share = jobs_doable(market) / attempts(market)
        bill = Bill()
        for rental, over_s in self._rentals:
            bill += rental.bill(min(over_s, self._now_s), delivered_share=share)
        lost = sum(over_s < self._now_s for _, over_s in self._rentals)
        finish_s, is_met = self._now_s, self._left == 0
        if not is_met:
            fleet = fewest_containers(self._night, self._left, within_s=LATE_WITHIN_S)
            bill += Bill(fallback=fleet.usd(self._left))
            finish_s += fleet.finish_s(self._left)
        return Outcome(bill, finish_s, is_met, len(self._rentals), lost)
