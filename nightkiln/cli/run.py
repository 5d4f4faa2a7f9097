"""``nightkiln run``: one batch, from catalog to store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nightkiln.cli.options import (
    CatalogArgument,
    JsonOption,
    LimitOption,
    SetOption,
    StoreOption,
    WorkerUrlOption,
    parsed_overrides,
)
from nightkiln.night import Outcome, StopSwitch
from nightkiln.observers import JsonLines, PlainLines, Terminal
from nightkiln.observers.sentences import duration
from nightkiln.ports.observer import Observer
from nightkiln.settings import Settings, load_settings
from nightkiln.wiring import Request, chosen_catalog, run_batch

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(
    catalog: CatalogArgument,
    *,
    store: StoreOption = None,
    worker_url: WorkerUrlOption = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the batch. Default: from the catalog, so that it resumes."),
    ] = None,
    limit: LimitOption = None,
    overrides: SetOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Render anew what other batches have done.")
    ] = False,
    object_info: Annotated[
        Path | None,
        typer.Option(help="Node definitions to check against, from `object-info save`."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Render a catalog on ComfyUI workers; the same command again resumes where it ended.

    Every image is verified before it counts. Ctrl-C finishes what is being rendered and commits
    it; a second one hands running jobs back and stops at once.

    Example: nightkiln run catalogs/demo --worker-url http://127.0.0.1:8188 --store results
    """
    settings = load_settings(store=store, worker_urls=worker_url)
    chosen = chosen_catalog(catalog, overrides=parsed_overrides(overrides), limit=limit)
    request = Request(chosen, object_info=object_info, name=name, is_fresh=fresh)
    outcome = asyncio.run(watch(request, settings, as_json=as_json))
    say_outcome(outcome, as_json=as_json)
    raise typer.Exit(outcome.exit_code)


async def watch(request: Request, settings: Settings, *, as_json: bool) -> Outcome:
    """Run a batch with whatever display suits the output; signals end it in order."""
    switch, console = StopSwitch(), Console(stderr=True)
    with ExitStack() as stack:
        observer: Observer
        if as_json:
            observer = JsonLines(sys.stdout)
        elif console.is_terminal:
            observer = stack.enter_context(Terminal(console))
        else:
            observer = PlainLines(sys.stderr)
        stack.enter_context(stopping_on_signals(switch))
        return await run_batch(request, settings, observer, switch=switch)


@contextmanager
def stopping_on_signals(switch: StopSwitch) -> Iterator[None]:
    """The first signal ends the run in order, the second at once, the third kills it."""
    loop, count = asyncio.get_running_loop(), 0
    task = asyncio.current_task()

    def heard(name: str) -> None:
        nonlocal count
        count += 1
        if count <= 2:  # noqa: PLR2004 - see above
            switch.ask(f"stopped by {name}", is_now=count > 1)
        elif task is not None:
            task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, heard, signal.Signals(number).name)
    try:
        yield
    finally:
        for number in SIGNALS:
            with contextlib.suppress(ValueError):
                loop.remove_signal_handler(number)


def say_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """What came of it, and what to do next."""
    if as_json:
        sys.stdout.write(json.dumps({"event": "outcome", **asdict(outcome)}) + "\n")
        return
    for line in outcome_lines(outcome):
        typer.echo(line)


def outcome_lines(outcome: Outcome) -> list[str]:
    """The outcome in sentences."""
    reused = f", {outcome.reused} reused" if outcome.reused else ""
    first = (
        f"batch {outcome.batch}: {outcome.done} of {outcome.total} jobs done{reused}, "
        f"{outcome.failed} failed, {outcome.left} left, in {duration(outcome.elapsed_s)}"
    )
    lines = [first]
    if outcome.stop_reason is not None:
        lines.append(f"stopped early: {outcome.stop_reason}")
    if outcome.left:
        lines.append("the same command again does what is left")
    if outcome.failed:
        lines.append(
            _ask(outcome, "select error, count(*) from jobs where status = 'failed' group by 1")
        )
    else:
        lines.append(_ask(outcome, "select status, count(*) from jobs group by 1"))
    return lines


def _ask(outcome: Outcome, sql: str) -> str:
    return f'ask it: nightkiln query "{sql}" --store {outcome.store}'
