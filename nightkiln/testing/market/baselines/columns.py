"""Every way to use a stretch that can be worth it, for somebody who knows how it will go."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from nightkiln.core.model import Kind
from nightkiln.testing.market.baselines.rental import S_PER_HOUR, rented
from nightkiln.testing.market.night import Boot, Night, Stretch

CELL_S = 120.0  # the grid of rental moments, where waiting can pay


class Column(NamedTuple):
    """One stretch, rented at its best moment as one kind."""

    usd_fixed: float  # once, before the first job
    usd_per_job: float
    jobs_max: float  # by the deadline, or until it dies

    def usd(self, jobs: float) -> float:
        """What ``jobs`` of them cost, a part of a job counted as that part."""
        return self.usd_fixed + self.usd_per_job * jobs

    @property
    def usd_per_job_whole(self) -> float:
        """USD per job if it is used to the full: it is never cheaper."""
        return self.usd_per_job + self.usd_fixed / self.jobs_max


def columns(
    night: Night, stretch: Stretch, deadline_s: float, kinds: Sequence[Kind], *, may_round: bool
) -> list[Column]:
    """The ways to use ``stretch``; of those at one price only the one with the most jobs.

    With ``may_round`` a death counts as at the end of its cell of rental moments, so that
    ``jobs_max`` is never too small; else only the cells' first moments are rented at.
    """
    if stretch.boot is not Boot.OK:
        return []
    best: dict[tuple[Kind, float], Column] = {}
    for kind in kinds:
        for start_s, end_s in _cells(night, stretch, deadline_s, kind):
            rental = rented(night, stretch, kind, start_s)
            dies_s = night.death_s(stretch, kind, end_s) if may_round else rental.dies_s
            life_s = min(deadline_s, dies_s) - start_s
            jobs_max = (life_s - stretch.startup_s) / stretch.s_per_job
            key = (kind, rental.usd_per_s)
            if jobs_max > 0 and (key not in best or best[key].jobs_max < jobs_max):
                best[key] = Column(rental.usd_fixed, rental.usd_per_job, jobs_max)
    return list(best.values())


def _cells(
    night: Night, stretch: Stretch, deadline_s: float, kind: Kind
) -> Iterator[tuple[float, float]]:
    """Where the best rental moment can lie: spans of one price, as first and last moment.

    A lease that starts later is only shorter, so that a span's first moment will do, unless it
    starts while leases are outbid faster than they will be later: such spans are cut finely.
    """
    start_s, last_s = max(0.0, stretch.listed_s), min(stretch.gone_s, deadline_s)
    edges = [edge_s for edge_s in _edges_s(night) if start_s < edge_s < last_s]
    for from_s, to_s in pairwise([start_s, *edges, last_s] if start_s < last_s else []):
        if kind is Kind.ON_DEMAND or not _is_fierce(night, from_s):
            yield from_s, from_s
            continue
        cells = math.ceil((to_s - from_s) / CELL_S)
        moments = [from_s + CELL_S * cell for cell in range(cells)]
        yield from pairwise([*moments, to_s])


def _edges_s(night: Night) -> list[float]:
    """When prices or hazards change, in order."""
    price = night.market.price
    spike = (price.spike_from_h * S_PER_HOUR, price.spike_to_h * S_PER_HOUR)
    outage = night.outage
    dark = (outage.window.from_s, outage.window.to_s) if outage is not None else ()
    return sorted({*spike, *dark})


def _is_fierce(night: Night, at_s: float) -> bool:
    """Whether being outbid is likelier at ``at_s`` than at other times of the night."""
    price = night.market.price
    if price.spike_from_h < 0 or price.spike_outbid_mult == 1:
        return False
    is_spike = price.spike_from_h * S_PER_HOUR <= at_s < price.spike_to_h * S_PER_HOUR
    return is_spike == (price.spike_outbid_mult > 1)
