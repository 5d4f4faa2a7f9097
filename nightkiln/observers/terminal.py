"""A live display: one bar for the batch, one line per worker, and what happened above it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nightkiln.core.model import Lease
from nightkiln.observers.sentences import counts, sentence
from nightkiln.ports.observer import Progress, WorkerProgress

WORKERS_SHOWN_MAX = 12  # then the rest is summed up, so that the display fits a small screen
_ALARMING = frozenset({"job_failed", "lease_lost", "lease_not_released", "provider_failed"})
_PLAIN = frozenset({"quoting", "quoted"})  # somebody is to read and answer it
_COLOURS = {"ready": "green", "starting": "yellow", "lost": "red", "released": "dim"}


class Terminal:
    """Wants to be entered before the run and left after it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=False)

    def __enter__(self) -> Self:
        return self  # the display begins with the first progress: a question may come before it

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    @asynccontextmanager
    async def lease(self, lease: Lease) -> AsyncIterator[None]:
        del lease  # the display shows it from the first progress on
        yield

    async def event(self, name: str, fields: Mapping[str, Any]) -> None:
        said = sentence(name, fields)
        if said is not None:
            style = "red" if name in _ALARMING else "" if name in _PLAIN else "dim"
            self._console.print(Text(said, style=style))

    async def progress(self, progress: Progress) -> None:
        self._live.start()
        self._live.update(picture(progress))


def picture(progress: Progress) -> Group:
    """The display as it stands."""
    settled = progress.total - progress.left
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        Text(progress.batch, style="bold"),
        ProgressBar(total=max(1, progress.total), completed=settled, width=30),
        Text(counts(progress)),
    )
    shown = progress.workers[-WORKERS_SHOWN_MAX:]
    workers = Table.grid(padding=(0, 2))
    for worker in shown:
        workers.add_row(*_worker_cells(worker))
    hidden = len(progress.workers) - len(shown)
    more = [Text(f"  and {hidden} leases before these", style="dim")] if hidden else []
    return Group(bar, workers, *more)


def _worker_cells(worker: WorkerProgress) -> tuple[Text, ...]:
    return (
        Text(f"  {worker.host}"),
        Text(worker.state, style=_COLOURS.get(worker.state, "")),
        Text(worker.gpu, style="dim"),
        Text(worker.doing or f"{worker.done} done"),
        Text(f"{worker.failed} failed", style="red" if worker.failed else "dim"),
        Text(f"{worker.running} running", style="dim"),
    )
