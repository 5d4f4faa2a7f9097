"""A machine that cannot be given back must not end the night, nor be forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nightkiln import cli
from nightkiln.core.errors import ProviderError
from nightkiln.core.model import Kind, Lease, LeaseId, Need, Offer
from nightkiln.gate import unquoted
from nightkiln.night import Outcome
from nightkiln.observers import JsonLines
from nightkiln.observers.sentences import outcome_facts, sentence
from nightkiln.providers.local import LocalProvider
from nightkiln.settings import Settings
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.samples import write_catalog
from nightkiln.wiring import Request, chosen_catalog, run_batch

ALWAYS = 1 << 30
ASLEEP = "http://127.0.0.1:9"


class Stubborn(LocalProvider):
    """Does not take a machine back before it has been asked often enough."""

    def __init__(self, url: str, error: Exception, *, failures: int) -> None:
        super().__init__([url])
        self._error, self._failures = error, failures
        self.asked = 0

    async def release(self, lease_ids: Sequence[LeaseId]) -> None:
        self.asked += 1
        if self.asked <= self._failures:
            raise self._error
        await super().release(lease_ids)


class Rented(Stubborn):
    """The same, for money."""

    bills = True

    async def offers(self, need: Need, *, limit: int) -> Sequence[Offer]:
        free = await super().offers(need, limit=limit)
        price = Decimal("1.00")
        return [replace(offer, usd_per_hour=price, kind=Kind.ON_DEMAND) for offer in free]


class HalfAsleep(LocalProvider):
    """Never answers to whoever rents its second machine."""

    async def rent(
        self, offer: Offer, lease_id: LeaseId, need: Need, *, expires_at_s: float
    ) -> Lease:
        if offer.ref == ASLEEP:
            await asyncio.Event().wait()
        return await super().rent(offer, lease_id, need, expires_at_s=expires_at_s)


class Ears(JsonLines):
    """Remembers what it is told instead of writing it."""

    def __init__(self) -> None:
        self.events: dict[str, Mapping[str, Any]] = {}

    async def event(self, name: str, fields: Mapping[str, Any]) -> None:
        self.events[name] = fields


async def night(
    folder: Path,
    server: StandIn,
    provider: LocalProvider,
    ears: Ears,
    *,
    release_s: float = 30.0,
) -> Outcome:
    catalog = write_catalog(folder / "catalog", 3)
    settings = Settings(
        store=str(folder / "store"),
        worker_urls=(server.url,),
        state=str(folder / "state"),
        release_s=release_s,
        budget=Decimal("2.00") if provider.bills else None,
    )
    request = Request(chosen_catalog(catalog), name="night")
    rents_from = {"local": provider}
    return await run_batch(request, settings, ears, rents_from=rents_from, gate=unquoted)


def leases(folder: Path) -> list[tuple[Any, ...]]:
    with Store.open(str(folder / "store")).connect() as con:
        sql = "select jobs_done, released_at is null, reason from leases"
        return con.execute(sql).fetchall()


async def test_a_release_that_fails_is_tried_again(tmp_path: Path) -> None:
    ears = Ears()
    async with StandIn() as server:
        provider = Stubborn(server.url, TimeoutError(), failures=1)
        outcome = await night(tmp_path, server, provider, ears)

    assert (outcome.exit_code, outcome.done, outcome.not_released) == (0, 3, ())
    assert provider.asked == 2
    assert "lease_released" in ears.events
    assert leases(tmp_path) == [(3, False, "no work left")]


@pytest.mark.nights
@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ProviderError("HTTP 503", provider="local"),
        RuntimeError("a plug-in's own mistake"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_lease_that_is_not_released_is_told_and_the_night_goes_on(
    error: Exception, tmp_path: Path
) -> None:
    ears = Ears()
    async with StandIn() as server:
        provider = Stubborn(server.url, error, failures=ALWAYS)
        outcome = await night(tmp_path, server, provider, ears, release_s=0.3)

    assert (outcome.done, outcome.left) == (3, 0)
    assert outcome.exit_code == 3
    assert outcome.not_released == ("night-1-lease-000",)
    assert "night-1-lease-000" in " ".join(outcome_facts(outcome))
    assert "lease_released" not in ears.events
    told = sentence("lease_not_released", ears.events["lease_not_released"])
    assert told is not None
    assert type(error).__name__ in told
    assert "night-1-lease-000" in told
    [(jobs_done, is_open, reason)] = leases(tmp_path)
    assert (jobs_done, is_open) == (3, True)
    assert reason.startswith("not confirmed released")


async def test_what_a_lease_may_come_to_that_is_not_released_is_told(tmp_path: Path) -> None:
    ears = Ears()
    async with StandIn() as server:
        provider = Rented(server.url, TimeoutError(), failures=ALWAYS)
        outcome = await night(tmp_path, server, provider, ears, release_s=0.3)

    assert (outcome.done, outcome.exit_code, outcome.usd) == (3, 3, Decimal(0))
    assert 0 < outcome.usd_open <= Decimal("2.00")
    assert f"up to {outcome.usd_open:.2f} USD more" in " ".join(outcome_facts(outcome))
    told = CliRunner().invoke(cli.app, ["why", "night", "--store", str(tmp_path / "store")]).stdout
    assert "given up: nobody confirmed that it ended" in told
    assert "gone:" not in told


async def test_nothing_is_kept_for_a_lease_that_is_released(tmp_path: Path) -> None:
    ears = Ears()
    async with StandIn() as server:
        provider = Rented(server.url, TimeoutError(), failures=1)
        outcome = await night(tmp_path, server, provider, ears)

    assert outcome.exit_code == 0
    assert outcome.usd > 0
    assert outcome.usd_open == 0


async def test_a_machine_called_off_before_it_is_ours_is_told_by_its_name(tmp_path: Path) -> None:
    ears = Ears()
    async with StandIn() as server:
        outcome = await night(tmp_path, server, HalfAsleep([server.url, ASLEEP]), ears)

    assert (outcome.exit_code, outcome.done) == (0, 3)
    told = sentence("lease_called_off", ears.events["lease_called_off"])
    assert told == f"{ASLEEP} is called off before it is ready: no work left"
    said = CliRunner().invoke(cli.app, ["why", "night", "--store", str(tmp_path / "store")]).stdout
    assert "gone before it was up" in said
    with Store.open(str(tmp_path / "store")).connect() as con:
        hosts = con.execute("select host from leases where jobs_done = 0").fetchall()
    assert hosts == [(ASLEEP,)]
