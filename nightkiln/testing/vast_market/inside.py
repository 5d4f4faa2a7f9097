"""A machine's body, told what happens one thing after the other."""

from __future__ import annotations

import asyncio
from enum import Enum

from nightkiln.testing.vast_market.body import Body, Disposable, Metered, Traffic


class Deed(Enum):
    """What can be done to a body."""

    START = "start"
    FREEZE = "freeze"
    THAW = "thaw"
    REBOOT = "reboot"
    STOP = "stop"
    DISCARD = "discard"


class Inside:
    """Does to a body what the market says, in order and without anybody waiting for it."""

    def __init__(self, body: Body) -> None:
        self.port: int | None = None  # of its SSH; None: not up, or not known yet
        self._body = body
        self._deeds: asyncio.Queue[Deed] = asyncio.Queue()
        self._task = asyncio.create_task(self._work())

    def do(self, deed: Deed) -> None:
        """Let it happen after all that was said before."""
        if deed in {Deed.REBOOT, Deed.STOP, Deed.DISCARD}:
            self.port = None
        self._deeds.put_nowait(deed)

    def traffic(self) -> Traffic | None:
        """What its body counted; None: it does not count."""
        return self._body.traffic() if isinstance(self._body, Metered) else None

    async def settled(self) -> None:
        """Until all that was said is done; at once if the body has failed."""
        done = asyncio.create_task(self._deeds.join())
        await asyncio.wait({done, self._task}, return_when=asyncio.FIRST_COMPLETED)
        done.cancel()

    async def close(self) -> None:
        """End it and throw its disk away.

        Raises:
            Exception: whatever the body raised; it is a mistake in the body.
        """
        if not self._task.done():
            self.do(Deed.DISCARD)
        await self.settled()
        if not self._task.done():
            self._task.cancel()
        [outcome] = await asyncio.gather(self._task, return_exceptions=True)
        if isinstance(outcome, Exception):
            await self._body.stop()
            raise outcome

    async def _work(self) -> None:
        while True:
            deed = await self._deeds.get()
            try:
                await self._do(deed)
            finally:
                self._deeds.task_done()

    async def _do(self, deed: Deed) -> None:
        body = self._body
        match deed:
            case Deed.START:
                self.port = await body.start()
            case Deed.REBOOT:
                self.port = await body.reboot()
            case Deed.FREEZE:
                await body.freeze()
            case Deed.THAW:
                await body.thaw()
            case Deed.STOP:
                await body.stop()
                self.port = None
            case Deed.DISCARD:
                await body.stop()
                self.port = None
                if isinstance(body, Disposable):
                    await body.discard()
