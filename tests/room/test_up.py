"""``nightkiln up`` and ``nightkiln down`` as somebody calls them, with all that they start."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from nightkiln.room.asking import POOL, QUEUE
from nightkiln.room.book import Room, RoomBook
from nightkiln.room.processes import MARK, Found, found
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.comfyui.process import stand_in_process
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from tests.docs.shown import free_port

# In CI test_tutorial.py opens a room, runs a batch in it, and closes it.
pytestmark = [pytest.mark.prefect, pytest.mark.room, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]
NIGHTKILN = [sys.executable, "-m", "nightkiln"]
COMMAND_S_MAX = 600.0
RUN_S_MAX = 150.0
ANSWER_S_MAX = 100.0
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
LONG_S = 600.0  # that a picture takes: whoever renders does so until it is stopped
SECRET = "vast-key-of-nobody"  # noqa: S105 - it opens nothing


class Computer:
    """Somebody's computer with a checkout and a room; nothing else is looked at, or ended."""

    def __init__(self, folder: Path, *, port: str) -> None:
        self.folder = folder
        self.port = port
        self.checkout = folder / "checkout"
        self.checkout.mkdir()
        leave = shutil.ignore_patterns("__pycache__")
        for name in ("flows", "tasks", "deploy"):
            shutil.copytree(ROOT / name, self.checkout / name, ignore=leave)
        self._deployments_without_a_clock()
        self.book = RoomBook(folder / "state")

    def _deployments_without_a_clock(self) -> None:
        """Nothing begins by itself, but for what a test is about."""
        declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())
        for deployment in declared["deployments"]:
            if deployment["name"] != "nightly":
                deployment.pop("schedules", None)
        (self.checkout / "prefect.yaml").write_text(yaml.safe_dump(declared))

    @property
    def room(self) -> Room:
        return self.book.read()

    @property
    def processes(self) -> list[Found]:
        return found(self.room.mark)

    def call(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """As from a shell."""
        plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        told = {
            **plain,
            "NIGHTKILN_STATE": str(self.folder / "state"),
            "NIGHTKILN_STORE": str(self.folder / "store"),
            "VAST_API_KEY": SECRET,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "1",
            **environment,
        }
        done = subprocess.run(
            [*NIGHTKILN, *words],
            cwd=self.folder,
            env=told,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_S_MAX,
            check=False,
        )
        assert SECRET not in done.stdout
        return done

    def up(self, *words: str, **environment: str) -> list[dict[str, Any]]:
        """Its lines, for programs."""
        asked = ("--port", self.port, "--checkout", str(self.checkout), "--json")
        done = self.call("up", *asked, *words, **environment)
        assert done.returncode == 0, done.stdout
        return [json.loads(line) for line in done.stdout.splitlines()]

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Prefect's server, which says 503 while SQLite has another writer."""
        url = f"{self.room.api}{path}"
        for _ in range(40):
            answer = httpx.request(method, url, json=body, trust_env=False, timeout=ANSWER_S_MAX)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def deployment(self, name: str) -> Any:
        return self.ask("GET", f"/deployments/name/{name}/{name}")

    def begin(self, deployment: str, **params: object) -> str:
        """Id of a run that is asked for as the form asks."""
        place = f"/deployments/{self.deployment(deployment)['id']}/create_flow_run"
        state = {"type": "SCHEDULED"}
        made = self.ask("POST", place, {"parameters": {"params": params}, "state": state})
        return str(made["id"])

    def run(self, run_id: str) -> Any:
        return self.ask("GET", f"/flow_runs/{run_id}")

    def is_over(self, run_id: str) -> bool:
        return self.run(run_id)["state_type"] in ENDED

    def cancel(self, run_id: str) -> None:
        """What the button does."""
        state = {"type": "CANCELLING", "name": "Cancelling"}
        self.ask("POST", f"/flow_runs/{run_id}/set_state", {"state": state})

    def runs_of(self, deployment: str) -> list[Any]:
        wanted = {"flow_runs": {"deployment_id": {"any_": [self.deployment(deployment)["id"]]}}}
        found_runs: list[Any] = self.ask("POST", "/flow_runs/filter", wanted)
        return found_runs

    def webhook(self, name: str, url: str) -> None:
        """A block, as made in the UI."""
        kind = self.ask("GET", "/block_types/slug/custom-webhook")
        wanted = {"block_schemas": {"block_type_id": {"any_": [kind["id"]]}}}
        schema = self.ask("POST", "/block_schemas/filter", wanted)[0]
        data = {"name": name, "url": url, "method": "POST"}
        said = {"json_data": {"subject": "{{subject}}", "body": "{{body}}"}}
        made = {"block_type_id": kind["id"], "block_schema_id": schema["id"]}
        self.ask("POST", "/block_documents/", {"name": name, "data": {**data, **said}, **made})

    def emit(self, event: str, batch: str, **payload: object) -> None:
        """As a flow tells Prefect."""
        told = {
            "occurred": datetime.now(UTC).isoformat(),
            "event": event,
            "resource": {
                "prefect.resource.id": f"nightkiln.batch.{batch}",
                "prefect.resource.name": batch,
            },
            "related": [],
            "payload": payload,
            "id": str(uuid.uuid4()),
        }
        self.ask("POST", "/events", [told])

    def automations(self) -> dict[str, Any]:
        listed = self.ask("POST", "/automations/filter", {})
        assert len({each["name"] for each in listed}) == len(listed)
        return {each["name"]: each for each in listed}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Computer]:
    """A room that was opened once; it takes a minute."""
    computer = Computer(tmp_path_factory.mktemp("computer"), port=free_port())
    try:
        computer.up()
        yield computer
    finally:
        done = computer.call("down", "--now")
        for each in computer.processes:
            os.kill(each.process.pid, signal.SIGKILL)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def computer(opened: Computer) -> Computer:
    """Its room is up, whatever a test before did to it."""
    room = opened.room
    if not all(part is not None and part.is_alive for part in (room.server, room.worker)):
        opened.up()
    return opened


@asynccontextmanager
async def rendering(computer: Computer, folder: Path) -> AsyncIterator[tuple[str, StandIn]]:
    """A run of adhoc that will not end by itself."""
    async with StandIn(render_s=LONG_S) as server:
        params = {
            "catalog": str(write_catalog(folder / "sample", 3)),
            "store": str(folder / "store"),
            "options": {"kind": "local", "worker_urls": [server.url]},
        }
        run_id = await asyncio.to_thread(partial(computer.begin, "adhoc", **params))
        await until(lambda: server.submitted, within_s=RUN_S_MAX)
        yield run_id, server


def declared_by(deployment: dict[str, Any]) -> dict[str, Any]:
    """What deploying sets; when it was last polled is not of that kind."""
    return {name: deployment[name] for name in ("version", "schedules", "parameters", "tags")}


def later(holds: Callable[..., object], *arguments: object) -> Callable[[], Awaitable[object]]:
    """The same, asked in a thread: the loop is the stand-in's."""
    return partial(asyncio.to_thread, holds, *arguments)


def environment_of(process: Found) -> dict[str, str]:
    told = Path(f"/proc/{process.process.pid}/environ").read_bytes().decode().split("\0")
    return dict(line.partition("=")[::2] for line in told if line)


def test_the_second_call_changes_nothing_and_says_how_it_stands(computer: Computer) -> None:
    before = computer.room, computer.automations(), declared_by(computer.deployment("nightly"))

    lines = computer.up()

    after = computer.room, computer.automations(), declared_by(computer.deployment("nightly"))
    assert after == before
    shipped = yaml.safe_load((ROOT / "deploy" / "automations.yaml").read_text())
    silent = [each["name"] for each in shipped if "NOTIFY" not in str(each["actions"])]
    stands = lines[-1]
    assert stands["automations"] == sorted(silent)
    assert (stands["is_up"], stands["ui"]) == (True, f"http://127.0.0.1:{computer.port}")
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert stands["deployments"] == sorted(each["name"] for each in declared)
    assert "no budget is set" in stands["night"]
    assert stands["night_usd_max"] is None
    with httpx.Client(base_url=stands["ui"], trust_env=False) as client:
        assert client.get("/ui-settings").json()["api_url"] == "/api"


def test_a_budget_in_the_environment_is_said_to_be_spent_at_night(computer: Computer) -> None:
    status = computer.call("up", "--status", NIGHTKILN_BUDGET="3.50")

    assert "RENTS from vast for up to 3.50 USD a night" in status.stdout
    assert status.returncode == 0


def test_the_server_knows_no_key_and_the_worker_all(computer: Computer) -> None:
    told = {each.part: environment_of(each) for each in computer.processes if each.is_leader}

    assert {name for name in told["server"] if name.startswith("NIGHTKILN_")} == {MARK}
    assert SECRET not in told["server"].values()
    assert told["worker"]["VAST_API_KEY"] == SECRET
    assert told["worker"]["NIGHTKILN_STORE"] == str(computer.folder / "store")


async def test_a_run_from_the_form_renders(computer: Computer, tmp_path: Path) -> None:
    async with StandIn(render_s=0.02) as server:
        params = {
            "catalog": str(write_catalog(tmp_path / "sample", 5)),
            "store": str(tmp_path / "store"),
            "options": {"kind": "local", "worker_urls": [server.url]},
        }
        run_id = await asyncio.to_thread(partial(computer.begin, "adhoc", **params))
        await until(later(computer.is_over, run_id), within_s=RUN_S_MAX)

    run = computer.run(run_id)
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert "5 of 5 jobs done" in run["state"]["message"]


def test_a_server_that_was_killed_is_started_again_with_an_idle_worker(computer: Computer) -> None:
    """A Prefect worker that has lost its server hears of no cancellation any more."""
    before = computer.room
    assert before.server is not None
    os.kill(before.server.process.pid, signal.SIGKILL)

    stands = computer.up()[-1]

    after = computer.room
    assert stands["is_up"]
    assert after.server is not None
    assert after.server.process != before.server.process
    assert after.worker is not None
    assert before.worker is not None
    assert after.worker.process != before.worker.process
    assert not before.worker.is_alive
    assert len(stands["automations"]) == len(computer.automations())


def test_what_is_switched_off_in_the_ui_stays_off_when_the_checkout_changes(
    computer: Computer,
) -> None:
    nightly = computer.deployment("nightly")
    [schedule] = nightly["schedules"]
    place = f"/deployments/{nightly['id']}/schedules/{schedule['id']}"
    computer.ask("PATCH", place, {"active": False})
    declared = computer.checkout / "prefect.yaml"
    declared.write_text(declared.read_text() + "# edited\n")

    lines = computer.up()

    assert {
        "event": "step",
        "part": "deployments",
        "what": "nightly: its schedule stays off, as it was",
    } in lines
    assert "is off: nothing is rented" in lines[-1]["night"]
    [schedule] = computer.deployment("nightly")["schedules"]
    assert not schedule["active"]
    computer.ask("PATCH", place.replace(place.rpartition("/")[2], schedule["id"]), {"active": True})


def test_whoever_has_a_block_is_told_of_a_receipt_a_refused_night_and_a_failure(
    computer: Computer,
) -> None:
    with listening() as (url, told):
        computer.webhook("ops", url)
        stands = computer.up("--notify", "custom-webhook/ops")[-1]
        assert "nightkiln: tell of a receipt" in stands["automations"]
        computer.emit("nightkiln.batch.finished", "parti-2026-11-21", done=1599, usd=1.25)
        computer.emit("nightkiln.night.refused", "parti-2026-11-22", why="another one is at work")
        computer.emit("nightkiln.run.failed", "any-lynx", flow="reap", why="1 is NOT given back")
        asyncio.run(until(lambda: len(told) == 3, within_s=RUN_S_MAX))

    said = sorted(str(each) for each in told)
    assert "nightkiln.batch.finished" in said[0]
    assert "parti-2026-11-21" in said[0]
    assert "done: 1599" in said[0]
    assert "why: another one is at work" in said[1]
    assert "nightkiln.run.failed: any-lynx" in said[2]
    assert "why: 1 is NOT given back" in said[2]
    assert f"http://127.0.0.1:{computer.port}/" in said[2], "where to look"
    again = computer.up("--notify", "none")[-1]
    assert "nightkiln: tell of a receipt" not in again["automations"]


@contextmanager
def listening() -> Iterator[tuple[str, list[Any]]]:
    """Somebody's webhook, and what it was sent."""
    told: list[Any] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            del format, args

    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", told
        finally:
            server.shutdown()
            thread.join()


def test_a_limit_is_set_once_and_what_the_ui_says_of_it_stays(computer: Computer) -> None:
    assert computer.up()[-1]["adhoc_limit"] == 4

    computer.ask("PATCH", f"/work_pools/{POOL}/queues/{QUEUE}", {"concurrency_limit": 3})

    assert computer.up()[-1]["adhoc_limit"] == 3
    assert computer.up("--adhoc-limit", "4")[-1]["adhoc_limit"] == 4


@pytest.mark.timeout_s(600)
async def test_runs_from_a_form_wait_for_one_another_and_the_reaper_for_none(
    computer: Computer, tmp_path: Path
) -> None:
    await asyncio.to_thread(computer.up, "--adhoc-limit", "1")
    async with rendering(computer, tmp_path) as (first, server):
        params = {
            "catalog": str(tmp_path / "sample"),
            "store": str(tmp_path / "other"),
            "options": {"kind": "local", "worker_urls": [server.url]},
        }
        second = await asyncio.to_thread(partial(computer.begin, "adhoc", **params))
        reaps = await asyncio.to_thread(computer.begin, "reap")
        await until(later(computer.is_over, reaps), within_s=RUN_S_MAX)
        assert computer.run(second)["state_type"] == "SCHEDULED"

        computer.cancel(first)
        await until(later(at_work, computer, second), within_s=RUN_S_MAX)
        computer.cancel(second)
        await until(later(computer.is_over, second), within_s=RUN_S_MAX)
        await asyncio.to_thread(computer.up, "--adhoc-limit", "4")


@pytest.mark.timeout_s(600)
async def test_a_run_whose_process_is_killed_is_resumed_once_and_not_again(
    computer: Computer, tmp_path: Path
) -> None:
    async with rendering(computer, tmp_path) as (run_id, _):
        await killed(computer, run_id)
        first = (await resumes(computer, 1))[run_id]
        assert "is resumed, once" in first["state"]["message"]
        await until(later(resumed, computer, run_id), within_s=RUN_S_MAX)
        again = resumed(computer, run_id)
        assert again is not None
        assert "nightkiln" in again["tags"]
        await until(later(at_work, computer, again["id"]), within_s=RUN_S_MAX)
        await killed(computer, again["id"])
        second = (await resumes(computer, 2))[again["id"]]

    assert "was itself resumed" in second["state"]["message"]


async def resumes(computer: Computer, count: int) -> dict[str, Any]:
    """Runs of ``resume`` by the run that they look into, once those of so many runs are over.

    Prefect's server may start one twice for the same crash.
    """

    def over() -> dict[str, Any]:
        runs = [run for run in computer.runs_of("resume") if run["state_type"] in ENDED]
        return {run["parameters"]["flow_run"].rpartition(".")[2]: run for run in runs}

    await until(later(lambda: len(over()) >= count), within_s=RUN_S_MAX)
    found = over()
    assert len(found) == count
    return found


def resumed(computer: Computer, run_id: str) -> Any:
    """The run that goes on with a crashed one; there is never a second."""
    runs = [run for run in computer.runs_of("adhoc") if f"resumes:{run_id}" in run["tags"]]
    assert len(runs) <= 1
    return runs[0] if runs else None


def at_work(computer: Computer, run_id: str) -> list[Found]:
    """Its process, once it runs."""
    there = [each for each in computer.processes if each.flow_run == run_id]
    return there if computer.run(run_id)["state_type"] == "RUNNING" else []


async def killed(computer: Computer, run_id: str) -> None:
    """As by the system when memory is short; its Prefect worker lives and says so."""
    [process] = await asyncio.to_thread(at_work, computer, run_id)
    os.kill(process.process.pid, signal.SIGKILL)
    await until(later(has_crashed, computer, run_id), within_s=RUN_S_MAX)


def has_crashed(computer: Computer, run_id: str) -> bool:
    return bool(computer.run(run_id)["state_type"] == "CRASHED")


@pytest.mark.timeout_s(600)
async def test_down_ends_runs_in_order_and_all_that_was_started_and_nothing_else(
    computer: Computer, tmp_path: Path
) -> None:
    room = computer.room
    with stand_in_process() as stranger:
        async with rendering(computer, tmp_path) as (run_id, _):
            done = await asyncio.to_thread(computer.call, "down")
        assert stranger.process.poll() is None

    assert done.returncode == 0, done.stdout
    assert found(room.mark) == []
    assert "nothing was up" in (await asyncio.to_thread(computer.call, "down")).stdout
    await asyncio.to_thread(computer.up)
    run = computer.run(run_id)
    assert run["state_type"] == "CANCELLED", run["state"]
