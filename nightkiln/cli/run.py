"""``nightkiln run``: one batch, from catalog to store."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from nightkiln.cli.asking import consent
from nightkiln.cli.options import (
    AtCapOption,
    BudgetOption,
    ByOption,
    CatalogArgument,
    FallbackOption,
    JsonOption,
    LateOption,
    LimitOption,
    MarketOption,
    NameOption,
    ObjectInfoOption,
    ProviderOption,
    SelectOption,
    SetOption,
    StoreOption,
    UploadOption,
    WorkerUrlOption,
    YesOption,
    parsed_overrides,
)
from nightkiln.gate import unquoted
from nightkiln.night import Outcome, StopSwitch
from nightkiln.observers import JsonLines, PlainLines, Terminal
from nightkiln.observers.sentences import outcome_lines
from nightkiln.ports.observer import Observer
from nightkiln.ports.provider import Provider
from nightkiln.rehearse.gate import QuoteGate, as_set
from nightkiln.settings import Settings, load_settings
from nightkiln.signals import stopping_on_signals
from nightkiln.wiring import Request, chosen_catalog, run_batch


def run(
    catalog: CatalogArgument,
    *,
    store: StoreOption = None,
    worker_url: WorkerUrlOption = None,
    provider: ProviderOption = None,
    name: NameOption = None,
    by: ByOption = None,
    budget: BudgetOption = None,
    fallback: FallbackOption = None,
    late: LateOption = None,
    at_cap: AtCapOption = None,
    limit: LimitOption = None,
    overrides: SetOption = None,
    select: SelectOption = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Render anew also what other batches of the store have done."),
    ] = False,
    object_info: ObjectInfoOption = None,
    market: MarketOption = None,
    upload: UploadOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Render a catalog on ComfyUI workers; the same command again resumes where it ended.

    The catalog is checked first, and nothing is rendered if anything is wrong with it. Every image
    is verified before it counts. Ctrl-C finishes what is being rendered and commits it; a second
    one hands running jobs back and stops at once.

    Example: nightkiln run catalogs/demo --worker-url http://127.0.0.1:8188 --store results

    With a deadline it is as cheap as that allows, and what is not done then stays for the next run:

    Example: nightkiln run catalogs/demo --worker-url http://127.0.0.1:8188 --by 2h

    Where something costs money, what is left to do is quoted first, in 20 seconds at most. If the
    p90 of its cost is above --budget, nothing is started, and what would fit is said. Else you are
    asked; a script has to give --yes. Workers that cost nothing are used at once.

    On rented machines, with a key in VAST_API_KEY (docs/how-to/vast.md):

    Example: nightkiln run catalogs/demo --provider vast --budget 2.50 --by 2h

    On serverless GPUs, once `nightkiln modal deploy` has put the app there (docs/how-to/modal.md):

    Example: nightkiln run catalogs/demo --provider modal --budget 0.50 --limit 4

    On cheap machines, with Modal for what they would not finish in time:

    Example: nightkiln run catalogs/demo --providers vast,modal --fallback auto --budget 3 --by 7:00

    Only some rows, or rows out of what the store has already (docs/how-to/select.md):

    Example: nightkiln run catalogs/demo --select "FROM prompts WHERE light = 'dusk'"

    A sample first: --limit 4. Another checkpoint: --set checkpoint=mine.safetensors

    Exit codes: 0 every job has its image, 1 some jobs failed (`nightkiln query "select error,
    count(*) from jobs where status = 'failed' group by 1"` says why), 2 bad input, a quote that is
    above the budget or not agreed to, or the batch is being worked on already (nothing started), 3
    stopped early (asked to, deadline, budget); the same command goes on.
    """
    settings = load_settings(
        store=store,
        worker_urls=worker_url,
        providers=provider,
        by=by,
        budget=budget,
        fallback=fallback,
        late=late,
        at_cap=at_cap,
        market=market,
        upload=upload,
    )
    chosen = chosen_catalog(
        catalog,
        overrides=parsed_overrides(overrides),
        limit=limit,
        select=select,
        settings=settings,
    )
    request = Request(chosen, object_info=object_info, name=name, is_fresh=fresh)
    outcome = asyncio.run(watch(request, settings, as_json=as_json, may_spend=yes))
    say_outcome(outcome, as_json=as_json)
    raise typer.Exit(outcome.exit_code)


async def watch(
    request: Request,
    settings: Settings,
    *,
    as_json: bool,
    may_spend: bool = False,
    is_quoted: bool = True,
    rents_from: Mapping[str, Provider] | None = None,
) -> Outcome:
    """Run a batch with whatever display suits the output; signals end it in order.

    ``may_spend``: up to the budget, without being asked. ``is_quoted``: else it is so small that
    its budget says it all. ``rents_from``: as of ``run_batch``.
    """
    makes = as_set(settings, request.catalog)
    with watching(as_json=as_json) as (observer, switch):
        agrees = consent(
            is_given=may_spend,
            can_ask=not as_json,  # a program that reads JSON answers no questions
            keyboard=sys.stdin,
            screen=sys.stderr,
            switch=switch,
        )
        gate = QuoteGate(makes, agrees) if is_quoted else unquoted
        return await run_batch(
            request, settings, observer, switch=switch, rents_from=rents_from, gate=gate
        )


@contextmanager
def watching(*, as_json: bool) -> Iterator[tuple[Observer, StopSwitch]]:
    """The display that suits the output, and a switch that signals turn."""
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
        yield observer, switch


def say_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """What came of it, and what to do next."""
    if as_json:
        sys.stdout.write(json.dumps({"event": "outcome", **asdict(outcome)}, default=float) + "\n")
        return
    for line in outcome_lines(outcome):
        typer.echo(line)
