"""The sweep as a flow: what it did is in its state, and in a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nightkiln.core.model import LeaseId
from nightkiln.lease_book import Entry, LeaseBook, Owner
from nightkiln.settings import load_settings
from nightkiln.store.store import Store
from nightkiln.testing.market import Night, shipped_market
from nightkiln.testing.market.night import Window
from nightkiln.testing.market.providers import ServiceFaults, SimulatedMarket, Stage
from nightkiln.testing.market.samples import HOUR_S, NEED, calm

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LEASE = LeaseId("nightly-1-lease-000")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of a Prefect worker that has rented before."""
    monkeypatch.setenv("NIGHTKILN_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("NIGHTKILN_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("VAST_API_KEY", raising=False)
    return tmp_path


async def swept(market: SimulatedMarket, **params: Any) -> Any:
    """State of a flow run that sweeps a market."""
    from prefect import flow
    from prefect.client.schemas.objects import State

    from tasks.reap import ReapParams, sweep
    from tasks.results import RESULTS

    @flow(name="sweeping", retries=0, persist_result=False, result_storage=RESULTS)
    async def sweeping() -> State[None]:
        return await sweep(ReapParams(**params), asks={"cloud": market})

    running: Any = sweeping
    return await running(return_state=True)


async def left_behind(folder: Path, market: SimulatedMarket) -> LeaseBook:
    """A run has ended, and one of its machines is still billed."""
    store = Store.open(str(folder / "store"), create=True)
    store.prepare(now_s=0.0)
    book = LeaseBook(load_settings().state_folder)
    async with market:
        offer = (await market.offers(NEED, limit=1))[0]
        entry = Entry(LEASE, "nightly", 1, str(folder / "store"), offer, 1e9, 1e9 + HOUR_S)
        book.intend(entry)
        await market.rent(offer, LEASE, NEED, expires_at_s=entry.expires_s)
        book.rented(LEASE, host="somewhere")
        book.alive(Owner("nightly", 1, str(folder / "store"), 1e9, has_ended=True))
    return book


async def test_what_nobody_wants_is_given_back_recorded_and_told(desk: Path) -> None:
    from tests.flows.test_flows import artifacts

    market = SimulatedMarket(Night(calm(shipped_market()), seed=1, horizon_s=HOUR_S), name="cloud")
    book = await left_behind(desk, market)

    state = await swept(market)

    assert state.is_completed(), state.message
    assert state.message == "1 given back, 0 were gone, 0 in use, 0 not ours"
    assert await market.owned() == []
    assert book.entries() == []
    left = await artifacts(state)
    [row] = json.loads(left["nightkiln-reap"].data)
    assert (row["lease"], row["verdict"], row["done"]) == (LEASE, "end", "given back")
    with Store.open(str(desk / "store")).connect() as con:
        rows = con.execute("select lease_id, reason from leases").fetchall()
    assert rows == [(LEASE, "its run has ended")]


async def test_a_service_that_is_away_fails_the_flow_which_somebody_may_be_told(desk: Path) -> None:
    night = Night(calm(shipped_market()), seed=1, horizon_s=HOUR_S)
    await left_behind(desk, SimulatedMarket(night, name="cloud"))
    faults = ServiceFaults(outages=(Window(0.0, 1e9),))
    away = SimulatedMarket(night, name="cloud", stage=Stage(faults=faults))

    state = await swept(away)

    assert state.is_failed()
    assert "cloud: not known what is billed" in state.message


async def test_where_nothing_is_rented_the_schedule_disturbs_nobody(desk: Path) -> None:
    from flows.reap import reap
    from tasks.reap import ReapParams

    flow: Any = reap
    state = await flow(ReapParams(), return_state=True)

    assert state.is_completed()
    assert "no provider that bills is set up" in state.message
    assert not (desk / "state").exists()


async def test_credentials_that_are_not_there_fail_the_sweep_with_what_to_do(desk: Path) -> None:
    market = SimulatedMarket(Night(calm(shipped_market()), seed=1, horizon_s=HOUR_S), name="cloud")
    await left_behind(desk, market)

    state = await swept(market, s3_block="no-such-block")

    assert state.is_failed()
    assert "there is no such block" in state.message
