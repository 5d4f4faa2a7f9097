"""Puts a run together: settings in, adapters chosen, one batch worked on, an outcome out.

The same function serves the command line and the Prefect flows.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from nightkiln.accounts import Accounts
from nightkiln.allotment import MORE_USD_S, Allotment
from nightkiln.before_renting import look_ahead
from nightkiln.catalog import Catalog, Past, catalog_digest, load_catalog, scratch
from nightkiln.core.errors import BadInput
from nightkiln.core.model import BatchId, Usd
from nightkiln.core.monthly import Month
from nightkiln.core.sharing import Share
from nightkiln.core.story import Opening
from nightkiln.core.terms import Load
from nightkiln.deadline import seconds_until, zone
from nightkiln.deployment import rented_before, usable
from nightkiln.disk import Disk, OsDisk
from nightkiln.dispatch import tell
from nightkiln.gate import Gate
from nightkiln.goals import Goals
from nightkiln.lease_book import LeaseBook
from nightkiln.month import Ledger, MonthGate
from nightkiln.night import BAD_INPUT, LEASES_MAX, Night, Outcome, StopSwitch
from nightkiln.nights import claimed
from nightkiln.places import MODAL, VAST, providers
from nightkiln.planner import Again, Plan, Reseeded, counts_from
from nightkiln.ports.observer import Observer
from nightkiln.ports.provider import Provider
from nightkiln.preflight import preflight, tell_what_leaves
from nightkiln.settings import Settings
from nightkiln.store.claim import Claim
from nightkiln.store.home import store_uri
from nightkiln.store.names import check_batch_name
from nightkiln.store.scores import Remembered, read_scores
from nightkiln.store.store import Store, is_store
from nightkiln.traffic import expected_load

NAME_DIGITS = 8  # hex digits of a digest in a batch's name


@dataclass(frozen=True, slots=True)
class Request:
    """One run, as a user asks for it."""

    catalog: Catalog
    object_info: Path | None = None  # saved node definitions to check against
    name: str | None = None  # of the batch; None: from the catalog, so that the same call resumes
    is_nightly: bool = False  # the default name carries the date instead of a digest
    is_fresh: bool = False  # render also what other batches of the store have done
    leases_max: int = LEASES_MAX  # machines at once
    again: Again | Reseeded | None = None  # instead of what the batch has not settled
    allotment: Allotment | None = None  # of one share of a night, which is then the batch
    by_hand: Share | None = None  # that the batch is, without a night that watches over it

    @property
    def share(self) -> Share | None:
        """Of a night that several controllers work on; None: the whole is ours."""
        return self.allotment.share if self.allotment is not None else self.by_hand


def open_store(settings: Settings, *, create: bool = False) -> Store:
    """The store that the settings name.

    Raises:
        StoreUnusable: it is not there, or cannot be read.
    """
    return Store.open(
        settings.store,
        disk=_disk(settings),
        create=create,
        s3=settings.s3_access,
        state=settings.state_folder,
    )


def has_store(settings: Settings) -> bool:
    """Whether the store that the settings name is there already.

    Raises:
        StoreUnusable: nobody can tell.
    """
    return is_store(settings.store, s3=settings.s3_access)


def _disk(settings: Settings) -> Disk:
    if not settings.disk:
        return OsDisk()
    from nightkiln.testing.disk import disk_from_spec

    return disk_from_spec(settings.disk)


def book_of(settings: Settings) -> LeaseBook:
    """The user's book of what is rented."""
    return LeaseBook(settings.state_folder, disk=_disk(settings))


def batch_name(request: Request, settings: Settings, *, now_s: float) -> str:
    """What the batch is called: the same call names the same batch, so that it resumes.

    A nightly is ``<catalog>-<date>``, an ad-hoc run ``<catalog>-<digest of catalog, selection and
    store>``; a fresh ad-hoc run without a name gets the time, since it is never to resume.

    Raises:
        BadInput: the name cannot be part of a file's name, or there is no such time zone.
    """
    catalog = request.catalog
    if request.name is not None:
        name = request.name
    elif request.is_nightly:
        name = f"{catalog.name}-{datetime.fromtimestamp(now_s, zone(settings.timezone)):%Y-%m-%d}"
    elif request.is_fresh:
        name = f"{catalog.name}-{datetime.fromtimestamp(now_s, UTC):%Y%m%dT%H%M%S}"
    else:
        identity = f"{catalog_digest(catalog)} {store_uri(settings.store)}"
        name = f"{catalog.name}-{hashlib.sha256(identity.encode()).hexdigest()[:NAME_DIGITS]}"
    return check_batch_name(name)


def month_ledger(settings: Settings, store: Store, book: LeaseBook) -> Ledger | None:
    """Where the month's money is counted; None: nothing limits it."""
    limit = settings.budget_per_month
    return Ledger(store, book, limit, zone(settings.timezone)) if limit is not None else None


def month_now(settings: Settings) -> Month | None:
    """How this month's money stands; None: nothing limits it.

    Raises:
        StoreUnusable: store or lease book cannot be read.
    """
    limit = settings.budget_per_month
    if limit is None:
        return None
    if not has_store(settings):
        return Month(f"{datetime.now(zone(settings.timezone)):%Y-%m}", limit, Usd(0))
    ledger = month_ledger(settings, open_store(settings), book_of(settings))
    assert ledger is not None, "there is a limit"
    return ledger.month(time.time())


def chosen_catalog(
    folder: Path,
    *,
    overrides: Mapping[str, str] | None = None,
    limit: int | None = None,
    select: str | None = None,
    settings: Settings | None = None,
) -> Catalog:
    """The catalog in ``folder``, some inputs held constant, only its first ``limit`` rows.

    ``select``: a query for its rows. It may ask the store of ``settings``, like one of its own.

    Raises:
        BadInput: it cannot be read; what its rows hold is preflight's to see.
    """
    catalog = replace(load_catalog(folder), select=select)
    if settings is not None:
        catalog = with_past(catalog, settings).with_trust(settings.trust)
    return catalog.with_overrides(overrides if overrides is not None else {}).with_limit(limit)


def with_past(catalog: Catalog, settings: Settings) -> Catalog:
    """The same catalog, which may ask the store if there is one."""
    if not has_store(settings):
        return catalog
    store = open_store(settings)
    folder = None if store.is_remote else store.root
    return replace(catalog, past=Past(store.attach, store.blobs, folder))


def goals_of(settings: Settings, *, now_s: float) -> Goals:
    """What the settings hold a run to that begins at ``now_s`` (epoch seconds).

    Raises:
        BadInput: the deadline is no time, or in the past.
    """
    deadline_s = None
    if settings.by:
        deadline_s = now_s + seconds_until(settings.by, now_s=now_s, timezone=settings.timezone)
    return Goals(
        deadline_s=deadline_s,
        budget=settings.budget,
        fallback=settings.fallback,
        late=settings.late,
        at_cap=settings.at_cap,
    )


def remembered_of(catalog: Catalog, settings: Settings) -> Remembered:
    """What earlier runs have learned of the catalog's workflow."""
    if not has_store(settings):
        return Remembered()  # it will be made by the first run
    return read_scores(open_store(settings).blobs, catalog.template.digest, now_s=time.time())


async def _load(
    catalog: Catalog, store: Store, settings: Settings, providers: Iterable[Provider]
) -> Load:
    """What goes over the wire; nobody asks where nothing is billed."""
    if not any(provider.bills for provider in providers):
        return Load()
    return await asyncio.to_thread(expected_load, catalog, store, image_gb=settings.image_gb)


@dataclass(frozen=True, slots=True)
class _Means:
    """Where a run may render, and what it is held to there."""

    providers: Mapping[str, Provider]
    past: Mapping[str, Provider]  # an earlier run rented there
    goals: Goals


async def _means(
    request: Request,
    settings: Settings,
    observer: Observer,
    *,
    rents_from: Mapping[str, Provider] | None,
    clock: Callable[[], float],
) -> _Means:
    catalog, found = request.catalog, rents_from
    if found is None:
        found = await asyncio.to_thread(providers, settings, catalog)
    all_found = found
    found, app = await usable(found, settings, catalog)
    past = rented_before(all_found, found, settings, catalog) if MODAL not in found else {}
    if app is not None:
        await tell(observer, "app", {"told": app.line(), **app.as_object()})
    goals = await asyncio.to_thread(goals_of, settings, now_s=clock())
    goals.check(found.values())
    if any(provider.bills for provider in found.values()):
        goals = replace(goals, jobs_per_s_max=settings.results_per_s)
    if request.allotment is not None:
        goals = replace(goals, more_usd_s=MORE_USD_S)
    if rents_from is None and VAST in found:
        await look_ahead(catalog, settings, observer, has_others=len(found) > 1)
    return _Means(found, past, goals)


def batch_of(
    claim: Claim, request: Request, settings: Settings, store: Store, *, now_s: float
) -> BatchId:
    """The claimed batch as its rows name it. Blocking."""
    catalog = request.catalog
    today = f"{datetime.fromtimestamp(now_s, zone(settings.timezone)):%Y-%m-%d}"
    return BatchId(
        batch=claim.batch,
        epoch=claim.epoch,
        date=store.batch_date(claim.batch, today=today),
        catalog=catalog.name,
        workflow_digest=catalog.template.digest,
        environment_digest=catalog.environment.digest,
    )


async def _planned(
    con: duckdb.DuckDBPyConnection,
    request: Request,
    store: Store,
    batch: BatchId,
    observer: Observer,
) -> Plan:
    catalog = request.catalog
    reuses = catalog.reuse == "store" and not request.is_fresh
    since = await asyncio.to_thread(counts_from, store, batch, request.again)
    plan = Plan(
        con, catalog, store, batch.batch, batch.date, reuses, request.again, since, request.share
    )
    await asyncio.to_thread(plan.prepare)
    if forgotten := await asyncio.to_thread(plan.forgotten):
        said = f"{forgotten} of the chosen jobs are none of this catalog, as it is now"
        await tell(observer, "warning", {"message": said})
    return plan


async def run_batch(
    request: Request,
    settings: Settings,
    observer: Observer,
    *,
    switch: StopSwitch | None = None,
    clock: Callable[[], float] = time.time,
    rents_from: Mapping[str, Provider] | None = None,
    opens: Callable[[Opening], Opening] | None = None,
    gate: Gate | None = None,
    book: LeaseBook | None = None,
) -> Outcome:
    """Work on a batch until it is settled or stopped; resumes what an earlier run left.

    ``rents_from``: providers by name, instead of those that the settings make usable.
    ``opens``: what the scheduler starts from, given what it would start from.
    ``gate``: quotes what is left before anything bills, and lets it be rented; it has to be given
    where a provider bills.
    ``book``: where leases of providers that bill are written down before they are rented, instead
    of in the user's state folder.

    Raises:
        BadInput: the catalog fails preflight, with every problem, the deadline has passed, or
            something costs money and there is no budget, or the gate stays shut; nothing was
            started.
        ClaimHeld: another run works on this batch, or another night on this night's catalog.
        NightkilnError: the run could not go on; everything made until then is committed.
    """
    logging.getLogger("stamina").setLevel(logging.ERROR)  # its retries are ours to report
    catalog, kept_in = request.catalog, book if book is not None else book_of(settings)
    means = await _means(request, settings, observer, rents_from=rents_from, clock=clock)
    found = means.providers
    name = await asyncio.to_thread(batch_name, request, settings, now_s=clock())
    async with AsyncExitStack() as stack:
        con = stack.enter_context(scratch())
        await asyncio.to_thread(preflight, con, catalog, settings, request.object_info)
        await tell_what_leaves(con, catalog, found.values(), observer)
        store = await asyncio.to_thread(open_store, settings, create=True)
        await asyncio.to_thread(
            store.prepare,
            now_s=clock(),
            spool_bytes=settings.spool_bytes,
            is_direct=settings.is_direct,
        )
        night = catalog.name if request.is_nightly else None
        claim = await stack.enter_async_context(claimed(store.blobs, name, night, clock=clock))
        batch = await asyncio.to_thread(batch_of, claim, request, settings, store, now_s=clock())
        plan = await _planned(con, request, store, batch, observer)
        ledger = month_ledger(settings, store, kept_in)
        is_asked = request.allotment is not None  # by the night, for all of its shares
        if gate is not None and ledger is not None and not is_asked:
            gate = MonthGate(gate, ledger, clock)
        work = Night(
            catalog=catalog,
            plan=plan,
            store=store,
            claim=claim,
            batch=batch,
            catalog_digest=await asyncio.to_thread(catalog_digest, catalog),
            providers=found,
            observer=observer,
            switch=switch if switch is not None else StopSwitch(),
            clock=clock,
            shard_rows=settings.shard_rows,
            release_s_max=settings.release_s,
            goals=means.goals,
            load=await _load(catalog, store, settings, found.values()),
            opens=opens if opens is not None else lambda usual: usual,
            gate=gate,
            leases_max=request.leases_max,
            past=means.past,
            allotment=request.allotment,
            accounts=Accounts(store, batch, found, clock, kept_in, settings.deadman_s),
        )
        try:
            outcome = await work.work()
        except BadInput:
            claim.end({"exit_code": BAD_INPUT})
            raise
        counts = {"done": outcome.done, "reused": outcome.reused, "failed": outcome.failed}
        claim.end({"exit_code": outcome.exit_code, **counts})
        return outcome
