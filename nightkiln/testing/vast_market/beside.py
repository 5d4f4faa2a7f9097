"""A market that runs beside code without an event loop, such as a command line under test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from nightkiln.testing.market.night import Night
from nightkiln.testing.vast_market.calls import Request
from nightkiln.testing.vast_market.rules import Rules
from nightkiln.testing.vast_market.server import VastMarket
from nightkiln.testing.vast_market.truth import LedgerRow, MachineRow

START_S_MAX = 30.0
READ_S_MAX = 30.0

T = TypeVar("T")


class Beside:
    """A market in a thread of its own, as far as another thread may ask it."""

    def __init__(self, market: VastMarket, loop: asyncio.AbstractEventLoop) -> None:
        self._market, self._loop = market, loop

    @property
    def url(self) -> str:
        """Address of the service."""
        return self._market.url

    @property
    def key(self) -> str:
        """What opens it."""
        return self._market.key

    @property
    def requests(self) -> Sequence[Request]:
        """Every request so far, the market's own calls excepted."""
        return self._market.requests

    def machines(self) -> list[MachineRow]:
        """Every contract there ever was, as it truly is."""
        return self._read(self._market.machines)

    def ledger(self) -> list[LedgerRow]:
        """What every contract has truly cost."""
        return self._read(self._market.ledger)

    def _read(self, ask: Callable[[], T]) -> T:
        """In the market's own thread: to look is to let its story come as far as its clock."""

        async def read() -> T:
            return ask()

        return asyncio.run_coroutine_threadsafe(read(), self._loop).result(READ_S_MAX)


@contextmanager
def beside(night: Night, rules: Rules) -> Iterator[Beside]:
    """A market in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="vast market", daemon=True)
    thread.start()
    market = VastMarket(night, rules=rules)
    try:
        asyncio.run_coroutine_threadsafe(market.__aenter__(), loop).result(START_S_MAX)
        yield Beside(market, loop)
    finally:
        closing = market.__aexit__(None, None, None)
        asyncio.run_coroutine_threadsafe(closing, loop).result(START_S_MAX)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_S_MAX)
        loop.close()
