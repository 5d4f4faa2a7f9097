"""Which process this is, and whether another one can be proven dead."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process, so named that no other one is taken for it, now or after a restart."""

    host: str
    pid: int
    place: str  # kernel start and pid namespace: where the pid means something; "" if unknown
    mark: str  # when the process started, in clock ticks of its kernel; "" if unknown


def this_process() -> Process:
    """The process that asks."""
    return process_of(os.getpid())


def process_of(pid: int) -> Process:
    """The process that has this number now; without a mark if there is none."""
    return Process(host=socket.gethostname(), pid=pid, place=_place(), mark=_start_mark(pid))


def is_alive(process: Process) -> bool:
    """Whether it is verifiably ``process`` that runs here under its number, and no later one."""
    return bool(process.place and process.mark) and process_of(process.pid) == process


def is_dead(process: Process) -> bool:
    """Whether ``process`` is verifiably gone; False whenever that cannot be told from here.

    Two containers may share a host's name and each have a pid 1, so names and pids prove
    nothing unless kernel and pid namespace are the same.
    """
    here = this_process()
    if not process.place or (process.host, process.place) != (here.host, here.place):
        return False
    return _start_mark(process.pid) != process.mark


def _place() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_mark(pid: int) -> str:
    """Field 22 of /proc/PID/stat; "" for a process that is gone or only waits to be reaped."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The command's name, in parentheses, may itself hold spaces and parentheses.
    state, *fields = stat[stat.rindex(")") + 2 :].split()
    return "" if state in "ZXx" else fields[18]
