"""Calls: written down, waited for, cancelled, too large, too late; with the real app behind."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nightkiln.core.errors import RenderFailed, WorkerLost
from nightkiln.core.model import BoundFile, BoundJob, Fault, InputFile, JobId, Loss
from nightkiln.testing.modal import FakeModal
from tests.adapters.modal_provider.bench import (
    BEHIND,
    a_bench,
    a_slot,
    left_behind,
    seen,
    with_new_containers,
    written,
)
from tests.adapters.modal_world import (
    ENVIRONMENT,
    HOUR_S,
    TERMS,
    a_provider,
    attempt,
    open_calls,
    requests,
    until,
)

MB = 2**20
LONGEST_S = TERMS.startup_timeout_s + TERMS.timeout_s  # what a call can cost at most


@dataclass
class Clock:
    """A computer's, which somebody sets."""

    offset_s: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset_s


async def test_a_result_says_where_on_what_and_by_which_version_it_was_made(
    modal: FakeModal, tmp_path: Path
) -> None:
    async with a_bench(modal, tmp_path) as bench:
        made = await bench.render()

    assert made.place is not None
    container, version, tag = made.place.host.split()
    assert container in {one.container_id for one in modal.containers}
    assert (version, made.place.gpu) == ("v1", "NVIDIA L40S")
    assert tag == f"git-c0ffee-env-{ENVIRONMENT.digest[:16]}"
    assert bench.lease.host.startswith("nightkiln v1 ")


async def test_a_ticket_is_written_down_before_anybody_waits_for_it(
    modal: FakeModal, tmp_path: Path
) -> None:
    async with a_bench(modal, tmp_path) as bench:
        ticket = await bench.submit()
        told = json.loads((tmp_path / "modal" / "calls" / f"{ticket}.json").read_text())
        await bench.worker.result(ticket)
        await bench.worker.forget(ticket)

        assert (told["lease_id"], told["what"]) == (bench.lease.id, attempt(0))
        assert told["expires_s"] - told["submitted_s"] == pytest.approx(LONGEST_S)
        assert written(tmp_path) == []


async def test_a_second_provider_fetches_what_the_first_has_paid_for(
    modal: FakeModal, tmp_path: Path
) -> None:
    lease, ticket = await left_behind(modal, tmp_path)
    spawned = requests(modal, "FunctionMap")

    async with a_provider(modal, tmp_path) as provider:
        made = await provider.recall(ticket, within_s=10.0)

        assert made is not None
        assert len(made.outputs) == 1
        assert requests(modal, "FunctionMap") == spawned  # nothing was paid again
        await provider.release([lease.id])


async def test_what_is_recalled_in_vain_is_over(modal: FakeModal, tmp_path: Path) -> None:
    await with_new_containers(modal, render_s=30.0)
    _, ticket = await left_behind(modal, tmp_path)

    async with a_provider(modal, tmp_path) as provider:
        assert await provider.recall(ticket, within_s=0.5) is None
        assert open_calls(modal) == []
        assert written(tmp_path) == []


async def test_a_call_that_comes_too_late_is_not_rendered(modal: FakeModal, tmp_path: Path) -> None:
    clock = Clock()
    async with a_bench(modal, tmp_path, clock=clock) as bench:
        clock.offset_s = -LONGEST_S  # so that what is handed over now ends now
        prompts = sum(len(one.submitted) for one in BEHIND.made)
        with pytest.raises(WorkerLost, match="too late"):
            await bench.render()

    assert sum(len(one.submitted) for one in BEHIND.made) == prompts


async def test_a_container_that_comes_up_too_late_is_nobodys_fault(
    modal: FakeModal, tmp_path: Path
) -> None:
    async with a_slot(modal, tmp_path, clock=Clock(-LONGEST_S)) as (provider, lease):
        with pytest.raises(WorkerLost, match="came too late") as error:
            async with provider.connect(lease):
                pass

    assert error.value.loss is Loss.SLOW
    assert "deploy" not in str(error.value)  # which would not help


async def test_no_start_is_begun_that_the_rest_of_the_lease_does_not_pay(
    modal: FakeModal, tmp_path: Path
) -> None:
    clock = Clock()
    async with a_bench(modal, tmp_path, clock=clock) as bench:
        await bench.render(0)
        clock.offset_s = HOUR_S - bench.lease.offer.startup_s  # its container is long gone
        spawned = requests(modal, "FunctionMap")

        with pytest.raises(WorkerLost, match="too few for another start") as error:
            await bench.render(1)

    assert error.value.loss is Loss.MARKET
    assert requests(modal, "FunctionMap") == spawned


async def test_a_container_that_waits_is_used_to_the_end_of_the_lease(
    modal: FakeModal, tmp_path: Path
) -> None:
    clock = Clock()
    async with a_bench(modal, tmp_path, replace(TERMS, scaledown_s=3600), clock=clock) as bench:
        clock.offset_s = HOUR_S - bench.lease.offer.startup_s

        assert (await bench.render()).outputs


async def test_input_files_go_along(modal: FakeModal, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * MB)  # far more than a call holds inline
    digest = hashlib.sha256(picture.read_bytes()).hexdigest()
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "bound"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    file = InputFile(str(picture), digest, picture.stat().st_size, ".png")
    job = BoundJob(JobId("1" * 64), graph, (BoundFile(file, (("1", "image"),)),))

    async with a_bench(modal, tmp_path) as bench:
        try:
            await bench.render(job=job)
        except RenderFailed as error:  # the stand-in cannot read such a picture, but it had it
            assert "LoadImage" in str(error)  # noqa: PT017
    assert requests(modal, "BlobCreate") > 0


async def test_a_large_result_comes_through_a_blob(modal: FakeModal, tmp_path: Path) -> None:
    await with_new_containers(modal, size_mb=5.0)
    async with a_bench(modal, tmp_path) as bench:
        made = await bench.render()
        await made.outputs[0].save(tmp_path / "large.png")

    assert (tmp_path / "large.png").stat().st_size > 4 * MB
    assert requests(modal, "BlobGet") > 0


async def test_a_result_that_is_too_large_is_told(modal: FakeModal, tmp_path: Path) -> None:
    await with_new_containers(modal, size_mb=5.0)
    async with a_bench(modal, tmp_path, replace(TERMS, result_bytes_max=MB)) as bench:
        with pytest.raises(RenderFailed, match="modal_result_mb_max") as error:
            await bench.render()

    assert error.value.fault is Fault.JOB


async def test_a_job_that_is_cancelled_is_over_and_its_container_stays(
    modal: FakeModal, tmp_path: Path
) -> None:
    await with_new_containers(modal, render_s=30.0)
    async with a_bench(modal, tmp_path) as bench:
        ticket = await bench.submit()
        await until(lambda: BEHIND.is_rendering)
        await bench.worker.cancel(ticket)

        assert open_calls(modal) == []
        assert not seen(modal, ticket).is_killed
