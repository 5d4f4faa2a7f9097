"""What a batch leaves in Prefect when it is over: receipt, failures, gallery, the last event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from nightkiln.deadline import shown_zone
from nightkiln.gallery import Facts
from nightkiln.gallery.making import make_gallery, usual_folder, usual_link
from nightkiln.markdown import cell
from nightkiln.night import STOPPED_EARLY, Outcome
from nightkiln.receipt import Reason, Receipt, receipt_of
from nightkiln.receipt_page import headline, page
from nightkiln.settings import Settings
from nightkiln.store.shared_views import shares_of
from nightkiln.store.store import Store
from nightkiln.wiring import open_store
from tasks.event_table import EVENTS
from tasks.events import emitted
from tasks.showing.writer import CLOSE_S_MAX, HURRY_S_MAX, Page, Writer

RECEIPT_KEY, FAILURES_KEY = "nightkiln-receipt", "nightkiln-failures"
GALLERY_KEY = "nightkiln-gallery"
RECEIPT_S_MAX = 120.0
GALLERY_S_MAX = 300.0
GALLERY_TILES_MAX = 5_000  # more pictures are for `nightkiln gallery`, when somebody wants them


async def leave(
    outcome: Outcome, settings: Settings, *, is_hurried: bool = False, is_share: bool = False
) -> None:
    """Show what came of a run; what cannot be shown is red in the timeline, and nothing more.

    ``is_hurried``: the run was told to end and will be killed, so nothing is made that can wait.
    ``is_share``: the night that it is a share of tells how it ended, for all shares at once.
    """
    there = settings.model_copy(update={"store": outcome.store})
    writer = Writer(patience_s=HURRY_S_MAX if is_hurried else CLOSE_S_MAX)
    async with writer:
        receipting: Any = receipt  # Prefect's types forget that a state is awaited
        await receipting(outcome.batch, there, writer, return_state=True)
        if not is_share:
            tell_end(outcome)
        if outcome.done and not is_hurried:
            building: Any = gallery
            await building(outcome.batch, there, writer, return_state=True)


def tell_end(outcome: Outcome) -> None:
    """The event of a run that has ended in order."""
    is_cut_short = outcome.exit_code == STOPPED_EARLY
    name = "nightkiln.batch.stopped" if is_cut_short else "nightkiln.batch.finished"
    quoted = outcome.quoted
    known = {
        "epoch": outcome.epoch,
        "exit_code": outcome.exit_code,
        "total": outcome.total,
        "done": outcome.done,
        "reused": outcome.reused,
        "failed": outcome.failed,
        "left": outcome.left,
        "usd": outcome.usd,
        "usd_quoted_p50": quoted.usd_p50 if quoted is not None else None,
        "elapsed_s": outcome.elapsed_s,
        "store": outcome.store,
        "why": outcome.stop_reason,
        "not_released": outcome.not_released,
    }
    emitted(name, batch=outcome.batch, **{key: known[key] for key in EVENTS[name]})


@task(
    name="receipt",
    task_run_name="receipt",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=0,
    timeout_seconds=RECEIPT_S_MAX,
)
async def receipt(batch: str, settings: Settings, writer: Writer) -> str:
    """One page about the batch, and a table of its failures by reason when there are any."""
    store = await asyncio.to_thread(open_store, settings)
    found = await asyncio.to_thread(receipt_of, store, batch)
    said = page(found, zone=shown_zone(settings.timezone))
    writer.put(RECEIPT_KEY, Page("markdown", said, cell(f"{headline(found)}; {batch}")))
    rows = failure_rows(found)
    if rows:
        described = f"{found.failed:,} jobs failed, by reason; {batch}"
        writer.put(FAILURES_KEY, Page("table", rows, described))
    get_run_logger().info(headline(found))
    return headline(found)


def failure_rows(found: Receipt) -> list[dict[str, Any]]:
    """Reasons that cost jobs, the most frequent first: one line of text each, JSON-safe."""
    return [_row(reason) for reason in found.reasons if reason.jobs_failed]


def _row(reason: Reason) -> dict[str, Any]:
    return {
        "jobs": reason.jobs_failed,
        "fault": reason.fault,
        "reason": cell(reason.reason),
        "hosts": reason.hosts,
        "example": cell(reason.example_prompt) if reason.example_prompt is not None else "",
        "job_id": reason.example_job_id,
    }


@task(
    name="gallery", task_run_name="gallery", cache_policy=NO_CACHE, persist_result=False, retries=0
)
async def gallery(batch: str, settings: Settings, writer: Writer) -> int:
    """A page to look through the pictures, and a link to it; how many it shows."""
    store = await asyncio.to_thread(open_store, settings)
    shares = await asyncio.to_thread(shares_of, store, batch)
    if shares:  # each of their runs has made one
        listed = "\n".join(f"- `nightkiln gallery {one} --store {store.uri}`" for one in shares)
        writer.put(GALLERY_KEY, Page("markdown", f"One gallery for each share:\n\n{listed}"))
        return 0
    with_limit = _Limit(time.monotonic() + GALLERY_S_MAX)
    command = f"nightkiln gallery {batch} --store {store.uri}"
    try:
        folder = usual_folder(store, batch, here=store.here.root)
        shown = await asyncio.to_thread(_build, store, batch, folder, with_limit)
    except TooMuchError as why:
        writer.put(GALLERY_KEY, Page("markdown", f"No gallery: {why}. `{command}` makes one."))
        return 0
    address = gallery_address(folder, store, settings)
    made = f"[{shown:,} pictures of {batch}]({address})\n\nThe page is `{folder}/index.html` on "
    said = "the computer where this ran; a browser opens it as a file."
    writer.put(GALLERY_KEY, Page("markdown", made + said, f"{shown:,} pictures; {batch}"))
    return shown


class TooMuchError(Exception):
    """There are more pictures than a flow run makes thumbnails of."""


class _Limit:
    """Ends a building that would take too long."""

    def __init__(self, until_s: float) -> None:
        self.until_s = until_s

    def begin(self, facts: Facts) -> Callable[[int], None]:
        if facts.tiles > GALLERY_TILES_MAX:
            raise TooMuchError(f"{facts.tiles:,} pictures are more than {GALLERY_TILES_MAX:,}")
        return self.check

    def check(self, done: int) -> None:
        if time.monotonic() > self.until_s:
            raise TooMuchError(f"{done:,} pictures took {GALLERY_S_MAX:.0f} s")


def _build(store: Store, batch: str, folder: Path, limit: _Limit) -> int:
    link = usual_link(store, folder)
    _, built = make_gallery(store, batch, folder, link=link, begin=limit.begin)
    return built.tiles


def gallery_address(folder: Path, store: Store, settings: Settings) -> str:
    """Where a browser finds the page: at ``gallery_url``, if somebody serves the store there."""
    if settings.gallery_url and not store.is_remote:
        way = folder.relative_to(store.root).as_posix()
        return f"{settings.gallery_url.rstrip('/')}/{way}/index.html"
    return (folder.absolute() / "index.html").as_uri()
