"""A market that runs beside code without an event loop, such as a command line under test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from nightkiln.testing.market.night import Night
from nightkiln.testing.vast_market.rules import Rules
from nightkiln.testing.vast_market.server import VastMarket

START_S_MAX = 30.0


@contextmanager
def beside(night: Night, rules: Rules) -> Iterator[VastMarket]:
    """A market in a thread of its own; what it knows may be read, nothing else."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="vast market", daemon=True)
    thread.start()
    market = VastMarket(night, rules=rules)
    try:
        asyncio.run_coroutine_threadsafe(market.__aenter__(), loop).result(START_S_MAX)
        yield market
    finally:
        closing = market.__aexit__(None, None, None)
        asyncio.run_coroutine_threadsafe(closing, loop).result(START_S_MAX)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_S_MAX)
        loop.close()
