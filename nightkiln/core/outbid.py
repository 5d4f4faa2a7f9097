"""How often a bid loses its machine: by GPU class, and by the time of day.

Level and shape are learned apart, for they change at different paces:

- the *level* of a class is a gamma posterior over hours of experience, all classes together being
  its prior. It is of these days' market: of yesterday's experience half is left.
- the *shape* of the day says how much more often than that a bid loses in one part of the day. It
  is a factor with a gamma posterior around 1, all classes together again being the prior of each,
  and is remembered for weeks. Only the contrast between parts of the day teaches it: nights that
  all ran at one time, or that lost nothing, leave it at 1, and the level is all there is.

The day has eight parts of three hours. Demand rises and falls over several hours, so parts of one
hour would say little more, from a third of the experience each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import TypeAlias

from nightkiln.core.priors import Priors

DAY_S = 86400.0
PARTS = 8
PART_S = DAY_S / PARTS
# Losses that the belief in a flat day is worth: with so many expected in one part, what was seen
# there and the belief count the same. A part would have to differ by half to show in fewer.
FLAT_WEIGHT = 4.0
CLASS_WEIGHT_H = 3.0  # hours of experience that the pooled level is worth to one class
ALL = ""  # the key under which all classes are pooled

Shape: TypeAlias = tuple[float, ...]  # a factor for each part of the day
FLAT: Shape = (1.0,) * PARTS
ZERO: Shape = (0.0,) * PARTS


@dataclass(slots=True)
class Rate:
    """Events over hours of exposure."""

    events: float = 0.0
    hours: float = 0.0


@dataclass(frozen=True, slots=True)
class DayRates:
    """Losses, and hours of experience, in each part of a UTC day."""

    events: tuple[float, ...] = ZERO
    hours: tuple[float, ...] = ZERO

    def __post_init__(self) -> None:
        assert len(self.events) == len(self.hours) == PARTS

    def plus(self, hours: tuple[float, ...], lost_in: int | None) -> DayRates:
        """The same and one lease more, lost in a part of the day or (None) given back."""
        more = tuple(seen + own for seen, own in zip(self.hours, hours, strict=True))
        lost = tuple(seen + (part == lost_in) for part, seen in enumerate(self.events))
        return DayRates(lost, more)

    def scaled(self, share: float) -> DayRates:
        """The same rates, from a share of the experience."""
        return DayRates(
            tuple(each * share for each in self.events), tuple(each * share for each in self.hours)
        )

    def shape(self, prior: Shape) -> Shape:
        """How each part differs from the level of all; ``prior`` where too little is known."""
        losses = sum(self.events)
        usual_h = sum(hours * factor for hours, factor in zip(self.hours, prior, strict=True))
        if losses <= 0 or usual_h <= 0:
            return prior
        level = losses / usual_h
        return tuple(
            factor * (events + FLAT_WEIGHT) / (level * factor * hours + FLAT_WEIGHT)
            for events, hours, factor in zip(self.events, self.hours, prior, strict=True)
        )


class Outbid:
    """What is expected of bids. ``rates`` and ``by_day`` are learned into, by class.

    ``midnight_s`` is a UTC midnight on the clock of ``Tick``; without it times of day are not told
    apart.
    """

    def __init__(
        self,
        priors: Priors,
        rates: dict[str, Rate],
        by_day: dict[str, DayRates],
        midnight_s: float | None,
    ) -> None:
        self._priors, self._rates, self._by_day = priors, rates, by_day
        self._midnight_s = midnight_s
        self._ahead: Shape | None = None  # which share of the time ahead lies in each part
        self._open_h: dict[str, float] = {}  # of leases that are ours still
        self._shapes: dict[str, Shape] = {}  # as worked out since the last lease that ended

    def per_h(self, gpu: str) -> float:
        """Expected losses per hour of a class, over the time ahead."""
        level, shape = self._level(gpu)[0], self._shape(gpu)
        if self._ahead is None or shape is FLAT:
            return level
        return level * sum(share * each for share, each in zip(self._ahead, shape, strict=True))

    def look_ahead(self, now_s: float, left_s: float) -> None:
        """From now on the time ahead is the next ``left_s`` seconds."""
        if self._midnight_s is not None and left_s > 0:
            from_s, span_s = now_s - self._midnight_s, min(left_s, DAY_S)
            seconds = seconds_by_part(from_s, from_s + span_s)
            self._ahead = tuple(each / span_s for each in seconds)

    def look_at(self, still_ours: Iterable[tuple[str, float]]) -> None:
        """Count the hours (by class) of leases that have not ended, too.

        Else only those that were lost early would be known at first.
        """
        self._open_h = {}
        for gpu, hours in still_ours:
            for key in (ALL, gpu):
                self._open_h[key] = self._open_h.get(key, 0.0) + hours

    def held(self, gpu: str, hours: float, *, was_lost: bool, until_s: float | None) -> None:
        """A lease by bid was ours for ``hours``, until ``until_s``, and then lost or not.

        What a part of the day explains does not raise the level: an hour in which twice as many
        losses are usual counts as two.
        """
        for key, shape in [(key, self._shape(key)) for key in (ALL, gpu)]:
            spent_h = hours
            if self._midnight_s is not None and until_s is not None:
                ends_s = until_s - self._midnight_s
                seconds = seconds_by_part(ends_s - hours * 3600, ends_s)
                in_parts = tuple(each / 3600 for each in seconds)
                lost_in = part_of_day(ends_s) if was_lost else None
                self._by_day[key] = self._by_day.get(key, DayRates()).plus(in_parts, lost_in)
                if shape is not FLAT:
                    spent_h = sum(own * each for own, each in zip(in_parts, shape, strict=True))
            rate = self._rates.setdefault(key, Rate())
            rate.hours += spent_h
            rate.events += was_lost
        self._shapes.clear()

    def doubt(self, gpu: str) -> float:
        """Standard deviation of the level, as a share of it: of a gamma, one over sqrt(events)."""
        return 1 / sqrt(self._level(gpu)[1])

    def _level(self, gpu: str) -> tuple[float, float]:
        """Losses per hour, and from how many, those that the prior is worth included."""
        weight, open_h = self._priors.outbid_weight_h, self._open_h
        pooled, own = self._rates.get(ALL, Rate()), self._rates.get(gpu, Rate())
        hours = pooled.hours + open_h.get(ALL, 0.0) + weight
        every = (pooled.events + self._priors.outbid_per_h * weight) / hours
        own_h = own.hours + open_h.get(gpu, 0.0) + CLASS_WEIGHT_H
        events = own.events + every * CLASS_WEIGHT_H
        return events / own_h, events

    def _shape(self, gpu: str) -> Shape:
        known = self._shapes.get(gpu)
        if known is None:
            prior = FLAT if gpu == ALL else self._shape(ALL)
            known = self._shapes[gpu] = self._by_day.get(gpu, DayRates()).shape(prior)
        return known


def part_of_day(at_s: float) -> int:
    """The part of the day in which a time lies, counted in seconds from a UTC midnight."""
    return int(at_s % DAY_S // PART_S) % PARTS


def seconds_by_part(from_s: float, until_s: float) -> tuple[float, ...]:
    """How many seconds between two times, counted from a UTC midnight, lie in each part."""
    days, rest_s = divmod(max(0.0, until_s - from_s), DAY_S)
    seconds, first_s = [days * PART_S] * PARTS, from_s % DAY_S
    for part in range(2 * PARTS):
        ends_s = min(first_s + rest_s, (part + 1) * PART_S)
        seconds[part % PARTS] += max(0.0, ends_s - max(first_s, part * PART_S))
    return tuple(seconds)
