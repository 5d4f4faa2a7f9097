"""The simulated market as an HTTP service that the real ``vastai`` SDK drives.

``exchange`` holds the state and ``lifecycle`` what happens to machines; ``front`` answers requests
through ``rentals``, ``account`` and ``admin``; ``body`` is the seam for what is behind a rented
machine. Driven by the same ``Night`` as the in-process front.
"""

from __future__ import annotations

from nightkiln.testing.vast_market.body import Bare, Bodies, Body, Box, Metered, Traffic
from nightkiln.testing.vast_market.calls import Request
from nightkiln.testing.vast_market.fault_table import FAULTS
from nightkiln.testing.vast_market.invariants import Truth, broken_promises
from nightkiln.testing.vast_market.rules import KEY, LimitStyle, Rules
from nightkiln.testing.vast_market.server import VastMarket, night_of

__all__ = [
    "FAULTS",
    "KEY",
    "Bare",
    "Bodies",
    "Body",
    "Box",
    "LimitStyle",
    "Metered",
    "Request",
    "Rules",
    "Traffic",
    "Truth",
    "VastMarket",
    "broken_promises",
    "night_of",
]
