"""Nights that wait in Prefect for somebody's word, on a real server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from nightkiln.core.approval import Rules, Unanswered
from nightkiln.night import StopSwitch
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from tests.asking import ask
from tests.e2e.rental import Rental, Service
from tests.flows.asked import events_of

pytestmark = [
    pytest.mark.prefect,
    # Prefect's own, and its database driver's.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

JOBS, BUDGET, LITTLE = 6, 2.5, 0.001  # every quote here is above the last
YES = {"answer": "approve", "cap_usd": 0.75}


@dataclass
class Night:
    """One flow run that has to ask, its page, and the machines that it would rent."""

    folder: Path
    service: Service
    batch: str = field(default_factory=lambda: f"night-{uuid4().hex[:8]}")
    run_id: Any = None

    def start(self, rules: Rules | None = None) -> asyncio.Task[Any]:
        """As a deployment would; with ``rules``: instead of those of the form."""
        from prefect import flow, runtime
        from prefect.client.schemas.objects import State

        from tasks.approving import Asking
        from tasks.batch import batch, render, verdict
        from tasks.params import BatchParams
        from tasks.results import RESULTS

        params = BatchParams(
            catalog=self.folder / "catalog",
            store=str(self.folder / "store"),
            name=self.batch,
            budget=BUDGET,
            approve_above_usd=LITTLE,
        )

        @flow(name="asking", retries=0, persist_result=False, result_storage=RESULTS)
        async def asking() -> State[None]:
            self.run_id = runtime.flow_run.get_id()
            rents_from = {"cloud": Rental(self.service)}
            if rules is None:
                return await batch(params, is_nightly=False, rents_from=rents_from)
            outcome = await render(
                params,
                params.settings(),
                is_nightly=False,
                switch=StopSwitch(),
                consent=Asking(rules, poll_s=0.2),
                rents_from=rents_from,
            )
            return verdict(outcome, is_cancelled=False)

        running: Any = asking
        return asyncio.create_task(running(return_state=True))

    async def is_in(self, name: str) -> bool:
        from prefect.client.orchestration import get_client

        if self.run_id is None:
            return False
        async with get_client() as client:
            state = (await client.read_flow_run(self.run_id)).state
        await asyncio.sleep(0.1)
        return state is not None and state.name == name

    async def is_asked(self) -> None:
        await until(lambda: self.is_in("Paused"), within_s=60)

    async def said(self, answer: dict[str, Any]) -> str:
        """What the server makes of an answer: ACCEPT or REJECT."""
        from prefect.client.orchestration import get_client

        async with get_client() as client:
            return str((await client.resume_flow_run(self.run_id, run_input=answer)).status.value)

    async def form(self) -> tuple[str, dict[str, Any]]:
        """What the page shows: the text above the form, and its fields."""
        from prefect.client.orchestration import get_client

        async with get_client() as client:
            state = (await client.read_flow_run(self.run_id)).state
            assert state is not None
            assert state is not None
            keys = state.state_details.run_input_keyset
            assert keys is not None
            assert keys is not None
            read = [
                await client.read_flow_run_input(self.run_id, keys[part])
                for part in ("description", "schema")
            ]
        return json.loads(read[0]), json.loads(read[1])["properties"]

    async def told(self, name: str) -> dict[str, Any]:
        """The payload of an event, once it has come."""
        found: list[dict[str, Any]] = []

        async def has_come() -> bool:
            found[:] = [one for one in await events_of(self.batch) if one["event"] == name]
            return bool(found)

        await until(has_come, within_s=60)
        return dict(found[0]["payload"])

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return ask(Store.open(str(self.folder / "store")), sql)


@asynccontextmanager
async def night(folder: Path) -> AsyncIterator[Night]:
    write_catalog(folder / "catalog", JOBS)
    async with StandIn(render_s=0.01) as worker:
        yield Night(folder, Service([worker.url]))


async def test_a_dear_night_waits_for_a_yes_and_spends_no_more_than_was_said(
    tmp_path: Path,
) -> None:
    async with night(tmp_path) as one:
        running = one.start()
        await one.is_asked()
        text, fields = await one.form()
        refused = [
            await one.said({}),
            await one.said({"answer": "perhaps"}),
            await one.said({"answer": "approve", "cap_usd": BUDGET + 1}),
        ]
        verbs = list(one.service.verbs)
        accepted = await one.said(YES)
        state = await running

    assert f"May batch `{one.batch}` spend up to 2.5 USD?" in text
    assert "| cost, USD | 0.0" in text
    assert list(fields) == ["answer", "cap_usd"]
    assert fields["cap_usd"]["default"] == BUDGET
    assert "default" not in fields["answer"], "a yes has to be meant"
    assert (refused, accepted) == (["REJECT"] * 3, "ACCEPT")
    assert verbs == [], "nothing is rented, nor looked for, while it waits"
    assert state.is_completed(), state.message
    assert one.ask("select verdict, budget_usd from quotes") == [("taken", Decimal("0.75"))]
    approved = await one.told("nightkiln.batch.approved")
    assert (approved["budget_usd"], approved["how"]) == (0.75, "asked")


async def test_a_no_rents_nothing_and_says_so(tmp_path: Path) -> None:
    async with night(tmp_path) as one:
        running = one.start()
        await one.is_asked()
        await one.said({"answer": "refuse"})
        state = await running

    assert state.is_failed()
    assert "was refused by whoever was asked" in state.message
    assert one.service.verbs == []
    assert one.ask("select verdict from quotes") == [("declined",)]
    assert (await one.told("nightkiln.batch.refused"))["how"] == "asked"


async def test_without_an_answer_in_time_nothing_is_rendered(tmp_path: Path) -> None:
    rules = Rules(above=Decimal(str(LITTLE)), within_s=1.0)
    async with night(tmp_path) as one:
        state = await one.start(rules)

    assert state.is_failed()
    assert "was not answered within 1s" in state.message
    assert one.service.verbs == []


async def test_without_an_answer_the_part_is_rendered_that_needs_none(tmp_path: Path) -> None:
    rules = Rules(Decimal("0.01"), within_s=1.0, unanswered=Unanswered.PART)
    async with night(tmp_path) as one:
        state = await one.start(rules)

    assert state.name in {"Completed", "Failed"}, state.message  # as far as a cent goes
    assert one.service.rented == {}
    assert one.ask("select verdict, budget_usd from quotes") == [("taken", Decimal("0.01"))]
    assert one.ask("select coalesce(sum(usd), 0) <= 0.01 from leases") == [(True,)]
    assert (await one.told("nightkiln.batch.approved"))["how"] == "part"


async def test_a_run_that_is_told_to_end_while_it_waits_is_cancelled_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    """As when somebody presses Cancel: Prefect then sends SIGTERM."""
    async with night(tmp_path) as one:
        running = one.start()
        await one.is_asked()
        os.kill(os.getpid(), signal.SIGTERM)
        state = await running

    assert state.is_cancelled(), state.message
    assert "rent" not in one.service.verbs
    assert one.ask("select count(*) from leases") == [(0,)]
    [(ended, exit_code)] = one.ask("select ended_at is not null, exit_code from batches")
    assert (ended, exit_code) == (True, 3)


async def test_a_run_let_go_on_by_hand_asks_again_and_cancelled_there_it_ends(
    tmp_path: Path,
) -> None:
    """Nobody said yes to the first; of the second no signal came, as after an outage."""
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling, Running

    async with night(tmp_path) as one:
        running = one.start()
        await one.is_asked()
        async with get_client() as client:
            await client.set_flow_run_state(one.run_id, Running())
            await one.is_asked()
            await client.set_flow_run_state(one.run_id, Cancelling())
        state = await running

    assert state.is_cancelled(), state.message
    assert one.service.verbs == []


async def test_a_night_over_the_months_budget_is_refused_and_somebody_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTKILN_BUDGET_PER_MONTH", "0.01")
    async with night(tmp_path) as one:
        state = await one.start()

    assert state.is_failed()
    assert "budget_per_month 0.01: 0.00 of 0.01 USD are spent in " in state.message
    assert one.service.verbs == []
    assert (await one.told("nightkiln.batch.refused"))["how"] == "month"
    assert "budget_per_month" in (await one.told("nightkiln.batch.refused"))["why"]
    refusals = [each for each in await events_of(one.batch) if "refused" in each["event"]]
    assert len(refusals) == 1, "whoever is notified is told once"
