"""Leases: counted, given back, and known to other processes by what was written down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nightkiln.core.errors import WorkerLost
from nightkiln.core.model import Lease, LeaseId
from nightkiln.providers.modal import Kind, ModalFailed, ModalProvider
from nightkiln.testing.modal import FakeModal
from tests.adapters.modal_provider.bench import (
    BEHIND,
    a_bench,
    left_behind,
    seen,
    with_new_containers,
    written,
)
from tests.adapters.modal_world import (
    HOUR_S,
    NEED,
    TERMS,
    a_provider,
    all_ended,
    lease_id,
    open_calls,
    until,
)

NOON_S = 1_800_000_000.0


@asynccontextmanager
async def a_reaper(modal: FakeModal, state: Path) -> AsyncIterator[ModalProvider]:
    """The reaper knows no catalog, so no environment either."""
    async with ModalProvider(*modal.token, TERMS, state=state, digest="") as reaper:
        yield reaper


async def test_releasing_cancels_what_is_outstanding_containers_and_all(
    modal: FakeModal, tmp_path: Path
) -> None:
    await with_new_containers(modal, render_s=30.0)
    async with a_bench(modal, tmp_path) as bench:
        ticket = await bench.submit()
        await until(lambda: BEHIND.is_rendering)

        await bench.provider.release([bench.lease.id])

        assert open_calls(modal) == []
        assert seen(modal, ticket).is_killed
        await until(lambda: all_ended(modal))


async def test_a_release_that_nobody_confirms_is_none(modal: FakeModal, tmp_path: Path) -> None:
    await with_new_containers(modal, render_s=30.0)
    async with a_bench(modal, tmp_path) as bench:
        ticket = await bench.submit()
        modal.add_faults("cancel_away")

        with pytest.raises(ModalFailed):
            await bench.provider.release([bench.lease.id])

        assert written(tmp_path) == [ticket]
        assert await bench.provider.owned() == [bench.lease.id]
        await bench.provider.release([bench.lease.id])
        assert open_calls(modal) == []


async def test_another_process_knows_and_ends_what_a_dead_one_has_left(
    modal: FakeModal, tmp_path: Path
) -> None:
    await with_new_containers(modal, render_s=30.0)
    lease, ticket = await left_behind(modal, tmp_path)

    async with a_reaper(modal, tmp_path) as reaper:
        assert not reaper.can_list
        [billed] = await reaper.billed()
        assert (billed.lease_id, billed.contract) == (lease.id, ticket)
        assert await reaper.owned() == [lease.id]

        await reaper.release([lease.id])

        assert await reaper.owned() == []
    assert open_calls(modal) == []
    assert seen(modal, ticket).is_killed
    assert written(tmp_path) == []


async def asks(reaper: ModalProvider, lease: Lease) -> list[LeaseId]:
    assert lease.id
    return list(await reaper.owned())


async def gives_back(reaper: ModalProvider, lease: Lease) -> None:
    await reaper.release([lease.id])


@pytest.mark.parametrize("verb", [asks, gives_back])
async def test_a_token_that_was_revoked_meanwhile_ends_no_call(
    modal: FakeModal, tmp_path: Path, verb: Callable[..., object]
) -> None:
    await with_new_containers(modal, render_s=30.0)
    lease, ticket = await left_behind(modal, tmp_path)

    async with a_reaper(modal, tmp_path) as reaper:
        await reaper.owned()
        modal.add_faults("auth")
        with pytest.raises(ModalFailed) as error:
            await verb(reaper, lease)  # type: ignore[misc]
        assert error.value.kind is Kind.WRONG_TOKEN
        assert written(tmp_path) == [ticket]

        modal.lift_faults()
        assert await reaper.owned() == [lease.id]
        await reaper.release([lease.id])
    assert open_calls(modal) == []


async def test_a_result_that_nobody_gives_away_leaves_its_call_open_for_the_release(
    modal: FakeModal, tmp_path: Path
) -> None:
    await with_new_containers(modal, render_s=30.0)
    async with a_bench(modal, tmp_path) as bench:
        ticket = await bench.submit()
        modal.add_faults("auth")
        with pytest.raises(WorkerLost, match="modal token new"):
            await bench.worker.result(ticket)

        modal.lift_faults()
        assert written(tmp_path) == [ticket]
        assert open_calls(modal) == [ticket]
        await bench.provider.release([bench.lease.id])
        assert open_calls(modal) == []


async def test_what_cannot_be_recalled_for_now_stays_written_down(
    modal: FakeModal, tmp_path: Path
) -> None:
    await with_new_containers(modal, render_s=30.0)
    lease, ticket = await left_behind(modal, tmp_path)

    async with a_provider(modal, tmp_path) as provider:
        await provider.ready()
        modal.add_faults("auth")
        with pytest.raises(ModalFailed, match="modal token new"):
            await provider.recall(ticket, within_s=10.0)
        assert written(tmp_path) == [ticket]

        modal.lift_faults()
        await provider.release([lease.id])
    assert open_calls(modal) == []


async def test_a_call_that_the_service_has_forgotten_can_be_released_once_it_is_too_old_to_run(
    modal: FakeModal, tmp_path: Path
) -> None:
    lease, ticket = await left_behind(modal, tmp_path)
    path = tmp_path / "modal" / "calls" / f"{ticket}.json"
    unknown = "fc-" + "9" * 22
    path.with_name(f"{unknown}.json").write_text(path.read_text().replace(ticket, unknown))

    async with a_reaper(modal, tmp_path) as reaper:
        with pytest.raises(ModalFailed):  # it may be another workspace's, and run there
            await reaper.release([lease.id])
    later = a_provider(modal, tmp_path, clock=lambda: time_of(path) + HOUR_S)
    async with later as provider:
        await provider.release([lease.id])

    assert written(tmp_path) == []


def time_of(path: Path) -> float:
    """Of the folder's last change."""
    return path.parent.stat().st_mtime


async def test_a_result_that_is_waiting_costs_nothing_and_is_not_listed(
    modal: FakeModal, tmp_path: Path
) -> None:
    lease, ticket = await left_behind(modal, tmp_path)
    await until(lambda: open_calls(modal) == [])

    async with a_provider(modal, tmp_path) as provider:
        assert written(tmp_path) == [ticket]
        assert await provider.owned() == []
        await provider.release([lease.id])


async def test_where_nothing_is_written_down_nobody_is_asked(
    modal: FakeModal, tmp_path: Path
) -> None:
    before = len(modal.requests)

    async with a_provider(modal, tmp_path) as provider:
        assert await provider.owned() == []

    assert len(modal.requests) == before


async def test_a_lease_counts_until_its_end_and_no_longer(modal: FakeModal, tmp_path: Path) -> None:
    now_s = NOON_S
    async with a_provider(modal, tmp_path, clock=lambda: now_s) as provider:
        [offer] = await provider.offers(NEED, limit=1)
        lease = await provider.rent(offer, lease_id(0), NEED, expires_at_s=NOON_S + 60)
        assert await provider.owned() == [lease.id]
        again = await provider.rent(offer, lease_id(0), NEED, expires_at_s=NOON_S + 120)
        now_s += 90
        still = await provider.owned()
        now_s += 60

        assert again == lease
        assert still == [lease.id]
        assert await provider.owned() == []
        with pytest.raises(WorkerLost):
            async with provider.connect(lease):
                pass
