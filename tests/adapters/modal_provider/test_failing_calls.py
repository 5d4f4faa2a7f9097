"""Calls that fail: whose fault that is, what is tried again, and what becomes of the container."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nightkiln.core.errors import ProviderError, RenderFailed, WorkerLost
from nightkiln.core.model import Fault, Loss
from nightkiln.providers.modal import ModalProvider
from nightkiln.providers.modal.contract import Asking, done, read_reply
from nightkiln.testing.modal import FakeModal
from tests.adapters.modal_provider.bench import (
    BEHIND,
    a_bench,
    a_slot,
    seen,
    with_new_containers,
)
from tests.adapters.modal_world import (
    ENVIRONMENT,
    HOUR_S,
    JOB,
    OTHER,
    TERMS,
    Behind,
    a_modal,
    a_provider,
    deployed,
    open_calls,
    rented,
)
from workers.modal_plan import CONTRACT

TOMORROW_S = 4e9
MB = 2**20


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("forbidden", "may not do this"),
        ("no_credit", "no credit"),
        ("spawn_away@2x4", "did not answer"),
        ("internal_failure@2", "a container was lost"),
        ("evicted@2", "was stopped"),
        ("expired@2", "has the result no more"),
    ],
)
async def test_a_call_that_fails_through_no_fault_of_its_job_loses_the_slot(
    modal: FakeModal, tmp_path: Path, fault: str, says: str
) -> None:
    await with_new_containers(modal, render_s=0.3)  # long enough to be struck meanwhile
    modal.add_faults(fault)
    with pytest.raises((WorkerLost, ProviderError), match=says):
        async with a_bench(modal, tmp_path) as bench:
            await bench.render()


async def test_a_container_that_runs_out_of_memory_blames_the_machine(
    modal: FakeModal, tmp_path: Path
) -> None:
    await with_new_containers(modal, render_s=0.3)
    async with a_bench(modal, tmp_path) as bench:
        modal.add_faults("oom")
        with pytest.raises(RenderFailed) as error:
            await bench.render()

    assert (error.value.fault, error.value.kind) == (Fault.MACHINE, "oom")


@pytest.mark.parametrize(
    "fault", ["spawn_rate", "spawn_blink", "poll_away@2", "preempted@1x4", "next_gpu"]
)
async def test_trouble_that_passes_costs_no_job(
    modal: FakeModal, tmp_path: Path, fault: str
) -> None:
    await with_new_containers(modal, render_s=0.3)
    name = fault.partition("@")[0]
    before = modal.struck.get(name, 0)
    modal.add_faults(fault)
    async with a_bench(modal, tmp_path) as bench:
        await bench.render()

    assert modal.struck[name] > before


@pytest.mark.parametrize("fault", ["blob_get_503@1", "blob_get_fails", "blob_short"])
async def test_a_large_result_arrives_whole_or_not_at_all(
    modal: FakeModal, tmp_path: Path, fault: str
) -> None:
    await with_new_containers(modal, size_mb=5.0)
    async with a_bench(modal, tmp_path) as bench:
        modal.add_faults(fault)
        try:
            await bench.render()
            is_whole = True
        except WorkerLost:
            is_whole = False

    assert is_whole == (fault == "blob_get_503@1")


# What the container says.


async def test_a_container_whose_comfyui_dies_takes_itself_out(
    modal: FakeModal, tmp_path: Path
) -> None:
    await with_new_containers(modal, faults=["die@1"])
    async with a_bench(modal, tmp_path) as bench:
        first = await bench.submit(0)
        with pytest.raises(WorkerLost, match="this container is broken"):
            await bench.worker.result(first)
        second = await bench.submit(1)
        with pytest.raises(WorkerLost, match="this container is broken"):
            await bench.worker.result(second)  # in another one, which dies as well

    assert set(seen(modal, first).begun_in).isdisjoint(seen(modal, second).begun_in)


async def test_a_comfyui_that_dies_between_two_jobs_is_found_out_before_the_next(
    tmp_path: Path,
) -> None:
    behind = Behind()
    one_that_waits = replace(TERMS, max_containers=1, scaledown_s=1200)  # also on a busy computer
    with a_modal(behind=behind) as modal:
        deployed(modal, terms=one_that_waits)
        async with a_bench(modal, tmp_path, one_that_waits) as bench:
            await bench.render(0)
            for one in behind.made:
                one.die()
            ticket = await bench.submit(1)
            with pytest.raises(WorkerLost, match="this container is broken"):
                await bench.worker.result(ticket)

    assert sum(len(one.submitted) for one in behind.made) == 1  # no second prompt came to it


async def test_a_start_that_fails_is_told_at_once_and_costs_one_start(
    modal: FakeModal, tmp_path: Path
) -> None:
    await with_new_containers(modal)
    BEHIND.is_there, before = False, len(modal.containers)
    async with a_slot(modal, tmp_path) as (provider, lease):
        with pytest.raises(WorkerLost, match="ComfyUI cannot be started") as error:
            async with provider.connect(lease):
                pass

    assert error.value.loss is Loss.STARTUP
    assert len(modal.containers) == before + 1


async def test_a_start_that_takes_too_long_is_called_off(modal: FakeModal, tmp_path: Path) -> None:
    await with_new_containers(modal)
    modal.add_faults("never_up")
    async with a_slot(modal, tmp_path) as (provider, lease):
        hurried = replace(lease, offer=replace(lease.offer, startup_s=1.0))
        with pytest.raises(WorkerLost) as error:
            async with provider.connect(hurried):
                pass
        assert open_calls(modal) == []
        modal.skip(HOUR_S)  # the container itself is given up when its start-up time is over

    assert error.value.loss is Loss.SLOW


# What the app refuses.


async def answered(modal: FakeModal, state: Path, request: dict[str, Any]) -> Any:
    """What the app says to a request, as it comes from its container."""
    async with a_provider(modal, state) as provider:
        await provider.ready()
        service = provider._service
        call_id = await service.spawn(request, gpu=None)
        return await service.result(call_id, wait_s=60.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"contract": CONTRACT + 1}, f"speaks contract {CONTRACT + 1}, and this app {CONTRACT}"),
        ({"environment": OTHER.digest}, f"was built for {ENVIRONMENT.digest[:12]}"),
    ],
)
async def test_the_app_refuses_what_is_not_for_it_and_renders_nothing(
    modal: FakeModal, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    await with_new_containers(modal)
    request = Asking(ENVIRONMENT.digest, MB).render(JOB, [], expires_at_s=TOMORROW_S)

    told = await answered(modal, tmp_path, {**request, **changes})

    assert told["status"] == "refused"
    with pytest.raises(RenderFailed, match=says) as error:
        done(read_reply(told, ENVIRONMENT.digest))
    assert error.value.fault is Fault.OURS
    assert "nightkiln modal deploy" in str(error.value)
    assert not BEHIND.is_rendering


async def test_an_app_that_only_looks_like_ours_is_refused_by_both_sides(
    modal: FakeModal, tmp_path: Path
) -> None:
    """Its name says the first digits of the environment that it is for, its reply all of them."""
    digest = ENVIRONMENT.digest[:32] + "0" * 32
    async with ModalProvider(*modal.token, TERMS, state=tmp_path, digest=digest) as provider:
        lease = await rented(provider, life_s=HOUR_S)
        with pytest.raises(WorkerLost, match="was built for another environment") as error:
            async with provider.connect(lease):
                pass
        await provider.release([lease.id])

    assert error.value.loss is Loss.STARTUP
    assert open_calls(modal) == []
