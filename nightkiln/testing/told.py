"""A small story with everything in it that somebody may ask about, written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from nightkiln.core.events import (
    Blame,
    Cancel,
    Extend,
    Failed,
    GiveUp,
    Lost,
    ProviderFacts,
    ProviderFailed,
    Queued,
    Release,
    Released,
    Rendered,
    Rent,
    Rented,
    Started,
    Stop,
    StopRequested,
    Submit,
    Tick,
)
from nightkiln.core.learning import Scores
from nightkiln.core.model import AttemptId, Fault, JobId, Kind, Lease, LeaseId, Loss, Offer
from nightkiln.core.priors import Priors
from nightkiln.core.story import Opening, Step
from nightkiln.core.terms import Terms

BEGAN_S = 1_800_000_000.0
GOOD, BAD = LeaseId("night-1-lease-000"), LeaseId("night-1-lease-001")
RETRIED, POISON, PLAIN = (JobId(letter * 64) for letter in "abc")
CHEAP = Offer("cloud", "o-1", "RTX 4090", Decimal("0.40"), kind=Kind.INTERRUPTIBLE, machine="m-1")
DEAR = Offer("cloud", "o-2", "RTX 3090", Decimal("0.20"), kind=Kind.ON_DEMAND, machine="m-2")
OPENING = Opening(
    batch="night",
    epoch=1,
    nightkiln="0.1.0",
    began_s=BEGAN_S,
    clock_s=100.0,
    terms=Terms("night-1", 4, jobs=3, deadline_s=100.0 + 3600, budget=Decimal("4.00")),
    priors=Priors(),
    scores=Scores(),
    blocked={},
)


def _tried(number: int) -> AttemptId:
    return AttemptId(f"night-1-{number:07d}")


def _submit(lease_id: LeaseId, job_id: JobId, number: int) -> Submit:
    return Submit(lease_id, job_id, _tried(number))


STEPS: Sequence[Step] = (
    Step(Started(100.0, (ProviderFacts("cloud", bills=True),))),
    Step(ProviderFailed("cloud", "HTTP 503")),
    Step(
        Queued((RETRIED, POISON, PLAIN), is_last=True),
        (
            Rent(CHEAP, GOOD, 3700.0, "0.00055 USD a job; 2 jobs would be late without it"),
            Rent(DEAR, BAD, 3700.0, "0.00060 USD a job; 1 jobs would be late without it"),
        ),
    ),
    Step(Tick(190.0)),
    Step(Rented(Lease(GOOD, CHEAP, "host-1")), (_submit(GOOD, PLAIN, 0), _submit(GOOD, POISON, 1))),
    Step(Rented(Lease(BAD, DEAR, "host-2")), (_submit(BAD, RETRIED, 2),)),
    Step(Tick(200.0), (Extend(GOOD, 7300.0),)),
    Step(Rendered(_tried(0), 4.4)),
    Step(
        Failed(_tried(1), Fault.JOB, "rejected", "no such\nnode: \x1b[31mFancy"),
        (GiveUp(POISON, Fault.JOB, "no such node: Fancy"),),
    ),
    Step(Tick(220.0), (Cancel(BAD, _tried(2), "it takes longer than 30 s"),)),
    Step(Failed(_tried(2), Fault.MARKET, "cancelled", "x"), (_submit(BAD, RETRIED, 3),)),
    Step(Tick(230.0)),
    Step(
        Lost(BAD, "no answer for 60 s", Loss.LOST),
        (
            Blame("cloud", "m-2", "lost", 86400.0),
            Release(BAD, "no answer for 60 s"),
            _submit(GOOD, RETRIED, 4),
        ),
    ),
    Step(Released(BAD, Decimal("0.0100"))),
    Step(Rendered(_tried(4), 5.0), (Release(GOOD, "no work left"),)),
    Step(StopRequested(is_now=False, reason="stopped by SIGTERM"), (Stop("stopped by SIGTERM"),)),
    Step(Tick(240.0)),
    Step(Released(GOOD, Decimal("0.0200"))),
)
