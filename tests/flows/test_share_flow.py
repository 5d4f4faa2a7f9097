"""One share of a night as a flow run: what it tells, and how it ends when its night is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from nightkiln.core.sharing import Share
from nightkiln.store.shares import Orders, StopAsked, Ticket, order
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from tests.flows.asked import events_of

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


async def shared(folder: Path, night: str, orders: Orders, *workers: StandIn) -> Any:
    """Final state of the only share of a night."""
    from flows.share import share
    from tasks.params import BatchParams
    from tasks.share_params import ShareParams

    store = Store.open(str(folder / "store"), create=True)
    ticket = Ticket(Share(night, 1, 1), 1, 1)
    order(store.blobs, ticket, orders)
    batch = BatchParams(catalog=folder / "catalog", store=str(folder / "store"))
    urls = tuple(worker.url for worker in workers)
    flow: Any = share
    return await flow(ShareParams.for_ticket(ticket, batch, urls), return_state=True)


async def test_a_share_tells_of_lost_machines_and_leaves_begin_and_end_to_its_night(
    tmp_path: Path,
) -> None:
    write_catalog(tmp_path / "catalog", 12)
    night = f"night-{uuid4().hex[:8]}"
    async with StandIn(render_s=0.02) as good, StandIn(faults=("die@3",)) as mortal:
        state = await shared(tmp_path, night, Orders(1, None), good, mortal)
    async with StandIn() as server:
        after = await adhoc(tmp_path, f"{night}-1of1", server)

    async def are_told() -> bool:
        return "nightkiln.batch.finished" in await names_of(f"{night}-1of1")

    # Events arrive in order: what the share had told is there when the run after it is.
    await until(are_told, within_s=60)
    assert (state.is_completed(), after.is_completed()) == (True, True)
    assert await names_of(f"{night}-1of1") == [
        "nightkiln.lease.lost", "nightkiln.batch.started", "nightkiln.batch.finished",
    ]  # fmt: skip


async def names_of(batch: str) -> list[str]:
    return [str(event["event"]) for event in await events_of(batch)]


async def adhoc(folder: Path, name: str, server: StandIn) -> Any:
    """Final state of an ordinary run of a batch of that name."""
    from tests.flows.test_flows import ran

    return await ran("adhoc", folder / "catalog", folder / "store", server, name=name)


async def test_a_share_of_a_night_that_is_stopped_is_cancelled(tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog", 4)
    async with StandIn(render_s=30.0) as server:
        state = await shared(tmp_path, "stopped", Orders(2, None, stop=StopAsked.NOW), server)

    assert state.is_cancelled(), state.message
    assert "the night is stopped" in state.message
