"""A GPU market that exists only in memory: seeded, slow to start, fond of taking machines back.

``params`` and ``reading`` hold the numbers of a market file; ``night`` draws everything that can
happen in one seeded night, purely; ``providers`` are the fronts that a batch is played against.
"""

from __future__ import annotations

from nightkiln.testing.market.night import AttemptTruth, Boot, Ending, Machine, Night, Stretch
from nightkiln.testing.market.params import Market
from nightkiln.testing.market.reading import SHIPPED, load_market, shipped_market

__all__ = [
    "SHIPPED",
    "AttemptTruth",
    "Boot",
    "Ending",
    "Machine",
    "Market",
    "Night",
    "Stretch",
    "load_market",
    "shipped_market",
]
