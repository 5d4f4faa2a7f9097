"""What a scheduler is measured against on the same nights; fixed, so that it can't be weakened.

(a) ``fallback_only``: the fallback alone, started at once. (b) ``play_by_hand``: N cheapest by
the hour, what dies replaced; the best point of the ``grid`` in hindsight. (c)
``clairvoyant_bound``: what nobody can beat. ``baselines`` gives all of them as a table.

All three see the batch as fluid: jobs can be divided, and a machine never waits for one.
"""

from nightkiln.testing.market.baselines.by_hand import Hand, grid, play_by_hand
from nightkiln.testing.market.baselines.clairvoyant import (
    Bound,
    Plan,
    clairvoyant_bound,
    clairvoyant_plan,
)
from nightkiln.testing.market.baselines.fallback_only import fallback_only, is_feasible
from nightkiln.testing.market.baselines.rental import Bill, Outcome
from nightkiln.testing.market.baselines.table import (
    Baselines,
    HandFigures,
    NightBaselines,
    as_text,
    baselines,
    drawn,
    night_baselines,
    summary,
)

__all__ = [
    "Baselines",
    "Bill",
    "Bound",
    "Hand",
    "HandFigures",
    "NightBaselines",
    "Outcome",
    "Plan",
    "as_text",
    "baselines",
    "clairvoyant_bound",
    "clairvoyant_plan",
    "drawn",
    "fallback_only",
    "grid",
    "is_feasible",
    "night_baselines",
    "play_by_hand",
    "summary",
]
