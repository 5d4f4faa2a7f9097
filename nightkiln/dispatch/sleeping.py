"""How long this computer has slept, which the clock of its event loop does not count."""

from __future__ import annotations

import time

SLEEP_S_MIN = 1.0  # two clocks are never read at the same moment: less than this is no sleep

# Linux stops its monotonic clock while it sleeps; elsewhere it is another one that is stopped.
_AWAKE, _ALWAYS = (
    (time.CLOCK_MONOTONIC, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    if not hasattr(time, "CLOCK_UPTIME_RAW")
    else (time.CLOCK_UPTIME_RAW, time.CLOCK_MONOTONIC)
)


def asleep_s() -> float:
    """Seconds of sleep since this computer was started."""
    return time.clock_gettime(_ALWAYS) - time.clock_gettime(_AWAKE)
