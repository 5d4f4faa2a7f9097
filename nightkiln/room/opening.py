"""``nightkiln up``: from nothing, or from what is left, to a room in which runs start.

Every step looks first and does only what is missing, so that the second call changes nothing.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import chdir
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen, TimeoutExpired

import yaml

from nightkiln.core.errors import BadInput, Problem, RoomTrouble
from nightkiln.room.asking import POOL, POOL_TYPE, PrefectApi
from nightkiln.room.automations import applied, summed
from nightkiln.room.book import Room, RoomBook, Started
from nightkiln.room.checking import Wanted, check, prefect_command
from nightkiln.room.deploying import DEPLOY_ALL, kept_off
from nightkiln.room.environment import (
    AUTH,
    SERVER_AUTH,
    changed,
    server_environment,
    told,
    tool_environment,
    worker_environment,
)
from nightkiln.room.processes import end, found, has_ended, start, wait_until

START_S_MAX = 240.0  # a server's first start makes its database; on a busy computer minutes
TOLD_EVERY_S = 5.0
COMMAND_S_MAX = 300.0
ENDS_S_MAX = 60.0  # of an idle Prefect worker: seconds
LOG_BYTES_SHOWN = 3000
ADHOC_LIMIT = 4  # each takes a core for seconds, to plan or to play a night; there are often two
BLOCKS = ("secret", "slack-webhook")  # the server makes its kinds of blocks when it starts
AUTOMATIONS = Path("deploy") / "automations.yaml"

Tell = Callable[[str, str], None]  # a part of the room, and what is done about it


@dataclass(frozen=True, slots=True)
class Opening:
    """One call of ``nightkiln up``."""

    wanted: Wanted
    book: RoomBook
    user: Mapping[str, str]
    tell: Tell

    def open(self) -> Room:
        """Start, mend and wait, until a run that is asked for starts.

        Raises:
            BadInput: something is missing or in the way; nothing was started.
            RoomTrouble: a part failed; what is up stays up.
        """
        with self.book.alone():
            room = self._known(self.book.read())
            check(self.wanted, room, self.user)
            room = self._asked_for(room)
            room = self._server(room)
            api = api_of(room, self.user)
            room = self._worker(api, room)
            worker = room.worker
            assert worker is not None, "it was started"
            self._wait("work pool", worker, lambda: api.pool_type() is not None)
            self._limits(api)
            room = self._deployments(api, room)
            room = self._automations(api, room)
            self._wait("worker", worker, lambda: is_online(api, worker_name(room), worker.since_s))
            return room

    def _known(self, room: Room) -> Room:
        """The room with what a call that was killed has started, and had no time to write down."""
        for process in found(room.mark):
            part = room.server if process.part == "server" else room.worker
            if process.is_leader and (part is None or not part.is_alive):
                log = str(self.book.log(process.part))
                again = Started(process.process, log, time.time())
                is_server = process.part == "server"
                room = replace(room, server=again) if is_server else replace(room, worker=again)
        return room

    def _asked_for(self, room: Room) -> Room:
        wanted = self.wanted
        room = replace(
            room,
            host=wanted.host,
            port=wanted.port,
            database=wanted.database.shown,
            has_password=wanted.database.has_password or room.has_password
            if wanted.database.shown == room.database
            else wanted.database.has_password,
            checkout=str(wanted.checkout),
        )
        self.book.keep(room)
        return room

    def _server(self, room: Room) -> Room:
        if room.server is None or not room.server.is_alive:
            is_again = room.server is not None
            self.tell("server", "starts again" if is_again else "starts (up to a minute)")
            told_it = server_environment(self.user, room, self.book.home, self.wanted.database)
            log = self.book.log("server")
            command = prefect_command("server", "start")
            room = replace(room, server=start(command, told_it, log=log, folder=self.book.folder))
            self.book.keep(room)
        else:
            self.tell("server", "is up")
        assert room.server is not None, "it was started"
        api = api_of(room, self.user)
        self._wait("server", room.server, api.is_ready)
        self._wait("server", room.server, lambda: api.block_type_slugs().issuperset(BLOCKS))
        return room

    def _limits(self, api: PrefectApi) -> None:
        """Runs from a form wait for one another; what was changed in the UI stays."""
        queue, wanted = api.queue(), self.wanted.adhoc_limit
        if queue is None:
            wanted = wanted if wanted is not None else ADHOC_LIMIT
            api.add_queue(limit=wanted)
        elif wanted is not None and wanted != queue["concurrency_limit"]:
            api.limit_queue(wanted)
        else:
            self.tell("limits", "are as they were")
            return
        self.tell("limits", f"{wanted} runs from a form work at once, more of them wait")

    def _deployments(self, api: PrefectApi, room: Room) -> Room:
        digest = digest_of(self.wanted.checkout, room)
        names = declared(self.wanted.checkout)
        missing = names - {str(each["name"]) for each in api.deployments()}
        if not missing and digest == room.deployed:
            self.tell("deployments", "are there, as prefect.yaml has them")
            return room
        why = f"{', '.join(sorted(missing))} missing" if missing else "the checkout has changed"
        self.tell("deployments", f"are deployed, as {why} (some ten seconds)")
        with kept_off(api, partial(self.tell, "deployments")):
            self._prefect("deployments", room, *DEPLOY_ALL)
        room = replace(room, deployed=digest)
        self.book.keep(room)
        return room

    def _automations(self, api: PrefectApi, room: Room) -> Room:
        path = self.wanted.checkout / AUTOMATIONS
        room = replace(room, notify=self.wanted.notify or room.notify)
        for what in summed(applied(path, api, notify=room.notify)):
            self.tell("automations", what)
        self.book.keep(room)
        return room

    def _worker(self, api: PrefectApi, room: Room) -> Room:
        """The Prefect worker makes its work pool, and begins while the rest is seen to."""
        kind = api.pool_type()
        if kind not in {None, POOL_TYPE}:
            what = f"is of type {kind}: nightkiln up is for one machine, where it is {POOL_TYPE}"
            raise BadInput([Problem(f"work pool {POOL}", what, "docs/how-to/own-server.md")])
        environment = worker_environment(self.user, room, self.book.home)
        now_told = told(environment, room.salt)
        self._end_if_deaf(room)
        if room.worker is not None and room.worker.is_alive:
            self.tell("worker", "is up")
            others = changed(room.told, now_told)
            if others:
                what = "has the environment of its start; changed since: " + ", ".join(others)
                self.tell("worker", f"{what}. For the new one: nightkiln down, nightkiln up")
        else:
            self.tell("worker", "starts again" if room.worker is not None else "starts")
            name = worker_name(room)
            words = ("worker", "start", "--pool", POOL, "--type", POOL_TYPE, "--name", name)
            folder, log = self.wanted.checkout, self.book.log("worker")
            worker = start(prefect_command(*words), environment, log=log, folder=folder)
            room = replace(room, worker=worker, told=now_told)
            self.book.keep(room)
        return room

    def _end_if_deaf(self, room: Room) -> None:
        """A worker that has lost its server once hears of no cancellation any more."""
        worker, server = room.worker, room.server
        assert server is not None, "it was started"
        if worker is None or not worker.is_alive or worker.since_s > server.since_s:
            return
        if any(each.flow_run for each in found(room.mark)):
            what = "Cancel in the UI may not reach its runs, as it had lost the server; nightkiln "
            self.tell("worker", f"{what}stop does. Call nightkiln up again when they are over")
        else:
            end(worker.process, within_s=ENDS_S_MAX)

    def _wait(self, name: str, part: Started, holds: Callable[[], object]) -> None:
        """Until it holds; says so now and then.

        Raises:
            RoomTrouble: it has ended meanwhile, or it took too long; with the end of its log.
        """
        began_s = time.monotonic()
        told_s = began_s
        while not wait_until(lambda: holds() or has_ended(part.process), within_s=TOLD_EVERY_S):
            told_s = time.monotonic()
            self.tell(name, f"not ready yet, {told_s - began_s:.0f} s; it writes to {part.log}")
            if told_s - began_s > START_S_MAX:
                raise RoomTrouble(f"the {name} is not ready; {self._log_end(part)}")
        if has_ended(part.process):
            raise RoomTrouble(f"the {name} has ended; {self._log_end(part)}")

    def _log_end(self, part: Started) -> str:
        text = Path(part.log).read_text(errors="replace")[-LOG_BYTES_SHOWN:]
        return f"the end of {part.log}:\n{self.wanted.database.hidden(text)}"

    def _prefect(self, name: str, room: Room, *words: str) -> None:
        """Run a ``prefect`` command in the checkout.

        Raises:
            RoomTrouble: it failed; with what it printed.
        """
        environment = tool_environment(self.user, room, self.book.home)
        command = prefect_command(*words)
        with (
            chdir(self.wanted.checkout),
            Popen(command, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT) as process,
        ):
            printed = self._patiently(name, process)
        if process.returncode != 0:
            raise RoomTrouble(f"prefect {' '.join(words)} failed:\n{printed}")

    def _patiently(self, name: str, process: Popen[bytes]) -> str:
        began_s = time.monotonic()
        while True:
            try:
                printed, _ = process.communicate(timeout=TOLD_EVERY_S)
            except TimeoutExpired:
                took_s = time.monotonic() - began_s
                self.tell(name, f"not done yet, {took_s:.0f} s")
                if took_s > COMMAND_S_MAX:
                    process.kill()
            else:
                return printed.decode(errors="replace")[-LOG_BYTES_SHOWN:]


def api_of(room: Room, user: Mapping[str, str]) -> PrefectApi:
    """The API of this room's server."""
    return PrefectApi(room.api, auth=user.get(AUTH) or user.get(SERVER_AUTH, ""))


def worker_name(room: Room) -> str:
    """Of the room's Prefect worker, as the UI shows it."""
    return f"nightkiln-{socket.gethostname()}-{room.mark[:4]}"


def is_online(api: PrefectApi, name: str, since_s: float) -> bool:
    """Whether a Prefect worker of this name has given a sign of life since then."""
    seen = api.workers_online().get(name)
    return seen is not None and datetime.fromisoformat(seen).timestamp() >= since_s


def declared(checkout: Path) -> set[str]:
    """Names of the deployments in a checkout's prefect.yaml.

    Raises:
        BadInput: it cannot be read.
    """
    path = checkout / "prefect.yaml"
    try:
        return {str(each["name"]) for each in yaml.safe_load(path.read_text())["deployments"]}
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise BadInput([Problem(str(path), f"declares no deployments: {error!r}")]) from error


def digest_of(checkout: Path, room: Room) -> str:
    """Of all that deployments are made of: what they declare, and the code their forms show."""
    found = hashlib.sha256(f"{checkout}\n{room.database}\n".encode())
    paths = [checkout / "prefect.yaml"]
    for folder in ("flows", "tasks"):
        paths += sorted((checkout / folder).rglob("*.py"))
    for path in paths:
        found.update(f"{path.relative_to(checkout)}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()
