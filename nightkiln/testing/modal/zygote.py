"""The process that containers are forked from, so that each is there in a moment.

Started as ``python -P zygote.py`` and told by lines of JSON what to do: importing the SDK takes
a second, a fork of a process that has done so takes none. A container then runs the SDK's own
entry point, as on the service. When the line to its parent breaks, all end.

Nothing of nightkiln is imported here, and containers cannot import it: their image lacks it.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import select
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

ENTRY_POINT = "modal._container_entrypoint"
# What the entry point imports. Itself it is run afresh in each container.
IMPORTED_FIRST = (
    "modal",
    "modal._cluster",
    "modal._runtime.container_io_manager",
    "modal._runtime.user_code_event_loop",
    "modal._runtime.user_code_imports",
)
BARRED = ("nightkiln", "flows", "tasks")  # what is in this environment and in no image
READ_BYTES = 65_536
FAILED = 1


class Barred:
    """A finder that stands before all others and hides what no image has."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name.partition(".")[0] in BARRED:
            raise ModuleNotFoundError(f"No module named {name!r} (in this image)", name=name)


def main() -> None:
    """Fork a container for each line that comes; say when one ends."""
    for name in IMPORTED_FIRST:
        importlib.import_module(name)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    living: dict[int, str] = {}
    _say({"event": "ready"})
    unread = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, READ_BYTES)
            _reap(living)
        if 0 in ready:
            got = os.read(0, READ_BYTES)
            if not got:
                _end_all(living)
                return
            *lines, unread = (unread + got).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    os.close(woken)
                    os.close(wake)
                    _become(order)
                living[pid] = order["id"]
                _say({"event": "started", "id": order["id"], "pid": pid})


def _say(event: Mapping[str, Any]) -> None:
    os.write(1, json.dumps(event).encode() + b"\n")


def _reap(living: dict[int, str]) -> None:
    while living:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        name = living.pop(pid)
        _say({"event": "ended", "id": name, "status": os.waitstatus_to_exitcode(status)})


def _end_all(living: Mapping[int, str]) -> None:
    for pid in living:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _become(order: Mapping[str, Any]) -> NoReturn:
    """Be the container that was ordered; never returns."""
    status = 0
    try:
        os.setsid()  # so that it ends with all that it has started
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _redirect(order["log"])
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["environment"])
        sys.path[:] = [order["folder"], *_without_zygote(sys.path)]
        sys.meta_path.insert(0, Barred())
        runpy.run_module(ENTRY_POINT, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else FAILED
    except BaseException:  # noqa: BLE001 - a container's last words, whatever ended it
        traceback.print_exc()
        status = FAILED
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _without_zygote(paths: Sequence[str]) -> list[str]:
    """The interpreter's own paths: none that begins where we happened to be started."""
    return [path for path in paths if path and path != os.path.dirname(__file__)]  # noqa: PTH120


def _redirect(log: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    lines = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(lines, 1)
    os.dup2(lines, 2)
    os.close(nothing)
    os.close(lines)


if __name__ == "__main__":
    main()
