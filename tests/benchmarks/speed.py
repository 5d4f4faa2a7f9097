"""How fast nights are played: a million jobs on 500 faulty machines, and the scheduler alone."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal

from nightkiln.core.events import (
    AskOffers,
    Cancel,
    Command,
    Event,
    Failed,
    FetchJobs,
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
    Submit,
    Tick,
)
from nightkiln.core.learning import Scores
from nightkiln.core.model import AttemptId, Fault, JobId, Kind, Lease, LeaseId, Offer
from nightkiln.core.priors import Priors
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.terms import Late, Terms
from nightkiln.rehearse import Script, play, with_jobs
from nightkiln.testing.market import shipped_market
from nightkiln.testing.market.params import ApiTroubles, JobTroubles, Offline
from tests.benchmarks.child import in_child, measured, peak_mb
from tests.benchmarks.figure import Figure, at_most

JOBS, JOBS_SMALL, MACHINES = 1_000_000, 10_000, 500
JOBS_QUICK, JOBS_SMALL_QUICK, MACHINES_QUICK = 4_000, 1_000, 20
WALL_S_MAX, PEAK_MB_MAX, GROWTH_MAX = 300.0, 2000.0, 1.5
SECONDS_PER_JOB = 5.0
TIME_TO_SPARE = 2.4  # x what so many ordinary machines take: starts fail, leases are lost
TICK_S = 20.0
FAILS_EVERY, LOST_EVERY = 500, 20_000  # of the scheduler's jobs
PROVIDER = "p"


def figures(*, is_quick: bool) -> Iterator[Figure]:
    """The scheduler alone on a small and a large batch; then a whole large night."""
    jobs, small = (JOBS_QUICK, JOBS_SMALL_QUICK) if is_quick else (JOBS, JOBS_SMALL)
    machines = MACHINES_QUICK if is_quick else MACHINES
    alone = {
        count: in_child(__name__, "scheduler_alone", jobs=count, machines=machines)
        for count in (small, jobs)
    }
    for count, one in alone.items():
        per_event = one["handle_s"] / one["events"]
        yield Figure(f"scheduler_{count}_events", 1 / per_event, "events/s")
        yield Figure(f"scheduler_{count}_cpu", per_event * 1e6, "us/event")
    first, second = (one["handle_s"] / one["events"] for one in alone.values())
    yield at_most("scheduler_growth", second / first, "x", GROWTH_MAX)
    night = in_child(__name__, "night", jobs=jobs, machines=machines)
    yield at_most("night_wall", night["wall_s"], "s", WALL_S_MAX)
    yield at_most("night_peak", night["peak_mb"], "MB", PEAK_MB_MAX)
    yield Figure("night_cpu", night["cpu_s"] / night["events"] * 1e6, "us/event")
    yield Figure("night_machines", night["leases_most"], "at once")
    yield Figure("night_jobs_done", night["jobs_done"], "jobs")


def night(jobs: int, machines: int) -> dict[str, float]:
    """One large night in the flooded market, with every trouble that a market file knows."""
    with measured() as spent:
        played = play(faulty(jobs, machines), seed=1)
    return {
        "wall_s": spent.wall_s,
        "cpu_s": spent.cpu_s,
        "peak_mb": peak_mb(),
        "events": played.events,
        "leases_most": played.leases_most,
        "jobs_done": played.jobs_done,
    }


def faulty(jobs: int, machines: int) -> Script:
    """A batch that so many machines are needed for."""
    market = replace(
        with_jobs(shipped_market("flooded"), jobs),
        jobs=JobTroubles(
            poison_share=0.0005, corrupt_share=0.002, hungry_share=0.002, hungry_needs_gb=20.0
        ),
        api=ApiTroubles(outage_chance=1.0, outage_s=300.0, storm_chance=1.0, storm_s=600.0),
        offline=Offline(per_h=0.1, mean_s=120.0),
    )
    deadline_s = max(3600.0, TIME_TO_SPARE * jobs * SECONDS_PER_JOB / machines)
    return Script(market, deadline_s, leases_max=machines, late=Late.FINISH)


def scheduler_alone(jobs: int, machines: int) -> dict[str, float]:
    """Only ``handle``: everything around it is a few lines that answer at once."""
    world = _World(jobs, machines)
    world.play()
    assert world.settled == jobs
    return {"events": world.events, "handle_s": world.handle_s, "peak_mb": peak_mb()}


@dataclass(slots=True)
class _World:
    """Answers commands; every machine renders one job after the other."""

    jobs: int
    machines: int
    scheduler: Scheduler = field(init=False)
    now_s: float = 0.0
    events: int = 0
    handle_s: float = 0.0
    settled: int = 0
    _given: int = 0
    _submitted: int = 0
    _offers: tuple[Offer, ...] = ()
    _free_s: dict[LeaseId, float] = field(default_factory=dict)
    _coming: list[tuple[float, int, Event]] = field(default_factory=list)
    _number: int = 0

    def __post_init__(self) -> None:
        self._offers = tuple(
            Offer(
                PROVIDER,
                f"m{number}",
                "RTX 4090",
                Decimal("0.3"),
                slots=2,
                kind=Kind.ON_DEMAND,
                mbps_in=500.0,
            )
            for number in range(self.machines * 2)
        )
        # Never quite enough time, so that all machines are wanted to the end.
        deadline_s = self.jobs * SECONDS_PER_JOB / self.machines
        terms = Terms("r-1", self.machines, self.jobs, deadline_s, late=Late.FINISH)
        priors = Priors(seconds_per_job={"RTX 4090": SECONDS_PER_JOB})
        self.scheduler = Scheduler(terms, priors=priors, scores=Scores(workflow_jobs=1))

    def play(self) -> None:
        self._handle(Started(0.0, (ProviderFacts(PROVIDER, bills=True),)))
        self._at(TICK_S, Tick(TICK_S))
        while not self.scheduler.is_finished:
            self.now_s, _, event = heapq.heappop(self._coming)
            if isinstance(event, Tick):
                self._at(self.now_s + TICK_S, Tick(self.now_s + TICK_S))
            self._handle(event)

    def _handle(self, event: Event) -> None:
        self.events += 1
        start_s = time.process_time()
        commands = self.scheduler.handle(event)
        self.handle_s += time.process_time() - start_s
        self.settled = self.scheduler.state.done + self.scheduler.state.failed
        for command in commands:
            self._answer(command)

    def _answer(self, command: Command) -> None:
        match command:
            case FetchJobs(count_max):
                first, self._given = self._given, min(self._given + count_max, self.jobs)
                ids = tuple(JobId(f"j{number}") for number in range(first, self._given))
                self._at(self.now_s, Queued(ids, self._given == self.jobs))
            case AskOffers(name):
                self._at(self.now_s, Offered(name, self._offers))
            case Rent(offer, lease_id):
                self._at(self.now_s + 60, Rented(Lease(lease_id, offer)))
            case Release(lease_id):
                self._at(self.now_s, Released(lease_id, Decimal(0)))
            case Submit(lease_id, _, attempt_id):
                self._submit(lease_id, attempt_id)
            case Cancel(_, attempt_id):
                self._at(self.now_s, Failed(attempt_id, Fault.MARKET, "cancelled", ""))
            case _:
                pass

    def _submit(self, lease_id: LeaseId, attempt_id: AttemptId) -> None:
        self._submitted += 1
        ends_s = max(self.now_s, self._free_s.get(lease_id, 0.0)) + SECONDS_PER_JOB
        self._free_s[lease_id] = ends_s
        if self._submitted % LOST_EVERY == 0:
            self._at(ends_s, Lost(lease_id, "taken away"))
        if self._submitted % FAILS_EVERY == 0:
            self._at(ends_s, Failed(attempt_id, Fault.UNKNOWN, "exception", "a node raised"))
        else:
            self._at(ends_s, Rendered(attempt_id, SECONDS_PER_JOB))

    def _at(self, when_s: float, event: Event) -> None:
        heapq.heappush(self._coming, (when_s, self._next(), event))

    def _next(self) -> int:
        self._number += 1
        return self._number
