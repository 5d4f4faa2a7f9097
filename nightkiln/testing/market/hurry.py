"""The same night by a faster clock, for whoever watches it in real time."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TypeVar

from nightkiln.testing.market.params import Market

# Names say their unit, and the unit says what a faster clock makes of a number. First match.
MORE = ("_per_h", "usd_h", "usd_gb_month", "mbps_median")  # rates: more of it per hour
LESS = ("_s", "_h", "_hours", "seconds_per_job")  # durations
TABLES = (
    "price",
    "network",
    "startup",
    "failure",
    "hazard",
    "availability",
    "fallback",
    "api",
    "offline",
)

T = TypeVar("T")


def hurried(market: Market, times: float) -> Market:
    """A market in which all happens so many times faster and costs the same per job.

    What is drawn from it is the same night; the start of a region's outage is a share of the
    deadline as ever.
    """
    assert times > 0
    tables = {name: _faster(getattr(market, name), times) for name in TABLES}
    classes = {name: _faster(one, times) for name, one in market.classes.items()}
    regions = replace(market.regions, outage_hours=market.regions.outage_hours / times)
    return replace(market, **tables, classes=classes, regions=regions)


def _faster(table: T, times: float) -> T:
    changed = {}
    for item in fields(table):  # type: ignore[arg-type]  # every table is a dataclass
        value = getattr(table, item.name)
        if item.name.endswith(MORE):
            changed[item.name] = value * times
        elif item.name.endswith(LESS):
            changed[item.name] = value / times
    return replace(table, **changed)  # type: ignore[type-var]
