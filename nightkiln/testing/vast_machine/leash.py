"""Finds every process of a simulated machine by a mark in its environment, and ends it.

A machine detaches what it likes (the dead-man, ComfyUI, what is started over SSH), so a process
group would not hold it. A mark in the environment is inherited by all of it. Standard library only:
``python -I -S leash.py MARK`` waits for the end of its input, which comes when whoever started it
ends, however badly, and then ends everything that carries the mark.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "NIGHTKILN_SIMULATED_MACHINE"
ROUNDS_MAX = 500
ROUND_S = 0.01


def marked(mark: str) -> list[int]:
    """The ids of all living processes whose mark is ``mark`` or begins with it."""
    ids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in ids if _carries(pid, mark)]


def send(mark: str, number: signal.Signals) -> int:
    """Signal every process that carries ``mark``; how many there were."""
    return sum(_signalled(pid, mark, number) for pid in marked(mark))


def end(mark: str) -> None:
    """Kill every process that carries ``mark``, and those that they start meanwhile.

    Raises:
        RuntimeError: some are still there after all rounds.
    """
    for _ in range(ROUNDS_MAX):
        if not send(mark, signal.SIGKILL):
            return
        time.sleep(ROUND_S)  # a killed process needs a moment to be gone
    raise RuntimeError(f"processes of {mark} do not end: {marked(mark)}")


def _carries(pid: int, mark: str) -> bool:
    wanted = f"{VARIABLE}={mark}".encode()
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it has ended, or is somebody else's
        return False
    return any(entry.startswith(wanted) for entry in environment.split(b"\0"))


def _signalled(pid: int, mark: str, number: signal.Signals) -> bool:
    with _handle(pid) as handle:
        # Looked at again behind the handle: the id may belong to a stranger by now.
        if handle is None or not _carries(pid, mark):
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
        return True


@contextlib.contextmanager
def _handle(pid: int) -> Iterator[int | None]:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def main() -> None:
    """Wait until nobody holds the other end of the input, then end all that is marked."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for whoever holds the leash
    sys.stdin.buffer.read()
    end(sys.argv[1])


if __name__ == "__main__":
    main()
