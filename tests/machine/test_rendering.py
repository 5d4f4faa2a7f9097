"""A stay on a rented machine: a real start script behind a real SSH server."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nightkiln.core.errors import WorkerLost
from nightkiln.core.model import Loss
from nightkiln.machine.dial import CHANGED
from nightkiln.machine.link import BROKEN, NOT_MENDED
from nightkiln.machine.rendering import rendering
from nightkiln.machine.stay import Stay
from nightkiln.testing.waiting import until
from nightkiln.verify import inspect
from tests.machine.place import QUICK, attempt, job, loss_of, open_files, place

SLOW_RENDER_S = 2.0


async def test_a_machine_lets_us_in_shows_itself_and_renders(tmp_path: Path) -> None:
    async with place(tmp_path) as here, rendering(here.stay()) as worker:
        result = await worker.result(await worker.submit(job(), attempt()))
        await result.outputs[0].save(tmp_path / "picture")

        assert inspect(tmp_path / "picture").media == "image/png"
        assert worker.gpu == "NVIDIA GeForce RTX 4090"
        assert worker.loading_s == 12.5
        assert [stage for stage in here.stages() if stage != "connection"] == [
            "gate", "link", "ready",
        ]  # fmt: skip


async def test_a_stay_leaves_no_task_and_no_socket_behind(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        tasks, files = asyncio.all_tasks(), open_files()

        async with rendering(here.stay()) as worker:
            await worker.result(await worker.submit(job(), attempt()))

        # The road's own ends close a moment later.
        await until(lambda: open_files() <= files and asyncio.all_tasks() <= tasks)


@pytest.mark.parametrize("stage", ["connection", "gate", "link", "ready"])
async def test_a_stay_that_is_cancelled_at_any_stage_ends_at_once(
    tmp_path: Path, stage: str
) -> None:
    async with place(tmp_path, trouble=frozenset({"comfy_never_up"} - {stage})) as here:
        if stage == "connection":
            here.road.cut()
        files, before = open_files(), asyncio.all_tasks()
        arriving = asyncio.create_task(_arrive(here.stay()))
        if stage == "ready":  # never, here: wait for what comes before it
            stage = "link"
        await until(lambda: stage in here.stages())

        arriving.cancel()
        async with asyncio.timeout(10.0):
            await asyncio.wait([arriving])

        assert arriving.cancelled()
        await until(lambda: open_files() <= files and asyncio.all_tasks() <= before)


async def _arrive(stay: Stay) -> None:
    async with rendering(stay):
        await asyncio.Event().wait()


async def test_a_connection_that_is_cut_is_mended_and_the_job_in_flight_survives(
    tmp_path: Path,
) -> None:
    async with place(tmp_path, seconds_per_job=SLOW_RENDER_S) as here:
        async with rendering(here.stay()) as worker:
            ticket = await worker.submit(job(), attempt())
            waiting = asyncio.create_task(worker.result(ticket))

            here.road.cut()
            await until(lambda: ("connection", {"state": "cut"}) in here.told)
            here.road.mend()
            result = await waiting
            await result.outputs[0].save(tmp_path / "picture")

        assert ("connection", {"state": "mended"}) in here.told
        assert inspect(tmp_path / "picture").media == "image/png"


async def test_a_picture_whose_way_is_cut_is_fetched_again(tmp_path: Path) -> None:
    async with place(tmp_path) as here, rendering(here.stay()) as worker:
        result = await worker.result(await worker.submit(job(), attempt()))

        here.road.cut_after_bytes_out = 2_000
        await result.outputs[0].save(tmp_path / "picture")

        assert ("connection", {"state": "cut"}) in here.told
        assert inspect(tmp_path / "picture").media == "image/png"


async def test_a_connection_that_goes_silent_is_mended_too(tmp_path: Path) -> None:
    async with place(tmp_path, seconds_per_job=SLOW_RENDER_S) as here, rendering(here.stay()) as it:
        waiting = asyncio.create_task(it.result(await it.submit(job(), attempt())))

        here.road.is_silent = True
        await until(lambda: ("connection", {"state": "cut"}) in here.told)
        here.road.mend()

        assert (await waiting).outputs


async def test_a_machine_that_is_dead_is_lost_while_its_worker_is_idle(tmp_path: Path) -> None:
    link = replace(QUICK.link, reconnect_s_max=0.5)
    async with place(tmp_path) as here:
        lost = await loss_of(here.stay(limits=replace(QUICK, link=link)), here.body.stop)

    assert str(lost) == NOT_MENDED


async def test_a_machine_whose_host_drops_everything_has_a_broken_network(tmp_path: Path) -> None:
    link = replace(QUICK.link, connect_s_max=0.3, broken_s=0.5)
    async with place(tmp_path) as here:
        lost = await loss_of(here.stay(limits=replace(QUICK, link=link)), here.body.freeze)

    assert str(lost) == BROKEN


async def test_a_machine_that_comes_back_as_another_is_not_let_in(tmp_path: Path) -> None:
    async with place(tmp_path) as here:

        async def changes_hands() -> None:
            here.body.host_key.unlink()
            here.road.to = await here.body.reboot()

        lost = await loss_of(here.stay(), changes_hands)

    assert str(lost) == CHANGED


async def test_another_process_holds_the_machine_to_the_same_host_key(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        async with rendering(here.stay()):
            pass
        here.body.host_key.unlink()
        here.road.to = await here.body.reboot()

        with pytest.raises(WorkerLost, match=CHANGED):
            async with rendering(here.stay()):
                pass


async def test_a_machine_may_come_back_under_another_address(tmp_path: Path) -> None:
    async with place(tmp_path, trouble=frozenset({"moves"})) as here, rendering(here.stay()):
        here.road.cut()
        here.road.to = await here.body.reboot()
        here.road.mend()

        await until(lambda: ("connection", {"state": "mended"}) in here.told)


async def test_a_machine_that_is_outbid_is_lost_at_once(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        stay = here.stay()

        async def is_outbid() -> None:
            stay.lose("outbid")

        lost = await loss_of(stay, is_outbid, within_s=2.0)

    assert (str(lost), lost.loss) == ("outbid", Loss.MARKET)


async def test_a_machine_that_is_outbid_before_it_answers_is_not_waited_for(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        here.road.cut()
        stay = here.stay()
        stay.lose("outbid")

        with pytest.raises(WorkerLost, match="outbid"):
            async with asyncio.timeout(2.0), rendering(stay):
                pass


async def test_an_error_of_the_block_leaves_as_it_is(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        with pytest.raises(ZeroDivisionError):
            async with rendering(here.stay()):
                _ = 1 / 0


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ({"gpu": "NVIDIA GeForce RTX 3060"}, "another GPU than offered: NVIDIA GeForce RTX 3060"),
        ({"trouble": frozenset({"busy_card"})}, "another tenant is on the card"),
        ({"cuda": "11.4"}, "the driver is older than CUDA 12.0"),
        ({"disk_gb": 20.0}, "a smaller disk than was rented"),
    ],
)
async def test_a_machine_that_is_not_as_offered_gets_no_job(
    tmp_path: Path, truth: dict[str, Any], said: str
) -> None:
    async with place(tmp_path, **truth) as here:
        with pytest.raises(WorkerLost, match=said) as lost:
            await _arrive(here.stay())

    assert lost.value.loss is Loss.STARTUP


@pytest.mark.nights
async def test_a_machine_whose_comfyui_never_comes_up_is_too_slow(tmp_path: Path) -> None:
    async with place(tmp_path, trouble=frozenset({"comfy_never_up"})) as here:
        with pytest.raises(WorkerLost, match="start-up time: waiting for ComfyUI") as lost:
            await _arrive(here.stay(startup_s=10.0))

    assert lost.value.loss is Loss.SLOW


async def test_a_port_that_swallows_packets_is_a_broken_network(tmp_path: Path) -> None:
    link = replace(QUICK.link, connect_s_max=0.3, broken_s=0.5)
    async with place(tmp_path, trouble=frozenset({"black_hole_port"})) as here:
        with pytest.raises(WorkerLost, match=BROKEN):
            async with rendering(here.stay(limits=replace(QUICK, link=link))):
                pass


async def test_a_machine_behind_a_slow_line_gets_no_job(tmp_path: Path) -> None:
    limits = replace(QUICK, link_mbps_min=64.0)
    async with place(tmp_path) as here:
        here.road.bytes_per_s = 1_000_000

        with pytest.raises(WorkerLost, match="fewer than 64 megabits a second"):
            async with rendering(here.stay(limits=limits)):
                pass


async def test_a_machine_whose_address_never_comes_is_too_slow(tmp_path: Path) -> None:
    async def nowhere() -> None:
        return None

    async with place(tmp_path) as here:
        with pytest.raises(WorkerLost, match=r"waiting for SSH \(no address yet\)") as lost:
            async with rendering(here.stay(where=nowhere, startup_s=0.5)):
                pass

    assert lost.value.loss is Loss.SLOW
