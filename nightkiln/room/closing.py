"""``nightkiln down``: ends what ``nightkiln up`` has started, and nothing else.

Runs first, then the Prefect worker, then the server, so that each can tell the next what became of
it. Processes are known by number, time of start and the mark in their environment; a process that
has got the number of one of ours is left alone.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from nightkiln.core.errors import RoomTrouble
from nightkiln.room.asking import PrefectApi
from nightkiln.room.book import Room, RoomBook, Started
from nightkiln.room.opening import TOLD_EVERY_S, Tell, api_of
from nightkiln.room.processes import Found, found, has_ended, tell, wait_until

CANCEL_S_MAX = 60.0  # Prefect sees the wish within ten seconds and gives a run thirty to end
ENDS_S_MAX = 60.0  # a run that is told by a signal: twelve to finish, and then to commit
KILLED_S_MAX = 10.0
SETTLED_S_MAX = 15.0
APART_S = 0.2  # two signals at once would be heard as one


class How(StrEnum):
    """What becomes of runs at work."""

    IN_ORDER = "in order"  # what is being rendered is finished if it is soon, the rest is left
    WAIT = "wait"  # until they are over by themselves
    NOW = "now"  # what is being rendered is handed back


@dataclass(frozen=True, slots=True)
class Closing:
    """One call of ``nightkiln down``."""

    book: RoomBook
    user: Mapping[str, str]
    say: Tell
    how: How = How.IN_ORDER

    def close(self) -> list[str]:
        """End everything; the parts that were up.

        Raises:
            BadInput: another call is at work.
            RoomTrouble: something does not end.
        """
        with self.book.alone():
            room = self.book.read()
            before = found(room.mark)
            parts = sorted({each.part for each in before})
            if any(each.flow_run for each in before):
                self._runs(room)
            self._end("worker", room.worker)
            self._rest(room, "worker")
            room = replace(room, worker=None)
            self.book.keep(room)
            self._end("server", room.server)
            self._rest(room, "server")
            room = replace(room, server=None)
            self.book.keep(room)
            return parts

    def _runs(self, room: Room) -> None:
        """Flow runs at work end, each in its way."""
        if self.how is How.WAIT:
            self._wait_for_ever(room)
            return
        runs = {each.flow_run for each in flow_runs(room)}
        self.say("runs", f"{len(runs)} told to end {self.how}")
        api = api_of(room, self.user)
        if self.how is not How.IN_ORDER or not self._cancelled(api, room, runs):
            self._signalled(room)
        # The worker says of a process that could not what became of its run; let it.
        with suppress(RoomTrouble):
            wait_until(lambda: not api.unfinished(runs), within_s=SETTLED_S_MAX)
            api.cancelled(api.unfinished(runs))

    def _cancelled(self, api: PrefectApi, room: Room, runs: set[str]) -> bool:
        """Whether all ended as somebody's pressing Cancel ends them: so Prefect knows why."""
        if room.worker is None or not room.worker.is_alive:
            return False
        try:
            api.cancel(runs)
        except RoomTrouble:
            return False  # a signal does it without the server
        return self._patiently("runs", lambda: not flow_runs(room), CANCEL_S_MAX)

    def _signalled(self, room: Room) -> None:
        for each in flow_runs(room):
            tell(each.process, signal.SIGTERM)
            if self.how is How.NOW:
                time.sleep(APART_S)
                tell(each.process, signal.SIGTERM)
        self._patiently("runs", lambda: not flow_runs(room), ENDS_S_MAX)

    def _wait_for_ever(self, room: Room) -> None:
        while not wait_until(lambda: not flow_runs(room), within_s=TOLD_EVERY_S):
            self.say("runs", f"{len(flow_runs(room))} at work; it waits for their end")

    def _end(self, name: str, part: Started | None) -> None:
        if part is None or not part.is_alive:
            return
        self.say(name, "is told to end")
        tell(part.process, signal.SIGTERM)
        self._patiently(name, lambda: has_ended(part.process), ENDS_S_MAX)

    def _rest(self, room: Room, name: str) -> None:
        """What of a part is still there: asked first, then made to end."""
        for number, within_s in ((signal.SIGTERM, ENDS_S_MAX), (signal.SIGKILL, KILLED_S_MAX)):
            left = of_part(room, name)
            for each in left:
                if number is signal.SIGKILL:
                    self.say(name, f"process {each.process.pid} does not end, and is killed")
                tell(each.process, number)
            if self._patiently(name, lambda: not of_part(room, name), within_s):
                return
        pids = ", ".join(str(each.process.pid) for each in of_part(room, name))
        raise RoomTrouble(f"the {name} does not end: process {pids}")

    def _patiently(self, name: str, holds: Callable[[], object], within_s: float) -> bool:
        began_s = time.monotonic()
        while not wait_until(holds, within_s=min(TOLD_EVERY_S, within_s)):
            took_s = time.monotonic() - began_s
            if took_s >= within_s:
                return False
            self.say(name, f"not ended yet, {took_s:.0f} s")
        return True


def flow_runs(room: Room) -> list[Found]:
    """Processes of flow runs that this room's Prefect worker has started."""
    return [each for each in found(room.mark) if each.flow_run and not has_ended(each.process)]


def of_part(room: Room, name: str) -> list[Found]:
    """Processes of one part of the room, flow runs included in the worker's."""
    return [each for each in found(room.mark) if each.part == name and not has_ended(each.process)]
