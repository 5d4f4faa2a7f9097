"""What the tests of the scheduler share: machines with a story, and runs that have come so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from nightkiln.core.events import (
    AskOffers,
    Command,
    Event,
    Failed,
    Offered,
    ProviderFacts,
    Queued,
    Rendered,
    Rent,
    Rented,
    Started,
    Submit,
    Tick,
)
from nightkiln.core.learning import Outlook, Scores
from nightkiln.core.model import Fault, JobId, Kind, Lease, LeaseId, Offer
from nightkiln.core.priors import Priors
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.terms import Terms

C = TypeVar("C")

NEAR = Offer("local", "http://near", slots=2)
FAR = Offer("local", "http://far", slots=2)

LOCAL = ProviderFacts("local", bills=False)
CLOUD = ProviderFacts("cloud", bills=True)
FALLBACK = ProviderFacts("functions", bills=True)

# A machine of which all is known, and which nothing goes wrong with.
SURE = Outlook(
    seconds_per_job=6.0,
    seconds_sd=0.1,
    startup_s=300.0,
    startup_sd=0.5,
    loading_s=200.0,
    boot_fails=0.0,
    lost_per_s=0.0,
    feared_per_s=0.0,
)


def machine(
    ref: str, usd: str = "0.40", kind: Kind = Kind.ON_DEMAND, vram_gb: float = 24.0
) -> Offer:
    """A machine of the market, with two slots."""
    price = Decimal(usd)
    return Offer("cloud", ref, "RTX 4090", price, slots=2, kind=kind, vram_gb=vram_gb)


CHEAP = machine("cheap", "0.30")
DEAR = machine("dear", "0.90")
BIG = machine("big", "1.50", vram_gb=80.0)


def function(ref: str, usd: str = "4.00") -> Offer:
    """A slot of the fallback."""
    kind = Kind.SERVERLESS
    return Offer("functions", ref, "L40S", Decimal(usd), slots=2, kind=kind, vram_gb=48.0)


def jobs(count: int) -> tuple[JobId, ...]:
    """The jobs of a catalog."""
    return tuple(JobId(f"job-{number}") for number in range(count))


def of(kind: type[C], commands: list[Command]) -> list[C]:
    """The commands of one kind."""
    return [command for command in commands if isinstance(command, kind)]


def proven() -> Scores:
    """The memory of a workflow that has rendered before, so that no canary is needed."""
    return Scores(workflow_jobs=1000)


def failed(submit: Submit, fault: Fault, kind: str = "exception", error: str = "boom") -> Failed:
    """How an attempt went wrong."""
    return Failed(submit.attempt_id, fault, kind, error)


@dataclass(slots=True)
class Run:
    """A scheduler at work, and all that it asked for, so that a test can say what comes next."""

    scheduler: Scheduler
    log: list[Command] = field(default_factory=list)
    leases: dict[LeaseId, Lease] = field(default_factory=dict)
    submits: list[Submit] = field(default_factory=list)  # in their order
    now_s: float = 0.0

    def on(self, event: Event) -> list[Command]:
        """What the scheduler asks for when ``event`` happens."""
        commands = self.scheduler.handle(event)
        self.log += commands
        self.submits += of(Submit, commands)
        for rent in of(Rent, commands):
            self.leases[rent.lease_id] = Lease(rent.lease_id, rent.offer)
        return commands

    def tick(self, seconds: float) -> list[Command]:
        """Time passes."""
        self.now_s += seconds
        return self.on(Tick(self.now_s))

    def wait(self, seconds: float, step_s: float = 20.0) -> list[Command]:
        """Time passes in steps, as it does in life."""
        commands: list[Command] = []
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            commands += self.tick(min(step_s, until_s - self.now_s))
        return commands

    def offered(self, *offers: Offer) -> list[Rent]:
        """A provider answers, and these are rented."""
        return of(Rent, self.on(Offered(offers[0].provider, offers)))

    def up(self, rent: Rent) -> list[Submit]:
        """A lease comes up and is given these."""
        return of(Submit, self.on(Rented(self.leases[rent.lease_id])))

    def done(self, submit: Submit, seconds: float = 6.0) -> list[Command]:
        """A job is rendered."""
        return self.on(Rendered(submit.attempt_id, seconds))

    def done_by_all(self, seconds: float) -> list[Command]:
        """Every machine finishes the job that it renders."""
        commands: list[Command] = []
        for held in list(self.scheduler.state.leases.values()):
            attempt_id = next(iter(held.running), None)
            if attempt_id is not None:
                commands += self.on(Rendered(attempt_id, seconds))
        return commands

    def finish(self, offer: Offer) -> list[Command]:
        """A machine finishes all that it has."""
        running = self.scheduler.state.leases[self.lease_on(offer)].running
        return [each for attempt in list(running) for each in self.on(Rendered(attempt, 6.0))]

    def lease_on(self, offer: Offer) -> LeaseId:
        """The last lease of a machine."""
        mine = [each.id for each in self.leases.values() if each.offer.host_key == offer.host_key]
        return mine[-1]

    def given_to(self, offer: Offer) -> list[Submit]:
        """All that was handed out to a machine."""
        lease_id = self.lease_on(offer)
        return [submit for submit in self.submits if submit.lease_id == lease_id]


def started(
    terms: Terms,
    *providers: ProviderFacts,
    count: int,
    scores: Scores | None = None,
    priors: Priors | None = None,
) -> Run:
    """A run that has its jobs, and has asked for machines."""
    scores = scores if scores is not None else proven()
    run = Run(Scheduler(terms, scores=scores, priors=priors))
    run.on(Started(0.0, providers))
    run.on(Queued(jobs(count), is_last=True))
    return run


def free_run(*offers: Offer, count: int, leases_max: int = 4) -> Run:
    """A run on machines of one's own, all of them up."""
    run = started(Terms("night-1", leases_max), LOCAL, count=count)
    for rent in run.offered(*offers):
        run.up(rent)
    return run


def billed_run(*offers: Offer, count: int, deadline_s: float = 3600.0) -> Run:
    """A run on rented machines, with those that it wanted up."""
    terms = Terms("night-1", 8, jobs=count, deadline_s=deadline_s)
    run = started(terms, CLOUD, count=count)
    for rent in run.offered(*offers):
        run.up(rent)
    return run


def stock(count: int, usd: str = "0.40") -> list[Offer]:
    return [machine(f"gpu-{number}", usd) for number in range(count)]


def refs(rents: list[Rent]) -> list[str]:
    return [rent.offer.ref for rent in rents]


def asked(commands: list[Command]) -> list[str]:
    return [each.provider for each in of(AskOffers, commands)]
