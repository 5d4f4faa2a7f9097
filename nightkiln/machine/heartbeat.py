"""Signs of life to a machine, which ends itself when they stop."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable

from nightkiln.core.errors import WorkerLost
from nightkiln.machine.link import Link

BEAT_S_MAX = 60.0
BEATS_PER_QUIET = 5  # so many may be missed before the machine ends itself
RETRY_S = 5.0
REMAINING_S_MAX = 604_800  # the machine believes no more
SEQUENCE_MAX = 900_000_000  # the machine's arithmetic is a shell's
NO_BEAT = "the machine took no heartbeat for so long that it has ended itself"


class Heartbeat:
    """Tells one machine, again and again, that we live and how long it may."""

    def __init__(
        self,
        link: Link,
        *,
        expires_s: Callable[[], float],
        clock: Callable[[], float],
        quiet_s: float,
    ) -> None:
        self._link, self._expires_s, self._clock = link, expires_s, clock
        self._quiet_s = quiet_s
        self.every_s = min(BEAT_S_MAX, quiet_s / BEATS_PER_QUIET)

    async def keep_beating(self) -> None:
        """Beat until cancelled; only an error ends it.

        Raises:
            WorkerLost: no beat arrived for as long as the machine waits for one.
        """
        now_s = asyncio.get_running_loop().time
        sequence, heard_s = 0, now_s()
        while True:
            if not sequence:  # whoever was here before has counted so far
                sequence = await self._last_sequence()
            if sequence and await self._beat(sequence % SEQUENCE_MAX + 1):
                sequence, heard_s = sequence + 1, now_s()
            is_heard = heard_s >= now_s() - self.every_s
            if now_s() - heard_s >= self._quiet_s:
                raise WorkerLost(NO_BEAT)
            await asyncio.sleep(self.every_s if is_heard else min(RETRY_S, self.every_s))

    async def _last_sequence(self) -> int:
        """The number in the machine's file; 1 if there is none, 0 if nobody answers."""
        try:
            ran = await self._link.run("cat ~/.nightkiln/heartbeat 2>/dev/null", bytes_max=4096)
        except TimeoutError:
            return 0
        match = re.match(r"[1-9]\d{0,8}(?=\s)", ran.text, re.ASCII)
        return int(match.group()) if match else 1

    async def _beat(self, sequence: int) -> bool:
        """Whether the machine has taken it."""
        left_s = self._expires_s() - self._clock()
        left = min(REMAINING_S_MAX, max(0, math.floor(left_s)))
        # The whole file at once: a machine that reads half a number ends itself too early.
        command = (
            f"cd ~/.nightkiln && echo {sequence} {left} > heartbeat.new "
            "&& mv -f heartbeat.new heartbeat"
        )
        try:
            return (await self._link.run(command)).status == 0
        except TimeoutError:
            return False
