"""Machines that an earlier run has left: gone on with where that is worth it, else given back."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from nightkiln.core.events import (
    Event,
    Known,
    ListOwned,
    Lost,
    Offered,
    Owned,
    ProviderFacts,
    ProviderFailed,
    Queued,
    Release,
    Released,
    Rent,
    Rented,
    Started,
    StopRequested,
    Submit,
)
from nightkiln.core.model import Lease, LeaseId, Loss
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.terms import Rules, Terms
from tests.core.table import CHEAP, DEAR, NEAR, Run, jobs, machine, of, proven

LISTING = ProviderFacts("cloud", bills=True, can_list=True)
OLD, OLDER = LeaseId("night-2-lease-004"), LeaseId("night-1-lease-000")
TERMS = Terms("night-3", 8, jobs=500, deadline_s=3600.0)
WARM = Known(OLD, CHEAP, asked_s=-1200.0, expires_s=1500.0)


def resumed(terms: Terms = TERMS, *providers: ProviderFacts, count: int = 500) -> Run:
    """A run of a batch that an earlier one has worked on; nobody has answered it yet."""
    run = Run(Scheduler(terms, scores=proven()))
    run.on(Started(0.0, providers or (LISTING,)))
    run.on(Queued(jobs(count), is_last=True))
    return run


def owned(*known: Known, others: tuple[str, ...] = ()) -> Owned:
    listed = (*(one.lease_id for one in known), *map(LeaseId, others))
    return Owned("cloud", listed, known)


def released(run: Run, event: Event) -> dict[str, str]:
    """What is given back when something happens, and why."""
    return {each.lease_id: each.reason for each in of(Release, run.on(event))}


def test_a_provider_that_bills_is_asked_what_is_ours_before_anything_else() -> None:
    commands = Run(Scheduler(TERMS)).on(Started(0.0, (LISTING,)))

    assert commands[0] == ListOwned("cloud")


@pytest.mark.parametrize(
    "facts",
    [ProviderFacts("cloud", bills=True), ProviderFacts("cloud", bills=False, can_list=True)],
)
def test_one_that_cannot_list_or_does_not_bill_is_not_asked(facts: ProviderFacts) -> None:
    assert of(ListOwned, Run(Scheduler(TERMS)).on(Started(0.0, (facts,)))) == []


def test_nothing_is_rented_there_before_it_has_answered() -> None:
    run = resumed()

    assert run.offered(CHEAP) == []
    assert [rent.offer.ref for rent in of(Rent, run.on(Owned("cloud", ())))] == ["cheap"]


def test_others_need_not_wait_for_it() -> None:
    run = resumed(TERMS, LISTING, ProviderFacts("local", bills=False))

    assert [rent.offer for rent in of(Rent, run.on(Offered("local", (NEAR,))))] == [NEAR]


def test_a_listing_that_fails_is_asked_for_again_and_waited_for() -> None:
    run = resumed()
    run.offered(CHEAP)
    run.on(ProviderFailed("cloud", "503", is_listing=True))

    assert run.wait(Rules().offers_every_s + 20).count(ListOwned("cloud")) == 1
    run.on(Offered("cloud", (CHEAP,)))
    assert of(Rent, run.log) == []
    assert of(Rent, run.on(Owned("cloud", ())))


def test_a_warm_machine_is_taken_over_under_its_own_name_and_given_work() -> None:
    run = resumed()

    [rent] = of(Rent, run.on(owned(WARM)))

    assert (rent.lease_id, rent.since_s) == (OLD, -1200.0)
    assert replace(rent.offer, startup_s=CHEAP.startup_s) == CHEAP
    assert rent.reason.startswith("adopted")
    assert rent.expires_at_s >= WARM.expires_s
    assert of(Submit, run.on(Rented(Lease(OLD, rent.offer))))


def test_what_it_has_cost_before_counts_in_this_run_too() -> None:
    run = resumed(replace(TERMS, budget=Decimal(5)))
    run.on(owned(WARM))
    held = run.scheduler.state.leases[OLD]

    reserved = run.scheduler.state.ledger.reserved(0.0)

    assert float(reserved) == pytest.approx(0.30 * (1200 + held.expires_s) / 3600, rel=1e-5)


def test_one_that_the_budget_does_not_pay_for_is_given_back() -> None:
    run = resumed(replace(TERMS, budget=Decimal("0.11")))  # 0.10 of it are spent

    assert "budget" in released(run, owned(WARM))[OLD]


def test_the_cheapest_are_taken_over_first() -> None:
    dear = Known(OLDER, DEAR, asked_s=-60.0, expires_s=3000.0)
    run = resumed(replace(TERMS, leases_max=1))

    commands = run.on(owned(dear, WARM))

    assert [each.lease_id for each in of(Rent, commands)] == [OLD]
    assert [each.lease_id for each in of(Release, commands)] == [OLDER]


def test_no_more_are_taken_over_than_there_is_work() -> None:
    known = [
        replace(WARM, lease_id=LeaseId(f"night-2-lease-{n:03d}"), offer=machine(f"gpu-{n}"))
        for n in range(5)
    ]
    run = resumed(replace(TERMS, jobs=2), count=2)

    commands = run.on(owned(*known))

    assert len(of(Rent, commands)) == 2
    assert len(of(Release, commands)) == 3


def test_a_lease_of_this_batch_that_nobody_wrote_down_is_given_back() -> None:
    assert released(resumed(), owned(others=(OLDER,))) == {
        OLDER: "it is billed to us, and no run holds it"
    }


def test_leases_of_other_batches_are_never_touched() -> None:
    others = ("morning-1-lease-000", "night-2-1-lease-000", "night~00000000-1-lease-000", "mine")

    commands = resumed().on(owned(others=others))

    assert not of(Rent, commands)
    assert not of(Release, commands)


def test_a_run_that_stops_gives_everything_back_once_it_hears_of_it() -> None:
    run = resumed()
    run.on(StopRequested(is_now=False, reason="asked"))
    assert not run.scheduler.is_finished

    assert "the run stops" in released(run, owned(WARM))[OLD]
    assert run.scheduler.is_finished


def test_a_run_without_work_waits_for_the_listing_and_gives_everything_back() -> None:
    run = resumed(replace(TERMS, jobs=0), count=0)
    assert not run.scheduler.is_finished

    assert list(released(run, owned(WARM))) == [OLD]
    assert run.scheduler.is_finished


def test_one_that_is_gone_meanwhile_is_given_back_and_its_machine_not_blamed() -> None:
    run = resumed()
    run.on(owned(WARM))

    commands = run.on(Lost(OLD, "no answer", Loss.SLOW))

    assert [type(each).__name__ for each in commands if not isinstance(each, ListOwned)][:1] == [
        "Release"
    ]
    assert not run.scheduler.state.market.blocked
    assert not run.scheduler.state.starts_alike


def test_a_name_that_is_still_in_use_at_the_provider_is_not_given_a_second_time() -> None:
    """The store was deleted and made anew: its first run is called like the one that died."""
    stale = LeaseId("night-3-lease-000")
    run = resumed()
    commands = run.on(owned(replace(WARM, lease_id=stale)))

    [rent] = run.offered(DEAR)

    assert [each.lease_id for each in of(Release, commands)] == [stale]
    assert rent.lease_id != stale


def test_one_that_was_given_up_unconfirmed_is_given_back_again_and_not_taken_over() -> None:
    run = resumed()
    run.on(owned(WARM))
    run.on(Lost(OLD, "no answer"))
    run.on(Released(OLD, is_confirmed=False))

    assert "given it up" in released(run, owned(WARM))[OLD]
    assert run.on(owned(WARM)) == []
