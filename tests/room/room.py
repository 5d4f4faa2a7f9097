"""A whole control room that tests may break: Prefect server, Prefect worker, flows as processes.

Nothing in it is shared with the computer's own: it has a home, a database, a state folder and ports
of its own, and runs the flows from a copy of the checkout. Only the ComfyUI servers are the test's
(``stand_ins``): they outlive every controller, as rented machines do, and count what they render.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml

from nightkiln.store.claims import SeenClaim, newest_claim
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.waiting import until
from tests.docs.shown import free_port

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
POOL = "nightkiln"
DEPLOYED = ("nightly", "share", "adhoc", "reap")
START_S_MAX = 200.0  # a server that makes its database on a busy computer
RUN_S_MAX = 200.0
STOP_S_MAX = 20.0
ASK_S = 0.3  # between two questions of one who waits
BUSY_S, BUSY_MAX = 0.5, 40  # SQLite has one writer, and the server says 503 while it waits
SAID_CHARS_MAX = 8000
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
MARK = "NIGHTKILN_TEST_ROOM"  # in the environment of all that a room starts, to find it again
# As docs/how-to/own-server.md has it, and nothing waits longer than it must.
SERVER_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    "DO_NOT_TRACK": "1",
}
WORKER_SETTINGS = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_CLIENT_MAX_RETRIES": "8",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "nightkiln",
}


class Room:
    """Start it with ``open``; every verb that kills leaves what it killed dead until it returns."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self._always = environment  # of all that it starts
        self.home = folder / "prefect"
        self.database = self.home / "prefect.db"
        self.checkout = folder / "checkout"
        self.state_folder = folder / "state"  # what nightkiln believes that it rents
        self.url = f"http://127.0.0.1:{free_port()}"
        self._worker_ports = [int(free_port()), int(free_port())]
        self._mark = uuid.uuid4().hex
        self._more: Mapping[str, str] = {}
        self._server: subprocess.Popen[bytes] | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self._more_workers: list[subprocess.Popen[bytes]] = []

    # Opening and closing.

    async def open(self) -> None:
        """Server, deployments and Prefect worker, ready for a run."""
        self._copy_checkout()
        await self.start_server()
        await self.deploy()
        await self.start_worker()

    def close(self) -> None:
        """End all that was started here, also what lost its parent."""
        for process in (*self._more_workers, self._worker, self._server):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait(STOP_S_MAX)
        self.kill_flows()

    def _copy_checkout(self) -> None:
        """The flows as somebody has deployed them, but none begins by itself."""
        self.checkout.mkdir(parents=True)
        for name in ("flows", "tasks"):
            leave = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self.checkout / name, ignore=leave)
        declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())
        for deployment in declared["deployments"]:
            deployment.pop("schedules", None)
        (self.checkout / "prefect.yaml").write_text(yaml.safe_dump(declared))

    async def mended(self) -> None:
        """Whole again, whatever was killed, and with whatever database."""
        if not self.has_server():
            await self.start_server()
        pool = await self._answer("GET", f"/work_pools/{POOL}")
        if pool.status_code == httpx.codes.NOT_FOUND:
            await self.deploy()
        if not self.has_worker():
            await self.start_worker()

    # The server.

    def has_server(self) -> bool:
        """Whether the server's process is there."""
        return self._server is not None and self._server.poll() is None

    async def start_server(self) -> None:
        """Wait until it answers; with the database that lies there, else with a new one."""
        port = self.url.rpartition(":")[2]
        self._server = self._started(
            "server", str(BIN / "prefect"), "server", "start", "--port", port
        )
        await until(self._is_up, within_s=START_S_MAX)

    async def _is_up(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, self.said("server")
        with contextlib.suppress(httpx.TransportError):
            async with self._client() as client:
                return (await client.get("/ready")).is_success
        return False

    def kill_server(self) -> None:
        """As when its computer goes."""
        _kill(self._server)

    def copy_of_database(self) -> Path:
        """The server's database as it is now, while it runs."""
        copy = self.folder / f"{uuid.uuid4().hex}.db"
        with closing(sqlite3.connect(self.database)) as now, closing(sqlite3.connect(copy)) as then:
            now.backup(then)
        return copy

    def put_back(self, copy: Path) -> None:
        """Give a dead server an older database."""
        self.delete_database()
        shutil.copy(copy, self.database)

    def delete_database(self) -> None:
        """Take a dead server's database away."""
        assert self._server is None or self._server.poll() is not None, "it would not notice"
        for path in self.home.glob(f"{self.database.name}*"):
            path.unlink()

    # The Prefect worker, and what it runs.

    async def deploy(self, *wanted: str) -> None:
        """A work pool, and in it deployments of prefect.yaml: these, or what most tests need."""
        made = await self._answer("POST", "/work_pools/", {"name": POOL, "type": "process"})
        assert made.is_success or made.status_code == httpx.codes.CONFLICT, made.text
        names = [part for name in wanted or DEPLOYED for part in ("--name", name)]
        command = (str(BIN / "prefect"), "--no-prompt", "deploy", *names)
        done = await asyncio.to_thread(self._ran, command, self.checkout)
        assert done.returncode == 0, done.stdout

    async def start_worker(self) -> None:
        """A Prefect worker, which the server knows of when this returns."""
        name = f"worker-{uuid.uuid4().hex[:6]}"
        prefect = ("worker", "start", "--pool", POOL, "--type", "process", "--name", name)
        self._worker = self._started("worker", str(BIN / "prefect"), *prefect)
        await until(partial(self._has_reported, name), within_s=START_S_MAX)

    async def more_worker(self, *, limit: int) -> subprocess.Popen[bytes]:
        """One more Prefect worker, as on another computer, with room for so many flow runs."""
        name = f"worker-{uuid.uuid4().hex[:6]}"
        prefect = ("worker", "start", "--pool", POOL, "--type", "process", "--name", name)
        process = self._started(name, str(BIN / "prefect"), *prefect, "--limit", str(limit))
        self._more_workers.append(process)
        await until(partial(self._has_reported, name), within_s=START_S_MAX)
        return process

    def kill_more_workers(self) -> None:
        """All of them, with what they have started."""
        for process in self._more_workers:
            self.kill_with_flows(process)
        self._more_workers.clear()

    def kill_with_flows(self, worker: subprocess.Popen[bytes]) -> None:
        """As when the computer goes that a Prefect worker and its flow runs are on."""
        mine = self.flows_of(worker)
        _kill(worker)
        for process in mine:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def flows_of(self, worker: subprocess.Popen[bytes]) -> list[int]:
        """Processes of the flow runs that a Prefect worker has started."""
        return [process for process in self.flows() if worker.pid in _ancestors(process)]

    async def _has_reported(self, name: str) -> bool:
        found = await self.asked(f"/work_pools/{POOL}/workers/filter", {})
        return name in {one["name"] for one in found}

    def kill_worker(self) -> None:
        """As when its computer goes; the flows that it had started go on."""
        _kill(self._worker)

    @asynccontextmanager
    async def set_up(self, **environment: str) -> AsyncIterator[None]:
        """More in the environment of the Prefect worker, and of whoever sits beside it."""
        self._more = environment
        try:
            self.kill_worker()
            await self.start_worker()
            yield
        finally:
            self._more = {}
            self.kill_worker()  # the next test gets one without

    def has_worker(self) -> bool:
        """Whether the Prefect worker's process is there."""
        return self._worker is not None and self._worker.poll() is None

    def flows(self) -> list[int]:
        """Processes of flow runs that are there, with a Prefect worker or without."""
        wanted = (f"{MARK}={self._mark}".encode(), b"PREFECT__FLOW_RUN_ID=")
        return [
            process
            for process, environment in _environments()
            if wanted[0] in environment and any(one.startswith(wanted[1]) for one in environment)
        ]

    def kill_flows(self) -> None:
        """Every flow run's process, at once."""
        for process in self.flows():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    # Runs.

    async def run(self, deployment: str, params: Mapping[str, Any], **more: Any) -> str:
        """Ask for a run, as the form does; its id."""
        answer = await self.try_run(deployment, params, **more)
        assert answer.is_success, answer.text
        return str(answer.json()["id"])

    async def try_run(
        self, deployment: str, params: Mapping[str, Any], **more: Any
    ) -> httpx.Response:
        """What the server says to the wish for a run."""
        found = await self._answer("GET", f"/deployments/name/{deployment}/{deployment}")
        assert found.is_success, found.text
        wish = {"parameters": {"params": dict(params)}, **more}
        return await self._answer(
            "POST", f"/deployments/{found.json()['id']}/create_flow_run", wish
        )

    async def retry(self, run: str) -> None:
        """What the button Retry does."""
        state = {"type": "SCHEDULED", "name": "AwaitingRetry"}
        answer = await self.asked(f"/flow_runs/{run}/set_state", {"state": state, "force": True})
        assert answer["status"] == "ACCEPT", answer

    async def cancel(self, run: str) -> None:
        """What the button Cancel does."""
        state = {"type": "CANCELLING", "name": "Cancelling"}
        await self.asked(f"/flow_runs/{run}/set_state", {"state": state})

    async def state(self, run: str) -> Mapping[str, Any]:
        """``type``, ``name`` and ``message`` of a run's state; none of them: no such run."""
        answer = await self._answer("GET", f"/flow_runs/{run}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return {}
        assert answer.is_success, answer.text
        state = answer.json()["state"]
        return state if state is not None else {}

    async def is_in(self, run: str, *types: str) -> bool:
        """Whether a run's state is of one of these types."""
        await asyncio.sleep(ASK_S)
        return (await self.state(run)).get("type") in types

    async def are_in(self, runs: Sequence[str], kind: str, *, count: int) -> bool:
        """Whether the states of so many runs are of this type."""
        return [await self.is_in(run, kind) for run in runs].count(True) >= count

    async def ended(self, run: str, *, within_s: float = RUN_S_MAX) -> Mapping[str, Any]:
        """The state that a run has ended in."""
        try:
            await until(partial(self.is_in, run, *ENDED), within_s=within_s)
        except TimeoutError as error:
            state = await self.state(run)
            raise AssertionError(f"still {state}\n{self.said('worker')}") from error
        return await self.state(run)

    async def is_over(self) -> None:
        """Wait until no flow run's process is left."""
        await until(lambda: not self.flows(), within_s=RUN_S_MAX)

    async def runs(self) -> list[Mapping[str, Any]]:
        """The flow runs that the server knows."""
        found: list[Mapping[str, Any]] = await self.asked("/flow_runs/filter", {"limit": 200})
        return found

    async def events(self, name: str) -> list[Mapping[str, Any]]:
        """Events of one name that the server has kept."""
        found = await self.asked(
            "/events/filter", {"filter": {"event": {"name": [name]}}, "limit": 50}
        )
        kept: list[Mapping[str, Any]] = found["events"]
        return kept

    async def has_events(self, name: str, *, count: int) -> bool:
        """Whether the server has kept so many events of a name."""
        await asyncio.sleep(ASK_S)
        return len(await self.events(name)) >= count

    # Asking, and telling.

    def nightkiln(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command on the computer of the Prefect worker, which needs no server. Blocking."""
        return self._ran((str(BIN / "nightkiln"), *arguments), self.folder)

    async def asked(self, path: str, body: Mapping[str, Any]) -> Any:
        """What the server answers."""
        answer = await self._answer("POST", path, body)
        assert answer.is_success, answer.text
        return answer.json()

    async def _answer(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        """What the server answers, once its database has time for it, as Prefect's clients ask."""
        for _ in range(BUSY_MAX):
            async with self._client() as client:
                answer = await client.request(method, path, json=body)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            await asyncio.sleep(BUSY_S)
        return answer

    def said(self, name: str) -> str:
        """The end of what the ``server`` or the ``worker``, with its flows, has printed."""
        log = self.folder / f"{name}.log"
        return log.read_text(errors="replace")[-SAID_CHARS_MAX:] if log.exists() else ""

    @asynccontextmanager
    async def stand_ins(
        self, *, render_s: float = 0.0, faults: Sequence[str] = ()
    ) -> AsyncIterator[list[StandIn]]:
        """Two ComfyUI servers, at the addresses that the Prefect worker's environment names."""
        async with contextlib.AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(
                    StandIn(port=port, render_s=render_s, faults=faults)
                )
                for port in self._worker_ports
            ]

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"{self.url}/api", timeout=30.0, trust_env=False)

    def _environment(self) -> dict[str, str]:
        ours = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("NIGHTKILN", "PREFECT", "VAST", "MODAL", "AWS"))
        }
        urls = ",".join(f"http://127.0.0.1:{port}" for port in self._worker_ports)
        return {
            **ours,
            **SERVER_SETTINGS,
            **WORKER_SETTINGS,
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_SERVER_UI_API_URL": f"{self.url}/api",
            "NIGHTKILN_STATE": str(self.state_folder),
            "NIGHTKILN_WORKER_URLS": urls,
            "NIGHTKILN_SHARD_ROWS": "5",
            MARK: self._mark,
            **self._always,
            **self._more,
        }

    def _ran(self, command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_S_MAX,
            check=False,
        )

    def _started(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """A process that stays. Who is started with SIGINT ignored never ends by one."""
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                ["env", "--default-signal=INT", *command],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def claim_of(store: Path, batch: str) -> SeenClaim | None:
    """Who works, or worked last, on a batch; None: nobody ever has."""
    if not (store / "claims").is_dir():
        return None
    return newest_claim(Store.open(str(store)).blobs, batch)


def kill_run(store: Path, batch: str, number: signal.Signals) -> None:
    """Send a signal to the process that works on a batch."""
    claim = claim_of(store, batch)
    assert claim is not None
    os.kill(claim.owner.pid, number)


def rendered(servers: Sequence[StandIn]) -> int:
    """Prompts that were executed, at all servers together."""
    return sum(len(server.renders) for server in servers)


def _kill(process: subprocess.Popen[bytes] | None) -> None:
    assert process is not None
    process.kill()
    process.wait(STOP_S_MAX)


def _ancestors(process: int) -> list[int]:
    """Who started it, who started that one, and so on."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        while process > 1:
            stat = Path(f"/proc/{process}/stat").read_text(errors="replace")
            process = int(stat[stat.rindex(")") + 2 :].split()[1])
            found.append(process)
    return found


def _environments() -> list[tuple[int, list[bytes]]]:
    """Every process of ours with its environment, as far as one may look."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                found.append((int(folder.name), (folder / "environ").read_bytes().split(b"\0")))
    return found
