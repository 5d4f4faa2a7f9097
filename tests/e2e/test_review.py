"""What a worker, a disk or a hasty user can do to a night that must not end it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from nightkiln import comfy_answers as answers
from nightkiln.core.errors import RenderFailed
from nightkiln.core.model import (
    AttemptId,
    BoundFile,
    BoundJob,
    Fault,
    InputFile,
    JobId,
    LeaseId,
    Need,
)
from nightkiln.observers import JsonLines
from nightkiln.providers.local import LocalProvider
from nightkiln.settings import Settings
from nightkiln.store.claims import claim_key
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.samples import write_catalog
from nightkiln.wiring import Request, chosen_catalog, run_batch


def entry(files: list[Any], *, stamps: tuple[Any, Any] = (1000, 2000), node: str = "9") -> Any:
    """A history entry of a job that left ``files``."""
    first, last = stamps
    return {
        "status": {
            "status_str": "success",
            "messages": [
                ["execution_start", {"timestamp": first}],
                ["execution_success", {"timestamp": last}],
            ],
        },
        "outputs": {node: {"images": files}},
    }


GOOD = {"filename": "a.png", "subfolder": "", "type": "output"}


@pytest.mark.parametrize(
    "hostile",
    [
        {**GOOD, "type": ["output"]},
        {**GOOD, "type": {}},
        {**GOOD, "filename": "\ud800.png"},
        {**GOOD, "subfolder": "\udfff"},
        {**GOOD, "filename": "a" * 100_000},
    ],
)
def test_a_file_that_cannot_be_asked_for_is_not_named(hostile: Any) -> None:
    assert [file.filename for file in answers.finished(entry([hostile, GOOD])).files] == ["a.png"]


def test_a_node_whose_id_is_no_text_names_no_file() -> None:
    with pytest.raises(RenderFailed, match="without any output file"):
        answers.finished(entry([GOOD], node="\ud800"))


def test_timestamps_too_large_for_a_clock_are_ignored() -> None:
    assert answers.finished(entry([GOOD], stamps=(0, 10**400))).gpu_s is None


async def test_an_input_file_that_has_gone_costs_its_job_and_not_the_night(tmp_path: Path) -> None:
    gone = BoundFile(InputFile(str(tmp_path / "gone.png"), "0" * 64, 3, ".png"), (("1", "image"),))
    job = BoundJob(JobId("1" * 64), {"1": {"class_type": "LoadImage", "inputs": {}}}, (gone,))
    async with StandIn() as server, LocalProvider([server.url]) as provider:
        [offer] = await provider.offers(Need(), limit=1)
        lease = await provider.rent(offer, LeaseId("lease-1"), Need(), expires_at_s=0.0)
        async with provider.connect(lease) as worker:
            with pytest.raises(RenderFailed, match="cannot be read") as failure:
                await worker.submit(job, AttemptId("night-1-0000001"))
    assert failure.value.fault is Fault.JOB


async def test_a_stop_file_that_cannot_be_read_ends_no_night(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 3), tmp_path / "store"
    Store.open(str(store), create=True)
    (store / claim_key("night", 1, "stop")).mkdir(parents=True)
    async with StandIn() as server:
        settings = Settings(store=str(store), worker_urls=(server.url,))
        request = Request(chosen_catalog(folder), name="night")
        outcome = await run_batch(request, settings, JsonLines(io.StringIO()))
    assert (outcome.exit_code, outcome.done) == (0, 3)
