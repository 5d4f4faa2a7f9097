"""Prompts that are nobody's business are rendered where nobody looks, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.end_rules import PATIENCE_S
from nightkiln.core.events import Offered, Stop, Submit
from nightkiln.core.faults import Tries
from nightkiln.core.model import JobId, Kind, Offer, Trust
from nightkiln.core.routing import Queue
from nightkiln.core.terms import Terms
from tests.core.table import (
    CHEAP,
    CLOUD,
    DEAR,
    FALLBACK,
    LOCAL,
    NEAR,
    function,
    machine,
    of,
    refs,
    started,
)

HOUSE = replace(DEAR, trust="datacenter")
TRUSTS = st.sampled_from([*Trust, "a word of tomorrow"])
KINDS = st.sampled_from(list(Kind))


def private(count: int = 40) -> Terms:
    return Terms("night-1", 8, jobs=count, deadline_s=3600.0, trust=Trust.DATACENTER)


@pytest.mark.parametrize(
    ("known", "wanted", "is_enough"),
    [
        (Trust.ANY, Trust.ANY, True),
        (Trust.ANY, Trust.VERIFIED, False),
        (Trust.VERIFIED, Trust.VERIFIED, True),
        (Trust.VERIFIED, Trust.DATACENTER, False),
        (Trust.DATACENTER, Trust.VERIFIED, True),
        (Trust.DATACENTER, Trust.DATACENTER, True),
    ],
)
def test_more_trust_than_asked_for_will_do(known: Trust, wanted: Trust, is_enough: bool) -> None:  # noqa: FBT001
    assert known.is_enough(wanted) is is_enough


def test_ones_own_machines_and_serverless_gpus_count_as_a_datacenter() -> None:
    assert NEAR.trusted_as is Trust.DATACENTER
    assert function("slot").trusted_as is Trust.DATACENTER


def test_a_word_of_trust_that_nobody_knows_is_none() -> None:
    assert replace(CHEAP, trust="royal").trusted_as is Trust.ANY


def test_a_dear_datacenter_is_rented_where_a_cheap_stranger_must_not_be() -> None:
    run = started(private(), CLOUD, count=40)

    assert set(refs(run.offered(CHEAP, HOUSE))) == {HOUSE.ref}


def test_a_private_batch_still_uses_ones_own_machines_and_the_fallback() -> None:
    run = started(private(4000), LOCAL, CLOUD, FALLBACK, count=4000)

    rented = refs(run.offered(NEAR))
    run.on(Offered("cloud", (CHEAP,)))
    fallback = run.offered(*(function(f"slot-{number}") for number in range(8)))

    assert rented == [NEAR.ref]
    assert fallback != []


def test_a_run_whom_only_strangers_offer_machines_ends_and_says_why() -> None:
    run = started(private(), CLOUD, count=40)

    run.offered(CHEAP)
    early = run.wait(PATIENCE_S - 20)
    run.on(Offered("cloud", (CHEAP,)))
    late = run.wait(60)

    assert of(Stop, early) == []
    [stop] = of(Stop, late)
    assert "trust: datacenter" in stop.reason


def test_one_datacenter_among_strangers_is_reason_enough_to_go_on() -> None:
    run = started(private(), CLOUD, count=40)
    poor = replace(HOUSE, vram_gb=1.0)

    run.on(Offered("cloud", (CHEAP, poor)))

    assert of(Stop, run.wait(2 * PATIENCE_S)) == []


@given(
    kinds=st.lists(st.tuples(KINDS, TRUSTS), min_size=1, max_size=6),
    wanted=st.sampled_from(list(Trust)),
)
def test_no_job_ever_goes_to_a_machine_that_is_known_less_well_than_asked(
    kinds: list[tuple[Kind, str]], wanted: Trust
) -> None:
    """Whatever is on offer, and also were it rented before the catalog asked for more."""
    offers = [
        replace(machine(f"gpu-{number}"), kind=kind, trust=trust)
        for number, (kind, trust) in enumerate(kinds)
    ]
    run = started(replace(private(), trust=wanted), CLOUD, count=40)
    queue = Queue(trust=wanted)
    queue.add([JobId("job")], [])
    queue.tries[JobId("again")] = Tries()
    queue.put_back(JobId("again"))

    submits: list[Submit] = []
    for rent in run.offered(*offers):
        submits += run.up(rent)

    for submit in submits:
        assert run.leases[submit.lease_id].offer.trusted_as.is_enough(wanted)
    for offer in offers:
        if not offer.trusted_as.is_enough(wanted):
            assert_refused(queue, offer)


def assert_refused(queue: Queue, offer: Offer) -> None:
    assert queue.take(offer, "") is None
    assert not queue.has_for(offer)
    assert not queue.may_run(JobId("job"), offer)
