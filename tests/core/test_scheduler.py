"""The scheduler as a table one can read aloud: what happened, then what it asks for."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from nightkiln.core import end_rules, faults, fleet_rules, job_rules, market, release_rules
from nightkiln.core.events import (
    AskOffers,
    Cancel,
    Command,
    Event,
    Failed,
    FetchJobs,
    GiveUp,
    Lost,
    Offered,
    ProviderFacts,
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
from nightkiln.core.model import Fault, JobId, Lease, LeaseId, Offer
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.terms import Terms

C = TypeVar("C")

NEAR = Offer("local", "http://near", slots=2)
FAR = Offer("local", "http://far", slots=2)
PAID = Offer("cloud", "gpu-1", usd_per_hour=Decimal("0.40"), slots=2)


LOCAL = (ProviderFacts("local", bills=False),)
CLOUD = (ProviderFacts("cloud", bills=True),)


def new_scheduler() -> Scheduler:
    return Scheduler(Terms("night-1", leases_max=4))


def jobs(count: int) -> tuple[JobId, ...]:
    return tuple(JobId(f"job-{n}") for n in range(count))


def with_ready(*offers: Offer, count: int) -> tuple[Scheduler, list[Lease], list[Submit]]:
    """A run with ``count`` jobs in all and a ready lease for each offer."""
    run = new_scheduler()
    run.handle(Started(0.0, LOCAL if offers[0].is_free else CLOUD))
    run.handle(Queued(jobs(count), is_last=True))
    rents = of(Rent, run.handle(Offered(offers[0].provider, offers)))
    leases = [Lease(rent.lease_id, rent.offer) for rent in rents]
    submits = [s for lease in leases for s in of(Submit, run.handle(Rented(lease)))]
    return run, leases, submits


def of(kind: type[C], commands: list[Command]) -> list[C]:
    return [command for command in commands if isinstance(command, kind)]


def failed(submit: Submit, fault: Fault, kind: str = "exception") -> Failed:
    return Failed(submit.attempt_id, fault, kind, "boom")


def test_a_run_first_asks_for_jobs_and_for_machines_only_once_there_are_some() -> None:
    run = new_scheduler()

    assert run.handle(Started(0.0, LOCAL)) == [FetchJobs(job_rules.FETCH_MAX)]
    assert run.handle(Queued(jobs(3), is_last=True)) == [AskOffers("local", fleet_rules.OFFERS_MAX)]


def test_a_batch_without_jobs_rents_nothing_and_is_finished() -> None:
    run = new_scheduler()
    run.handle(Started(0.0, LOCAL))

    assert run.handle(Queued((), is_last=True)) == []
    assert run.is_finished


def test_no_more_machines_are_rented_than_there_are_jobs() -> None:
    run = new_scheduler()
    run.handle(Started(0.0, LOCAL))
    run.handle(Queued(jobs(1), is_last=True))

    commands = run.handle(Offered("local", (NEAR, FAR)))

    assert [rent.offer for rent in of(Rent, commands)] == [NEAR]


def test_a_ready_machine_is_filled_up_to_its_slots() -> None:
    _, [lease], submits = with_ready(NEAR, count=5)

    assert [s.job_id for s in submits] == ["job-0", "job-1"]
    assert {s.lease_id for s in submits} == {lease.id}
    assert len({s.attempt_id for s in submits}) == 2


def test_a_failed_job_goes_to_a_machine_where_it_has_not_failed() -> None:
    run, [near, far], submits = with_ready(NEAR, FAR, count=4)
    first = next(s for s in submits if s.lease_id == near.id)
    elsewhere = next(s for s in submits if s.lease_id == far.id)

    assert of(Submit, run.handle(failed(first, Fault.UNKNOWN))) == []

    [again] = of(Submit, run.handle(Rendered(elsewhere.attempt_id)))
    assert (again.job_id, again.lease_id) == (first.job_id, far.id)


def test_a_failed_job_is_tried_again_on_the_only_machine_there_is() -> None:
    run, _, [submit] = with_ready(NEAR, count=1)

    [again] = of(Submit, run.handle(failed(submit, Fault.UNKNOWN)))

    assert again.job_id == submit.job_id
    assert again.attempt_id != submit.attempt_id


def test_a_job_at_fault_is_given_up_at_once_and_the_reason_is_kept() -> None:
    run, _, [submit] = with_ready(NEAR, count=1)

    commands = run.handle(failed(submit, Fault.JOB, "rejected"))

    assert of(GiveUp, commands) == [GiveUp(submit.job_id, Fault.JOB, "boom")]


def test_a_job_is_given_up_after_so_many_failures_wherever_they_happened() -> None:
    run, _, [submit] = with_ready(NEAR, count=1)
    for _ in range(faults.ATTEMPTS_MAX - 1):
        [submit] = of(Submit, run.handle(failed(submit, Fault.UNKNOWN)))

    commands = run.handle(failed(submit, Fault.UNKNOWN))

    assert of(GiveUp, commands) == [GiveUp(submit.job_id, Fault.UNKNOWN, "boom")]


def test_a_market_that_takes_machines_back_is_never_held_against_a_job() -> None:
    run, _, [submit] = with_ready(NEAR, count=1)

    for _ in range(10 * faults.ATTEMPTS_MAX):
        [submit] = of(Submit, run.handle(failed(submit, Fault.MARKET)))

    assert run.state.failed == 0


def test_jobs_of_a_lost_machine_go_to_the_others_and_it_is_released() -> None:
    run, [near, far], submits = with_ready(NEAR, FAR, count=4)
    theirs = [s.job_id for s in submits if s.lease_id == near.id]

    commands = run.handle(Lost(near.id, "gone"))
    for submit in submits:
        if submit.lease_id == far.id:
            commands += run.handle(Rendered(submit.attempt_id))

    assert of(Release, commands)[0].lease_id == near.id
    assert sorted(s.job_id for s in of(Submit, commands)) == theirs
    assert {s.lease_id for s in of(Submit, commands)} == {far.id}


def test_a_machine_that_fails_again_and_again_is_released() -> None:
    run, [near, _], submits = with_ready(NEAR, FAR, count=50)
    queue = [s for s in submits if s.lease_id == near.id]
    released: list[Release] = []
    for _ in range(release_rules.MACHINE_FAULTS_MAX):
        commands = run.handle(failed(queue.pop(0), Fault.MACHINE, "truncated"))
        queue += [s for s in of(Submit, commands) if s.lease_id == near.id]
        released = of(Release, commands)

    assert [release.lease_id for release in released] == [near.id]


def test_a_success_between_failures_keeps_a_machine() -> None:
    run, [near], submits = with_ready(NEAR, count=50)
    queue = list(submits)
    for _ in range(5 * release_rules.MACHINE_FAULTS_MAX):
        for event in (failed(queue[0], Fault.MACHINE), Rendered(queue[1].attempt_id)):
            commands = run.handle(event)
            assert of(Release, commands) == []
            queue += of(Submit, commands)
        queue = queue[2:]

    assert near.id in run.state.leases


def test_a_full_disk_ends_a_machine_at_once() -> None:
    run, [near, _], [first, *_] = with_ready(NEAR, FAR, count=50)

    commands = run.handle(failed(first, Fault.MACHINE, "disk_full"))

    assert [release.lease_id for release in of(Release, commands)] == [near.id]


def test_a_disappointing_offer_is_rented_again_later_and_less_and_less_often() -> None:
    run, [lease], _ = with_ready(NEAR, count=9)
    run.handle(Lost(lease.id, "gone"))
    run.handle(Released(lease.id))

    assert of(Rent, run.handle(Offered("local", (NEAR,)))) == []
    assert of(Rent, run.handle(Tick(market.COOLDOWN_S + 0.1))) != []


def test_a_machine_that_arrives_after_we_lost_interest_is_released_at_once() -> None:
    run = new_scheduler()
    late = Lease(LeaseId("forgotten"), NEAR)

    commands = run.handle(Rented(late))

    assert [release.lease_id for release in of(Release, commands)] == [late.id]


def test_a_free_machine_waits_for_the_last_job_in_case_it_fails_elsewhere() -> None:
    run, [near, far], [first, second] = with_ready(NEAR, FAR, count=2)[0:3]
    on_near, on_far = sorted((first, second), key=lambda s: s.lease_id)

    assert of(Release, run.handle(Rendered(on_near.attempt_id))) == []

    released = of(Release, run.handle(Rendered(on_far.attempt_id)))
    assert {release.lease_id for release in released} == {near.id, far.id}


def test_a_machine_that_costs_money_goes_when_there_is_no_work_left_for_it() -> None:
    run, [paid], submits = with_ready(PAID, count=1)

    released = of(Release, run.handle(Rendered(submits[0].attempt_id)))

    assert [release.lease_id for release in released] == [paid.id]


def test_a_stop_finishes_what_runs_and_hands_out_nothing_more() -> None:
    run, [lease], [first, second] = with_ready(NEAR, count=9)

    assert run.handle(StopRequested(is_now=False, reason="asked")) == []
    assert run.handle(Rendered(first.attempt_id)) == []
    assert of(Release, run.handle(Rendered(second.attempt_id)))
    run.handle(Released(lease.id))

    assert run.is_finished
    assert run.stop_reason == "asked"


def test_a_stop_now_hands_running_jobs_back_without_blame() -> None:
    run, [lease], submits = with_ready(NEAR, count=9)

    cancels = of(Cancel, run.handle(StopRequested(is_now=True, reason="asked")))
    for cancel in cancels:
        run.handle(Failed(cancel.attempt_id, Fault.MARKET, "cancelled", ""))
    run.handle(Released(lease.id))

    assert {c.attempt_id for c in cancels} == {s.attempt_id for s in submits}
    assert run.is_finished
    assert run.state.failed == 0


def test_when_the_first_jobs_all_fail_the_run_stops_before_burning_the_catalog() -> None:
    run, _, submits = with_ready(NEAR, count=1000)
    queue, commands = list(submits), list[Command]()
    for _ in range(end_rules.FIRST_FAILURES_MAX):
        commands = run.handle(failed(queue.pop(0), Fault.JOB, "rejected"))
        queue += of(Submit, commands)

    [stop] = of(Stop, commands)
    assert "catalog" in stop.reason


def test_without_any_machine_the_run_waits_for_a_while_and_then_says_so() -> None:
    run = new_scheduler()
    run.handle(Started(0.0, LOCAL))
    run.handle(Queued(jobs(3), is_last=True))
    run.handle(Offered("local", ()))

    assert of(Stop, run.handle(Tick(end_rules.PATIENCE_S))) == []
    assert of(Stop, run.handle(Tick(end_rules.PATIENCE_S + 1))) != []


class Night:
    """Carries out commands in any order and answers with any fate."""

    def __init__(self, count: int, seed: int) -> None:
        self.dice = Random(seed)  # noqa: S311 - a game, not a secret
        self.run = new_scheduler()
        self.left = list(jobs(count))
        self.pending: list[Event] = [Started(0.0, LOCAL + CLOUD)]
        self.now_s = 0.0
        self.machines = 0
        self.done: list[JobId] = []
        self.given_up: list[JobId] = []
        self.leases: dict[LeaseId, Lease] = {}
        self.submits: dict[str, Submit] = {}

    def step(self) -> None:
        if not self.pending or self.dice.random() < 0.1:
            self.now_s += 3.0
            self.pending.append(Tick(self.now_s))
        event = self.pending.pop(self.dice.randrange(len(self.pending)))
        if isinstance(event, Rendered):
            submit = self.submits.pop(event.attempt_id, None)
            if submit is None:
                return
            if submit.job_id not in self.done:  # the second of two tries comes too late
                self.done.append(submit.job_id)
        for command in self.run.handle(event):
            self.pending += self.answer(command)

    def answer(self, command: Command) -> list[Event]:
        match command:
            case FetchJobs():
                batch, self.left = self.left[:7], self.left[7:]
                return [Queued(tuple(batch), is_last=not self.left)]
            case AskOffers(provider):
                self.machines += 1  # a market always has another one, in the end
                new = replace(PAID, ref=f"gpu-{self.machines}")
                return [Offered(provider, (new,) if provider == "cloud" else (NEAR, FAR))]
            case Rent(offer, lease_id):
                lease = self.leases[lease_id] = Lease(lease_id, offer)
                lost = self.dice.random() < 0.2
                return [Lost(lease_id, "no boot")] if lost else [Rented(lease)]
            case Submit():
                self.submits[command.attempt_id] = command
                return [self.fate(command)]
            case Release(lease_id):
                self.leases.pop(lease_id, None)  # releasing is idempotent
                for attempt_id, submit in list(self.submits.items()):
                    if submit.lease_id == lease_id:
                        del self.submits[attempt_id]
                return [Released(lease_id)]
            case GiveUp(job_id):
                self.given_up.append(job_id)
        return []

    def fate(self, submit: Submit) -> Event:
        roll = self.dice.random()
        if roll < 0.7:
            return Rendered(submit.attempt_id)
        if roll < 0.75:
            return Lost(submit.lease_id, "died")
        fault = self.dice.choice([Fault.MACHINE, Fault.UNKNOWN, Fault.JOB, Fault.MARKET])
        return failed(submit, fault)


@settings(max_examples=200, deadline=None)
@given(count=st.integers(0, 40), seed=st.integers(0, 10**6))
def test_any_night_ends_with_every_job_settled_once_and_every_machine_returned(
    count: int, seed: int
) -> None:
    night = Night(count, seed)

    for _ in range(20_000):
        if night.run.is_finished:
            break
        night.step()

    assert night.run.is_finished
    assert night.leases == {}
    settled = night.done + night.given_up
    assert len(settled) == len(set(settled))
    if night.run.stop_reason is None:
        assert sorted(settled) == sorted(jobs(count))
