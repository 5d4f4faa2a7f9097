"""The answer to ``nightkiln quote``: what a batch will cost, in facts, for a terminal or a page."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nightkiln.before_renting import ready_to_rent
from nightkiln.blobs.s3_place import SCHEME
from nightkiln.catalog import Catalog
from nightkiln.catalog.models import SENT_BYTES_MAX
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.monthly import Month
from nightkiln.core.terms import Fallback
from nightkiln.credit import SeenAccount, seen_account
from nightkiln.deployment import SeenApp, usable
from nightkiln.observers.sentences import duration
from nightkiln.places import LOCAL, VAST, provider_names
from nightkiln.rehearse.asking import Jobs, script_of
from nightkiln.rehearse.basis import basis_lines
from nightkiln.rehearse.quoting import Quote, quoted
from nightkiln.rehearse.script import Script, allowed, with_containers
from nightkiln.settings import Settings
from nightkiln.traffic import models_gb, sent_gb

BITS_PER_MB = 8
BYTES_PER_GB = 1e9
GPU_S = 4.0  # a job of an RTX 4090 at SDXL, to tell a computer's limit in GPUs


@dataclass(frozen=True, slots=True)
class Answer:
    """A quote, and what else somebody has to know who is about to pay for it."""

    quote: Quote
    jobs: Jobs
    catalog: Catalog
    settings: Settings
    account: SeenAccount
    app: SeenApp | None
    month: Month | None  # None: nothing limits it

    def as_object(self) -> dict[str, Any]:
        """For programs."""
        return self.quote.as_object() | {
            "jobs_are_exact": self.jobs.is_exact,
            "free_disk_gb": _free_gb(self.settings),  # null: the store is no folder
            "results_per_s_max": self.settings.results_per_s,
            "models_gb": models_gb(self.catalog),
            "models_sent_gb": sent_gb(self.catalog),
            "account": self.account.as_object(),
            "app": self.app.as_object() if self.app is not None else None,
            "month": self.month.as_object() if self.month is not None else None,
            "fallback": self.quote.summary.script.fallback,
        }

    def head(self) -> str:
        """What was asked."""
        most = "" if self.jobs.is_exact else "at most "
        deadline = duration(self.quote.summary.script.deadline_s)
        return f"{most}{self.jobs.count:,} jobs within {deadline} for {self.quote.budget} USD"

    def facts(self) -> Iterator[tuple[str, str]]:
        """What is expected, by name; without a name it goes on from the fact before."""
        found, summary = self.quote, self.quote.summary
        usd, finish_s = found.usd, found.finish_s
        machines = summary.spread(lambda night: night.leases_most)
        disk_gb = summary.script.market.batch.disk_gb
        yield "cost", f"p50 {usd.p50:.2f} USD, p90 {usd.p90:.2f} USD"
        yield (
            "finish",
            (
                f"p50 {duration(finish_s.p50)}, p90 {duration(finish_s.p90)}; the deadline is "
                f"met on {summary.deadline_met_fraction:.0%} of the nights"
            ),
        )
        yield (
            "machines",
            (
                f"p50 {machines.p50:.0f}, p90 {machines.p90:.0f} at once, each with "
                f"{disk_gb:g} GB of disk"
            ),
        )
        yield "may have", _may_have(summary.script)
        gb_in = summary.mean(lambda night: night.gb_in)
        yield "network", f"{gb_in:.0f} GB into machines, {found.results_gb:.1f} GB of results out"
        if self.catalog.environment.models:
            yield "models", self._models()
        yield from _here(found, self.settings)
        for number, line in enumerate((*basis_lines(summary.script), _nights(found))):
            yield "" if number else "basis", line

    def _models(self) -> str:
        each, sent = models_gb(self.catalog), sent_gb(self.catalog)
        most = SENT_BYTES_MAX / BYTES_PER_GB
        return (
            f"{each:.2f} GB to each machine, of which this computer sends {sent:.2f} GB (at most "
            f"{most:g} GB a file)"
        )

    def advice(self) -> Iterator[str]:
        """Whether it fits, what would, and what is known of where it would be paid."""
        month = self.month
        problem = month.objection(usd_p90=self.quote.usd.p90) if month is not None else None
        if problem is not None:
            yield f"such a night would not begin: {problem}"
        yield from _advice(self.quote)
        if month is not None and problem is None:
            yield month.told()
        yield from self.account.lines(self.quote.budget)
        if self.app is not None:
            yield self.app.line()


def answer(
    catalog: Catalog, settings: Settings, *, market: str, month: Month | None = None
) -> Answer:
    """What a batch will cost and when it will be done; 20 seconds at most, and nothing is rented.

    ``month``: how the month's money stands, where it is limited.

    Raises:
        BadInput: nothing says by when, or for how much, or a run with these settings would not
            begin.
    """
    check_goals(settings)
    names = _names(settings)
    account, names, app = asyncio.run(_seen(names, catalog, settings))
    script, jobs = script_of(
        catalog, settings, market=market, by=settings.by, budget=str(settings.budget)
    )
    assert script.budget is not None, "it was asked for"
    found = quoted(_reachable(script, settings, names), script.budget)
    return Answer(found, jobs, catalog, settings, account, app, month)


def check_goals(settings: Settings) -> None:
    """A quote is of something: by when, and for how much.

    Raises:
        BadInput: one of them is nowhere said.
    """
    problems = []
    if not settings.by:
        fix = "give --by 07:00, or --by 2h"
        problems.append(Problem("--by", "nothing says by when it has to be done", fix))
    if settings.budget is None:
        fix = "give --budget 4.00, in USD"
        problems.append(Problem("--budget", "nothing says how much may be spent", fix))
    if problems:
        raise BadInput(problems)


def _names(settings: Settings) -> tuple[str, ...]:
    """Whom a run with these settings would use; nobody, where nothing is set up.

    Raises:
        BadInput: such a run would not begin.
    """
    try:
        return provider_names(settings)
    except BadInput:
        if settings.providers:
            raise
        return ()  # the figures are worth having all the same


async def _seen(
    names: tuple[str, ...], catalog: Catalog, settings: Settings
) -> tuple[SeenAccount, tuple[str, ...], SeenApp | None]:
    """The account that such a run would rent with, else the one that there is; who is of use.

    Raises:
        BadInput: such a run would not begin.
    """
    usable_names, app = await usable(dict.fromkeys(names), settings, catalog)
    if VAST not in names:
        return await seen_account(settings), tuple(usable_names), app
    account = await ready_to_rent(settings, catalog, has_others=len(names) > 1)
    return account, tuple(usable_names), app


def _reachable(script: Script, settings: Settings, names: tuple[str, ...]) -> Script:
    """The same where only that can be had which a run would be allowed to have."""
    return replace(
        script,
        market=with_containers(script.market, settings.modal_max_containers),
        fallback=allowed(settings.fallback, [name for name in names if name != LOCAL]),
        usd_per_hour_max=settings.vast_usd_per_hour_max,
    )


def _may_have(script: Script) -> str:
    """What of the market is within reach of the settings."""
    machines, most = [], script.usd_per_hour_max
    if script.fallback is not Fallback.ONLY:
        cap = f" at {float(most):g} USD an hour at most" if most is not None else ""
        machines.append(f"machines{cap} (vast_usd_per_hour_max)")
    if script.fallback is not Fallback.NEVER:
        count = script.market.fallback.max_containers
        machines.append(f"{count} containers of the fallback (modal_max_containers)")
    return " and ".join(machines)


def _nights(found: Quote) -> str:
    summary, market = found.summary, found.summary.script.market
    return (
        f"{len(summary.nights)} nights of market file {market.name} ({market.digest}), "
        f"{summary.script.lump} jobs played as one; not today's offers"
    )


def _here(found: Quote, settings: Settings) -> Iterator[tuple[str, str]]:
    """What this computer has to be up to."""
    megabits = found.results_per_s * found.summary.script.market.batch.result_mb * BITS_PER_MB
    free_gb = _free_gb(settings)
    yield (
        "here",
        f"{found.results_per_s:.1f} results a second, {megabits:.0f} Mbit/s; "
        f"{found.results_gb:.1f} GB of results"
        + (f", {free_gb:.0f} GB are free" if free_gb is not None else f" for {settings.store}"),
    )
    most = settings.results_per_s
    yield (
        "",
        (
            f"{most:g} results a second are its limit: {most * GPU_S:.0f} GPUs at {GPU_S:g} s "
            "a job (NIGHTKILN_RESULTS_PER_S)"
        ),
    )
    if free_gb is not None and found.results_gb > free_gb:
        yield "", f"too little disk for the results at {settings.store}: free some, or --limit"


def _advice(found: Quote) -> Iterator[str]:
    if found.is_within:
        yield "it fits: budget and deadline hold on nine nights out of ten"
        return
    yield "it does not fit: budget or deadline would not hold on nine nights out of ten"
    deadline = duration(found.summary.script.deadline_s)
    if found.jobs_that_fit:
        yield f"  what would fit: about {found.jobs_that_fit:,} jobs within {deadline}"
    if found.deadline_that_fits_s is not None:
        later = duration(found.deadline_that_fits_s)
        yield f"  what would fit: all of them, within {later}"
    if not found.jobs_that_fit and found.deadline_that_fits_s is None:
        yield "  neither fewer jobs nor a later deadline was found to fit: raise --budget"


def _free_gb(settings: Settings) -> float | None:
    """Free where the store is, or would be made; None: nobody counts that in an object store."""
    if settings.store.startswith(SCHEME):
        return None
    folder = Path(settings.store).expanduser().absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(there).free / BYTES_PER_GB
