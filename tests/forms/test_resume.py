"""What the flow ``resume`` does about a crash: no server, no waiting, a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Crashed

from nightkiln.core.resuming import MARGIN_S
from nightkiln.core.sharing import Share
from nightkiln.lease_book import LeaseBook
from nightkiln.store.claims import STALE_S, claim_json, claim_key, write_ended
from nightkiln.store.processes import this_process
from nightkiln.store.shares import Orders, Ticket, order, split_into, take
from nightkiln.store.store import Store
from nightkiln.testing import virtual_time
from nightkiln.testing.samples import write_catalog
from tasks.resume import LOOK_EVERY_S, Resuming
from tests.adapters.test_month import Books

BEGAN = datetime(2026, 11, 21, 23, 10, tzinfo=UTC)
CRASHED = datetime(2026, 11, 22, 1, tzinfo=UTC)
NIGHT = "sample-2026-11-21"
ELSEWHERE = replace(this_process(), host="another-computer")  # nobody here can prove it dead


@dataclass
class Server:
    """As much of Prefect's server as is asked."""

    run: FlowRun
    flow: str = "nightly"
    heard_after_s: float = float("inf")  # the run gives a sign of life
    retried_after_s: float = float("inf")  # somebody presses Retry
    states: list[State[Any]] = field(default_factory=list)

    async def read_flow_run(self, run_id: UUID) -> FlowRun:
        assert run_id == self.run.id
        if seconds() >= self.retried_after_s:
            return self.run.model_copy(update={"state": State(type=StateType.SCHEDULED)})
        return self.run

    async def read_flow(self, flow_id: UUID) -> Any:
        assert flow_id == self.run.flow_id
        return SimpleNamespace(name=self.flow)

    async def request(self, verb: str, path: str, *, json: Mapping[str, Any]) -> Any:
        assert (verb, path) == ("POST", "/events/filter")
        assert json["filter"]["resource"] == {"id": [f"prefect.flow-run.{self.run.id}"]}
        events: list[Any] = [{}] if seconds() >= self.heard_after_s else []
        return SimpleNamespace(json=lambda: {"events": events})

    async def set_flow_run_state(self, run_id: UUID, state: State[Any], *, force: bool) -> None:
        assert force
        assert run_id == self.run.id
        self.states.append(state)


@dataclass
class Room:
    """A night that crashed at one o'clock, as it is looked at three seconds later."""

    folder: Path
    params: dict[str, Any]
    store: Store
    server: Server
    begun: list[Mapping[str, Any]] = field(default_factory=list)
    took_s: float = 0.0

    def claimed(self, *, alive: datetime = CRASHED) -> None:
        """By a process on another computer that gave its last sign of life then."""
        self.store.blobs.create(claim_key(NIGHT, 1), claim_json(ELSEWHERE, alive.timestamp()))

    def resumed(self) -> str:
        """What the flow says, in no time at all."""

        async def begins(run: FlowRun, params: Mapping[str, Any]) -> UUID:
            assert run.id == self.server.run.id
            self.begun.append(params)
            return uuid4()

        async def looks() -> str:
            looking = Resuming(self.server, begins, now_s)
            state = await looking.resumed(self.server.run.id)
            self.took_s = seconds()
            return str(state.message)

        return virtual_time.run(looks())


def seconds() -> float:
    """Since the flow ``resume`` began."""
    return asyncio.get_running_loop().time()


def now_s() -> float:
    return CRASHED.timestamp() + 3.0 + seconds()


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.setenv("NIGHTKILN_STATE", str(tmp_path / "state"))
    store = Store.open(str(tmp_path / "store"), create=True)
    params = {
        "catalog": str(write_catalog(tmp_path / "sample", 2)),
        "store": store.uri,
        "timezone": "UTC",
        "budget": 12.0,
        "by": "07:00",
    }
    crashed: State[Any] = Crashed(message="killed", timestamp=CRASHED)
    run = FlowRun(
        flow_id=uuid4(),
        deployment_id=uuid4(),
        name="tonight",
        start_time=BEGAN,
        state=crashed,
        parameters={"params": params},
    )
    return Room(tmp_path, params, store, Server(run))


def test_a_night_that_crashed_after_midnight_goes_on_as_the_night_that_it_was(room: Room) -> None:
    said = room.resumed()

    assert "is resumed, once" in said
    [again] = room.begun
    assert (again["name"], again["by"]) == (NIGHT, "2026-11-22T07:00:00+00:00")
    assert again["budget"] == 12.0
    assert room.took_s == 0.0


def test_who_goes_on_is_held_to_what_was_agreed_to_less_what_is_spent(room: Room) -> None:
    books = Books(room.store, LeaseBook(room.folder / "state"))
    books.agreed(NIGHT, 1, "5.00", made_s=BEGAN.timestamp() + 600.0)
    books.cost("1.25", "2026-11-21T23:30", "2026-11-22T01:00", batch=NIGHT)

    assert "is resumed, once" in room.resumed()

    assert [again["budget"] for again in room.begun] == [3.75]


def test_several_controllers_go_on_in_their_round_with_its_whole_budget(room: Room) -> None:
    """What the round has spent it counts itself."""
    room.params["controllers"] = 2
    books = Books(room.store, LeaseBook(room.folder / "state"))
    share, blobs = Share(NIGHT, 1, 2), room.store.blobs
    ticket = Ticket(share, 1, 1, split_into(blobs, NIGHT, wanted=2).mark)
    order(blobs, ticket, Orders(1, Decimal(6)))
    take(blobs, ticket, ELSEWHERE)
    blobs.create(claim_key(share.batch, 1), claim_json(ELSEWHERE, BEGAN.timestamp()))
    books.cost("1.25", "2026-11-21T23:30", "2026-11-22T01:00", batch=share.batch)

    assert "is resumed, once" in room.resumed()

    assert [again["budget"] for again in room.begun] == [12.0]


def test_a_run_that_died_on_another_computer_is_resumed_once_its_claim_is_stale(room: Room) -> None:
    room.claimed(alive=CRASHED - timedelta(seconds=2))

    assert "is resumed, once" in room.resumed()

    assert [again["name"] for again in room.begun] == [NIGHT]
    assert STALE_S - 5.0 < room.took_s < STALE_S
    assert room.server.states == []


def test_a_run_that_is_heard_of_is_running_again_and_not_resumed(room: Room) -> None:
    room.claimed()
    room.server.heard_after_s = 20.0

    assert "out of reach only, and is Running again" in room.resumed()

    assert room.begun == []
    assert [state.type for state in room.server.states] == [StateType.RUNNING]
    assert room.took_s < 20.0 + LOOK_EVERY_S + 1.0


def test_a_batch_that_another_run_works_on_is_left_to_that(room: Room) -> None:
    room.claimed(alive=CRASHED + timedelta(hours=1))  # its clock is ahead: it goes on and on

    assert "is being worked on by another-computer" in room.resumed()

    assert room.begun == []
    assert STALE_S + MARGIN_S <= room.took_s < STALE_S + MARGIN_S + 2 * LOOK_EVERY_S


def test_who_presses_retry_meanwhile_is_not_got_in_the_way_of(room: Room) -> None:
    room.claimed()
    room.server.retried_after_s = 10.0

    assert "it is Scheduled by now" in room.resumed()

    assert room.begun == []


def test_a_batch_whose_run_has_said_that_it_ended_is_resumed_at_once(room: Room) -> None:
    room.claimed()
    write_ended(room.store.blobs, NIGHT, 1, {"exit_code": None})

    assert "is resumed, once" in room.resumed()

    assert room.took_s == 0.0
