"""``nightkiln up`` and ``down`` where nothing comes to be started: what is wrong is said."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from nightkiln import cli
from nightkiln.room.book import Room, RoomBook
from nightkiln.room.checking import package_problems
from nightkiln.room.standing import Night, scheduled
from nightkiln.room.standing import nights as stands
from nightkiln.settings import load_settings
from nightkiln.testing.environ import environ
from tests.docs.shown import free_port

ROOT = Path(__file__).resolve().parents[2]
CLOCK = {"schedule": {"cron": "15 2 * * *", "timezone": "Europe/Berlin"}, "active": True}


@pytest.fixture
def port() -> Iterator[str]:
    """One that somebody else's server has."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield str(taken.getsockname()[1])


def called(folder: Path, *words: str, **environment: str) -> tuple[int, str]:
    """Exit code and all that is written; nothing may have been started."""
    state = folder / "state"
    said, code = io.StringIO(), 0
    told = {"NIGHTKILN_STATE": str(state), **environment}
    with environ(told), redirect_stdout(said), redirect_stderr(said):
        try:
            cli.main(words)
        except SystemExit as end:
            code = int(end.code) if end.code is not None else 0
    room = RoomBook(state).read()
    assert (room.server, room.worker) == (None, None)
    return code, said.getvalue()


def test_without_a_checkout_and_on_a_taken_port_both_is_said_and_nothing_started(
    tmp_path: Path, port: str
) -> None:
    code, said = called(tmp_path, "up", "--checkout", str(tmp_path), "--port", port)

    assert code == 2
    assert "has no prefect.yaml, flows, tasks" in said
    assert "--checkout" in said
    assert f"port {port}: somebody else's server has it" in said
    assert "give another with --port" in said


def test_a_server_that_others_reach_wants_a_password_first(tmp_path: Path) -> None:
    words = ("up", "--checkout", str(ROOT), "--host", "0.0.0.0", "--port", free_port())  # noqa: S104

    code, said = called(tmp_path, *words)

    assert code == 2
    assert "whoever reaches it could start flows with your keys" in said
    assert "PREFECT_SERVER_API_AUTH_STRING" in said


def test_a_database_that_does_not_answer_is_said_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql://kiln:sesame@127.0.0.1:{free_port()}/prefect"
    words = ("up", "--checkout", str(ROOT), "--port", free_port())

    code, said = called(tmp_path, *words, NIGHTKILN_DATABASE=url)

    assert code == 2
    assert "nothing answers at 127.0.0.1" in said
    assert "sesame" not in said


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    code, said = called(tmp_path, "up", "--checkout", str(ROOT), "--database", "mysql://h/db")

    assert code == 2
    assert "names no PostgreSQL database" in said


def test_a_room_that_was_never_opened_is_down_and_needs_no_ending(tmp_path: Path) -> None:
    code, said = called(tmp_path, "up", "--status")
    assert code == 2
    assert "Prefect server down, Prefect worker down" in said
    assert "nightkiln up starts what is down" in said

    code, said = called(tmp_path, "down")
    assert code == 0
    assert "nothing was up" in said


def test_down_ends_runs_in_one_way(tmp_path: Path) -> None:
    code, said = called(tmp_path, "down", "--wait", "--now")

    assert code == 2
    assert "give one" in said


def test_packages_that_are_missing_or_too_new_are_told_with_the_reason() -> None:
    wanted = (
        ("prefect-that-is-not-there", (1,), (2,), "it runs flows"),
        ("httpx", (0,), (0, 1), "a newer one says nothing"),
        ("pyyaml", (1,), (99,), "fine"),
    )

    missing, newer = package_problems(wanted)

    assert (missing.where, missing.what) == ("prefect-that-is-not-there", "is not installed")
    assert newer.what == "a newer one says nothing"
    assert "nightkiln[prefect]" in newer.fix
    assert list(package_problems()) == []


def deployed(name: str, params: Mapping[str, Any], *schedules: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "schedules": schedules or (CLOCK,), "parameters": {"params": params}}


def nights(params: Mapping[str, Any], **environment: str) -> tuple[str, str | None]:
    """What is said of a deployed nightly, and what it may spend."""
    with environ(environment):
        told = stands([deployed("nightly", params)], load_settings)
    return told.says, str(told.usd_max) if told.usd_max is not None else None


def test_a_night_with_a_key_and_no_budget_rents_nothing() -> None:
    says, usd = nights({"catalog": "catalogs/parti"}, VAST_API_KEY="key")

    assert "at 02:15 Europe/Berlin" in says
    assert "nothing is rented, as no budget is set" in says
    assert usd is None


@pytest.mark.parametrize("params", [{}, {"budget": 0}])
def test_a_budget_that_is_set_is_said_in_capitals(params: dict[str, Any]) -> None:
    says, usd = nights(params, VAST_API_KEY="key", NIGHTKILN_BUDGET="2.50")

    assert "RENTS from vast for up to 2.50 USD" in says
    assert usd == "2.50"


def test_the_parameters_of_a_night_win_over_the_environment() -> None:
    local = {"kind": "local", "worker_urls": ["http://127.0.0.1:8188"]}
    says, usd = nights(
        {"providers": ["local"], "options": local}, VAST_API_KEY="key", NIGHTKILN_BUDGET="2"
    )
    assert "on your own workers" in says
    assert usd is None

    says, usd = nights({"budget": 7.5, "vast_block": "vast"})
    assert "RENTS from vast for up to 7.5 USD" in says
    assert usd == "7.5"


def test_a_night_that_has_nowhere_to_render_is_said_to_end_at_once() -> None:
    says, usd = nights({})

    assert "would end at once" in says
    assert usd is None


def test_a_schedule_that_is_off_rents_nothing() -> None:
    off = {"name": "nightly", "schedules": [{**CLOCK, "active": False}], "parameters": {}}
    paused = {"name": "nightly", "schedules": [CLOCK], "paused": True, "parameters": {}}

    for nightly in (off, paused):
        assert "is off" in stands([nightly], load_settings).says


def test_of_several_nights_each_is_said_and_all_that_they_may_spend_together() -> None:
    nightly = deployed("nightly", {"budget": 2.5})
    off = deployed("holidays", {"budget": 9}, {**CLOCK, "active": False})
    portraits = deployed("portraits", {"budget": 12})
    with environ({"VAST_API_KEY": "key"}):
        told = stands([portraits, off, nightly], load_settings)

    assert "nightly begins at 02:15 Europe/Berlin; it RENTS from vast for up to 2.5" in told.says
    assert "portraits begins at 02:15 Europe/Berlin; it RENTS from vast for up to 12" in told.says
    assert "the schedule of holidays is off" in told.says
    assert told.says.endswith("All together: up to 14.5 USD")
    assert told.usd_max == Decimal("14.5")


def test_the_parameters_of_a_schedule_replace_those_of_its_deployment() -> None:
    dear = {**CLOCK, "parameters": {"params": {"budget": 8}}}
    with environ({"VAST_API_KEY": "key"}):
        one = stands([deployed("nightly", {"budget": 2}, dear)], load_settings)
        both = stands([deployed("nightly", {"budget": 2}, CLOCK, dear)], load_settings)

    assert (one.usd_max, both.usd_max) == (Decimal(8), Decimal(10))


def test_workers_of_ones_own_are_found_among_the_options_of_several_providers() -> None:
    local = {"kind": "local", "worker_urls": ["http://127.0.0.1:8188"]}
    says, usd = nights({"providers": ["local"], "options": {"kind": "several", "local": local}})

    assert "on your own workers" in says
    assert usd is None


def test_a_night_is_known_by_its_flow_whatever_its_deployment_is_called(tmp_path: Path) -> None:
    copy = {**deployed("portraits", {"budget": 12}), "entrypoint": "flows.nightly:nightly"}
    strange = {**deployed("nightly", {"budget": 99}), "entrypoint": "elsewhere.py:nightly"}
    room = Room(mark="a1", salt="s", checkout=str(tmp_path))
    with environ({"VAST_API_KEY": "key"}):
        told = scheduled(room, [copy, strange])

    assert told.usd_max == Decimal(12)
    assert scheduled(room, [strange]) == Night("no night is scheduled: nothing is rented")
