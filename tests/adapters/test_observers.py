"""What people and programs are told while a batch runs."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace

from rich.console import Console

from nightkiln.core.model import Lease, LeaseId, Offer
from nightkiln.observers import JsonLines, PlainLines, Terminal
from nightkiln.observers.sentences import duration
from nightkiln.observers.terminal import WORKERS_SHOWN_MAX, picture
from nightkiln.ports.observer import Progress, WorkerProgress

LEASE = Lease(LeaseId("night-1-lease-000"), Offer("local", "http://near:8188"), "near:8188")


def progress(workers: int = 1) -> Progress:
    return Progress(
        batch="night",
        total=100,
        done=40,
        reused=5,
        failed=2,
        outputs=40,
        elapsed_s=60.0,
        images_per_minute=40.0,
        eta_s=93.0,
        workers=tuple(
            WorkerProgress(f"l{n}", f"host-{n}", "local", "RTX 4090", "ready", 40, 1, 3)
            for n in range(workers)
        ),
    )


def drawn(shown: Progress) -> str:
    console = Console(file=io.StringIO(), width=140)
    with console.capture() as captured:
        console.print(picture(shown))
    return captured.get()


def test_durations_read_like_durations() -> None:
    assert [duration(s) for s in (0.4, 59, 93, 3600, 7320)] == [
        "0s",
        "59s",
        "1m33s",
        "1h00m",
        "2h02m",
    ]


def test_people_are_told_what_machines_that_come_up_are_doing() -> None:
    coming = WorkerProgress("l9", "m17", "vast", "RTX 4090", "starting", 0, 0, 0, "being checked")
    shown = replace(progress(), workers=(*progress().workers, *[coming] * 5))
    out = io.StringIO()
    lines = PlainLines(out, clock=iter([0.0, 100.0]).__next__)

    asyncio.run(lines.progress(shown))

    assert "starting  RTX 4090  being checked" in drawn(shown)
    assert out.getvalue().endswith("m17 is being checked, m17 is being checked, and 2 more\n")


def test_the_terminal_shows_the_batch_and_every_worker() -> None:
    text = drawn(progress())

    assert "40/100 done, 5 reused, 2 failed, 53 left, 40 images/min, 1m33s left" in text
    assert "host-0" in text
    assert "RTX 4090" in text
    assert "3 running" in text


def test_a_large_fleet_is_summed_up() -> None:
    text = drawn(progress(workers=WORKERS_SHOWN_MAX + 30))

    assert "and 30 leases before these" in text


async def test_the_terminal_prints_what_happened_above_the_bars() -> None:
    console = Console(file=io.StringIO(), width=140, force_terminal=True)
    with Terminal(console) as terminal:
        async with terminal.lease(LEASE):
            await terminal.event("lease_lost", {"host": "near:8188", "error": "no answer"})
            await terminal.progress(progress())

    assert isinstance(console.file, io.StringIO)
    assert "near:8188 is lost: no answer" in console.file.getvalue()


async def test_plain_lines_tell_events_at_once_and_progress_now_and_then() -> None:
    out, now_s = io.StringIO(), [0.0]
    lines = PlainLines(out, clock=lambda: now_s[0])
    async with lines.lease(LEASE):
        await lines.progress(progress())
        now_s[0] = 11.0
        await lines.progress(progress())
        await lines.progress(progress())
        await lines.event("job_failed", {"job_id": "f" * 64, "fault": "job", "error": "refused"})
        await lines.event("unheard_of", {})

    assert out.getvalue().splitlines() == [
        "near:8188 is starting (local)",
        "40/100 done, 5 reused, 2 failed, 53 left, 40 images/min, 1m33s left",
        "job ffffffffffff is given up (job): refused",
    ]


async def test_json_lines_are_one_object_each_with_units_in_their_names() -> None:
    out = io.StringIO()
    lines = JsonLines(out)
    async with lines.lease(LEASE):
        await lines.progress(progress())

    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert first == {
        "event": "lease_starting",
        "lease_id": "night-1-lease-000",
        "provider": "local",
        "host": "near:8188",
    }
    assert (second["event"], second["left"], second["eta_s"]) == ("progress", 53, 93.0)
