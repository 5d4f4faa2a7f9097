"""Processes that outlive the command that starts them, and are known again by the next one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path

from nightkiln.room.book import Started
from nightkiln.store.processes import Process, is_alive, process_of

MARK = "NIGHTKILN_ROOM"  # in the environment of everything that belongs to a room
FLOW_RUN = "PREFECT__FLOW_RUN_ID"  # in the environment of a flow run's process
LOOK_EVERY_S = 0.1
_PROC = Path("/proc")


def start(
    command: list[str], environment: Mapping[str, str], *, log: Path, folder: Path
) -> Started:
    """Start what stays: in a session of its own, so that it survives the terminal.

    With the signals as they are by default: a Prefect worker that inherits an ignored SIGINT, as
    from a shell script that puts it into the background, never ends.
    """
    to_log = (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with chdir(folder):
        pid = os.posix_spawn(
            command[0],
            command,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                to_log,
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
        )
    return Started(process_of(pid), str(log), time.time())


def tell(process: Process, number: signal.Signals) -> bool:
    """Send a signal to this very process; False: it is gone, and who has its number hears none.

    The kernel is asked to hold the process before it is looked at: no other one comes between.
    """
    try:
        held = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if not is_alive(process):
            return False
        signal.pidfd_send_signal(held, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(held)
    return True


def has_ended(process: Process) -> bool:
    """Whether it is over; a child of ours is let go of, or it would stay in the list for ever."""
    with suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    return not is_alive(process)


def end(process: Process, *, within_s: float) -> None:
    """Ask it to end, and make it if it does not in time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        tell(process, number)
        if wait_until(lambda: has_ended(process), within_s=within_s):
            return


def wait_until(holds: Callable[[], object], *, within_s: float) -> bool:
    """Whether it held in time; other people's processes give no sign, so it is looked at often."""
    until_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() >= until_s:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


@dataclass(frozen=True, slots=True)
class Found:
    """A process of a room, found by the mark in its environment."""

    process: Process
    part: str  # "server" or "worker": whose descendant it is
    flow_run: str  # the flow run that it executes; "" for none

    @property
    def is_leader(self) -> bool:
        """Whether it is what was started, and no descendant."""
        with suppress(OSError):
            return os.getsid(self.process.pid) == self.process.pid and not self.flow_run
        return False


def found(mark: str) -> list[Found]:
    """Every process of the room with this mark, whoever started it and whether or not he lives."""
    return list(_found(mark))


def _found(mark: str) -> Iterator[Found]:
    for folder in _PROC.glob("[0-9]*"):
        process = process_of(int(folder.name))
        try:
            told = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # gone meanwhile, or another user's
        pairs = dict(line.decode(errors="replace").partition("=")[::2] for line in told)
        whose, _, part = pairs.get(MARK, "").partition(":")
        if whose == mark and process.mark:
            yield Found(process, part, pairs.get(FLOW_RUN, ""))
