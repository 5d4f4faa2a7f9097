"""Nights to test with."""

from __future__ import annotations

from dataclasses import replace

from nightkiln.testing.market import Boot, Market, Night, shipped_market
from nightkiln.testing.market.samples import calm, starting_with
from nightkiln.testing.vast_market.server import night_of


def quiet_market() -> Market:
    """The ordinary market without bad luck: every start comes up, nothing is lost, no line lies."""
    market = starting_with(calm(shipped_market()), Boot.OK)
    network = replace(market.network, liar_share=0.0, true_share_low=0.99, true_share_high=1.0)
    startup = replace(market.startup, frozen_share=0.0)
    return replace(market, network=network, startup=startup)


def quiet_night(seed: int = 1) -> Night:
    """A night in which only that goes wrong which a test puts there."""
    return night_of(seed, market=quiet_market())
