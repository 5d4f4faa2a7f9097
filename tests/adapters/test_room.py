"""What ``nightkiln up`` writes down, tells its processes, and finds again; without Prefect."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nightkiln.core.errors import BadInput, RoomTrouble, StoreUnusable
from nightkiln.room.automations import changes
from nightkiln.room.book import Room, RoomBook, Started
from nightkiln.room.database import database_of
from nightkiln.room.deploying import kept_off
from nightkiln.room.environment import (
    changed,
    server_environment,
    told,
    tool_environment,
    worker_environment,
)
from nightkiln.room.processes import MARK, found, has_ended, start, tell, wait_until
from nightkiln.store.processes import process_of

PASSWORD = "pa%2Fss"  # noqa: S105 - nobody has it
URL = f"postgresql://kiln:{PASSWORD}@db.example:5433/prefect?ssl=require"
ROOM = Room(mark="a1b2", salt="s", port=4310)
USER = {
    "PATH": "/usr/bin",
    "NIGHTKILN_STORE": "results",
    "NIGHTKILN_DATABASE": URL,
    "VAST_API_KEY": "vast-key",
    "AWS_SECRET_ACCESS_KEY": "aws-key",
    "HTTPS_PROXY": "http://proxy:3128",
    "PREFECT_API_URL": "https://api.prefect.cloud/api/accounts/1/workspaces/2",
    "PREFECT_API_KEY": "pnu_key",
    "PREFECT_PROFILE": "cloud",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite:///elsewhere",
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "7d",
}
SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]
# Tells by a file that it listens, as it is told to end, and as it does.
LISTENS = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def ended(number, frame):
    (folder / "told").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, ended)
(folder / "listens").write_text(str(signal.getsignal(signal.SIGINT)))
time.sleep(600)
"""


@contextmanager
def started(folder: Path, *words: str, **environment: str) -> Iterator[Started]:
    """Something that stays, until the test is over."""
    command = list(words) if words else SLEEPS
    part = start(command, {**environment}, log=folder / "log", folder=folder)
    try:
        yield part
    finally:
        tell(part.process, signal.SIGKILL)
        assert wait_until(lambda: has_ended(part.process), within_s=20)


def test_the_server_is_tuned_and_hears_of_no_key_and_no_setting_of_nightkiln(
    tmp_path: Path,
) -> None:
    told_it = server_environment(USER, ROOM, tmp_path, database_of(URL))

    assert told_it["PREFECT_UI_URL"] == "http://127.0.0.1:4310", "of links in notifications"
    assert told_it["PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE"] == "500"
    assert told_it["PREFECT_SERVER_EVENTS_RETENTION_PERIOD"] == "7d", "the user's word counts"
    assert told_it["HTTPS_PROXY"] == USER["HTTPS_PROXY"], "notifications may need it"
    assert told_it["PREFECT_HOME"] == str(tmp_path)
    assert {name for name in told_it if name.startswith("NIGHTKILN_")} == {MARK}
    assert not {"vast-key", "aws-key", "pnu_key"} & set(told_it.values())
    assert not {"PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE"} & told_it.keys()
    assert told_it["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == (
        f"postgresql+asyncpg://kiln:{PASSWORD}@db.example:5433/prefect?ssl=require"
    )


def test_the_page_asks_the_address_it_came_from_so_that_it_is_seen_from_any_computer(
    tmp_path: Path,
) -> None:
    everywhere = replace(ROOM, host="0.0.0.0")  # noqa: S104
    proxy = {"PREFECT_SERVER_UI_API_URL": "https://kiln.example/prefect/api"}

    told_it = server_environment(USER, everywhere, tmp_path, database_of("sqlite"))
    behind = server_environment({**USER, **proxy}, everywhere, tmp_path, database_of("sqlite"))

    assert told_it["PREFECT_SERVER_API_HOST"] == "0.0.0.0"  # noqa: S104
    assert told_it["PREFECT_SERVER_UI_API_URL"] == "/api"
    assert behind.items() >= proxy.items(), "the user's word counts"


def test_the_worker_hears_all_but_another_server_and_the_databases_password(
    tmp_path: Path,
) -> None:
    told_it = worker_environment(USER, ROOM, tmp_path)

    assert told_it["VAST_API_KEY"] == "vast-key"
    assert told_it["NIGHTKILN_STORE"] == "results"
    assert told_it["PREFECT_API_URL"] == "http://127.0.0.1:4310/api"
    assert told_it["PREFECT_WORKER_QUERY_SECONDS"] == "2"
    assert told_it["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert not any(PASSWORD in value for value in told_it.values())
    assert not {"PREFECT_API_KEY", "PREFECT_PROFILE", "NIGHTKILN_DATABASE"} & told_it.keys()


def test_a_command_that_ends_by_itself_hears_of_no_key(tmp_path: Path) -> None:
    told_it = tool_environment(USER, ROOM, tmp_path)

    assert told_it["PREFECT_API_URL"] == "http://127.0.0.1:4310/api"
    assert not any(name.startswith(("NIGHTKILN_", "VAST_", "AWS_")) for name in told_it)


def test_a_changed_key_is_noticed_and_cannot_be_read(tmp_path: Path) -> None:
    before = told(worker_environment(USER, ROOM, tmp_path), ROOM.salt)
    more = {**USER, "VAST_API_KEY": "another", "NIGHTKILN_BUDGET": "5"}
    now = told(worker_environment(more, ROOM, tmp_path), ROOM.salt)

    assert changed(before, now) == ["NIGHTKILN_BUDGET", "VAST_API_KEY"]
    assert changed(before, before) == []
    assert "vast-key" not in str(before)


def test_what_is_shown_of_a_database_has_no_password() -> None:
    database = database_of(URL)

    assert database.shown == "postgresql://kiln@db.example:5433/prefect"
    assert database.has_password
    assert database.hidden(f"cannot open {PASSWORD} or pa/ss") == "cannot open ... or ..."
    assert PASSWORD not in repr(database)
    assert database_of("sqlite").shown == "sqlite"


@pytest.mark.parametrize(
    "given",
    [
        "mysql://u:secret@h/db",
        "postgresql:///db",
        "postgresql://u:secret@h",
        "postgresql://h:p:1/x",
    ],
)
def test_what_is_no_database_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(BadInput, match="postgresql://user:password@host") as refused:
        database_of(given)

    assert "secret" not in str(refused.value)


def test_a_room_is_found_again_as_it_was_written_down(tmp_path: Path) -> None:
    book = RoomBook(tmp_path)
    here = Started(process_of(os.getpid()), "log", 1.5)
    room = replace(book.read(), port=4310, server=here, told={"A": "b"})
    with book.alone():
        book.keep(room)

    assert RoomBook(tmp_path).read() == room
    assert here.is_alive


def test_a_damaged_book_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    book = RoomBook(tmp_path)
    with book.alone():
        (book.folder / "room.json").write_text('{"mark": 1}')

    with pytest.raises(StoreUnusable, match=r"room\.json is damaged"):
        book.read()


def test_two_calls_do_not_open_one_room(tmp_path: Path) -> None:
    with (
        RoomBook(tmp_path).alone(),
        pytest.raises(BadInput, match="another nightkiln up or down is at work"),
        RoomBook(tmp_path).alone(),
    ):
        pass


def test_what_is_started_survives_its_terminal_and_hears_signals_as_by_default(
    tmp_path: Path,
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell script's background has it
    try:
        with started(tmp_path, sys.executable, "-c", LISTENS, str(tmp_path)) as part:
            assert wait_until((tmp_path / "listens").exists, within_s=60)
            assert os.getsid(part.process.pid) == part.process.pid
            assert wait_until((tmp_path / "listens").read_text, within_s=60)
            assert "default_int_handler" in (tmp_path / "listens").read_text()

            assert tell(part.process, signal.SIGTERM)
            assert wait_until(lambda: has_ended(part.process), within_s=60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "told").exists()


def test_a_process_that_has_the_number_of_one_of_ours_hears_nothing(tmp_path: Path) -> None:
    with started(tmp_path) as stranger:
        ours = replace(stranger.process, mark="1")  # started at another time

        assert not tell(ours, signal.SIGKILL)
        assert not replace(stranger, process=ours).is_alive
        assert stranger.is_alive


def test_what_belongs_to_a_room_is_found_by_its_mark_alone(tmp_path: Path) -> None:
    run = {"PREFECT__FLOW_RUN_ID": "f1"}
    with (
        started(tmp_path, **{MARK: "a1b2:server"}) as server,
        started(tmp_path, **{MARK: "a1b2:worker", **run}) as flow,
        started(tmp_path, **{MARK: "another:server"}) as other,
    ):
        there = {each.process.pid: each for each in found("a1b2")}

    assert there.keys() == {server.process.pid, flow.process.pid}
    assert other.process.pid not in there
    assert there[server.process.pid].part == "server"
    assert (there[flow.process.pid].flow_run, there[flow.process.pid].is_leader) == ("f1", False)


class Deployed:
    """A server whose schedules are made anew, switched on, by whoever deploys."""

    def __init__(self, **active: bool) -> None:
        self.active = dict(active)
        self.made = 0

    def deploy(self) -> None:
        self.made += 1
        self.active = dict.fromkeys(self.active, True)

    def deployments(self) -> list[dict[str, object]]:
        return [
            {
                "name": name,
                "id": name,
                "schedules": [{"id": f"{name}-{self.made}", "slug": "nightly", "active": is_on}],
            }
            for name, is_on in self.active.items()
        ]

    def set_schedule(self, deployment_id: str, schedule_id: str, *, active: bool) -> None:
        assert schedule_id == f"{deployment_id}-{self.made}", "the one that is there now"
        self.active[deployment_id] = active


def test_a_schedule_that_is_off_stays_off_whoever_deploys_and_others_stay_on() -> None:
    server, said = Deployed(nightly=False, reap=True), list[str]()

    with kept_off(server, said.append):
        server.deploy()

    assert server.active == {"nightly": False, "reap": True}
    assert said == ["nightly: its schedule stays off, as it was"]


def test_a_schedule_stays_off_also_when_deploying_breaks_off_half_way() -> None:
    server = Deployed(nightly=False)

    def deploy() -> None:
        with kept_off(server, list[str]().append):
            server.deploy()
            raise RoomTrouble("the rest was refused")

    with pytest.raises(RoomTrouble):
        deploy()

    assert server.active == {"nightly": False}


TELLS: dict[str, Any] = {
    "name": "tell",
    "description": "tells",
    "trigger": {"type": "event"},
    "actions": [{"type": "send-notification", "block_document_id": "NOTIFY"}],
}
RUNS: dict[str, Any] = {
    "name": "resume",
    "description": "resumes",
    "trigger": {"type": "event"},
    "actions": [{"type": "run-deployment", "deployment_id": "resume/resume"}],
}
IDS: Mapping[str, str] = {"resume": "d-1"}


def after(there: list[dict[str, Any]], block_id: str | None = None) -> list[dict[str, Any]]:
    """Automations of a server once the file was applied."""
    standing = {each["name"]: each for each in there}
    for change in changes([TELLS, RUNS], there, block_id=block_id, deployments=IDS):
        if change.wanted is not None:
            before = standing.get(change.name, {"id": change.name, "enabled": True})
            standing[change.name] = {**before, **change.wanted}
    return list(standing.values())


def whats(there: list[dict[str, Any]], block_id: str | None = None) -> list[str]:
    """What is done, a word each."""
    shipped = [TELLS, RUNS]
    done = changes(shipped, there, block_id=block_id, deployments=IDS)
    return [change.what.partition(",")[0].partition(":")[0] for change in done]


def test_automations_are_applied_by_name_and_once() -> None:
    first = after([], "b-1")

    assert whats([], "b-1") == ["created", "created"]
    assert [each["actions"][0].get("block_document_id") for each in first] == ["b-1", None]
    assert first[1]["actions"][0]["deployment_id"] == "d-1"
    assert whats(first, "b-1") == ["there", "there"]
    assert whats(first, "b-2") == ["changed", "there"]


def test_without_a_block_nobody_is_told_until_there_is_one() -> None:
    assert whats([]) == ["left out", "created"]
    told_once = after([], "b-1")
    silent = after(told_once)

    assert whats(told_once) == ["switched off", "there"]
    assert [each["enabled"] for each in silent] == [False, True]
    assert whats(silent) == ["left out", "there"]
    assert [each["enabled"] for each in after(silent, "b-1")] == [True, True]


def test_what_a_user_has_switched_off_stays_off() -> None:
    off = [{**each, "enabled": False} for each in after([], "b-1")]

    assert whats(off, "b-1") == ["there", "there"]
    assert [each["enabled"] for each in after(off, "b-2")] == [False, False]
