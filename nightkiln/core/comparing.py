"""What a whole batch would cost on one kind of GPU, and when it would be done: for a comparison.

A batch of ``N`` jobs on machines of one kind, each with ``s`` seconds per job, a start of ``S``
seconds of which ``f`` fail, and ``l`` losses per second (`nightkiln.core.learning.Outlook`):

- a start takes ``a = S + S/2 f/(1-f)``: those that fail cost half of one that comes up
- a machine that works ``W`` seconds is lost ``l W`` times and starts anew each time, so that it
  takes ``T = a + W (1 + l a)``, and ``k = 1 + l W`` starts
- the batch is done at the ``T`` at which the ``W / s`` of all machines add up to ``N``
- it costs ``k`` starts and their idle tails, ``W`` seconds of GPU and disk, and ``N`` results out

``S``, ``f``, ``l`` and what a start costs are those that a run ranks offers by
(`nightkiln.core.pricing`); what runs have learned replaces the dated priors in them. As a run does,
this takes the fewest machines, cheapest first, that make the deadline: each further one is one more
start. Where an hour until the end is worth something, it takes more as long as they pay for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from nightkiln.core.learning import Outlook, Scores
from nightkiln.core.model import Kind, Offer
from nightkiln.core.pricing import FAILED_SHARE, Parts, Quoter, failed_per_start, start_cost
from nightkiln.core.priors import Priors
from nightkiln.core.terms import Load, Rules

PER = 1000  # jobs that a price is told for
HOUR_S = 3600.0


class SecondsFrom(StrEnum):
    """Who says how long a job takes, the surest first."""

    MEASURED = "measured"  # this workflow, on GPUs of this class
    CARRIED = "carried"  # this workflow on other classes, brought over by the dated table
    TABLE = "table"  # the dated table alone: another workflow


class PriceFrom(StrEnum):
    """Who says what it costs."""

    LIVE = "live"  # the provider, now
    LISTED = "listed"  # a dated copy of its price list
    MARKET = "market"  # a market file
    OWN = "own"  # whose machine it is


@dataclass(frozen=True, slots=True)
class Basis:
    """What figures rest on. Those of one basis can be ranked; of different ones they cannot."""

    seconds: SecondsFrom
    price: PriceFrom

    def __str__(self) -> str:
        return f"{self.seconds}, {self.price}"


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be done."""

    jobs: int
    deadline_s: float
    load: Load
    machines_max: int
    own_usd_per_hour: float = 0.0  # what an hour until the batch is done is worth to somebody

    def __post_init__(self) -> None:
        assert self.jobs > 0
        assert self.machines_max > 0
        assert self.deadline_s > 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A machine that could be had, and what to expect of it."""

    offer: Offer
    outlook: Outlook

    @property
    def start_s(self) -> float:
        """From renting to the first job, those that fail on the way included."""
        return self.outlook.startup_s * (1 + FAILED_SHARE * failed_per_start(self.outlook))

    @property
    def stretch(self) -> float:
        """How many seconds pass for one of work, as lost machines start anew."""
        return 1 + self.outlook.lost_per_s * self.start_s

    @property
    def jobs_per_s(self) -> float:
        """Once it is up."""
        return 1 / (self.outlook.seconds_per_job * self.stretch)

    def worked_s(self, until_s: float) -> float:
        """Seconds of rendering when the batch ends then."""
        return max(0.0, until_s - self.start_s) / self.stretch


@dataclass(frozen=True, slots=True)
class BatchParts(Parts):
    """USD of a batch by what they are for."""

    rendering: float = 0.0  # the machine while it works; of one's own, its electricity
    startup: float = 0.0  # the machine until its first job, failed starts included
    storage: float = 0.0  # its disk, from rent to release
    network: float = 0.0  # traffic in and out
    idle: float = 0.0  # billed after the last job
    own_time: float = 0.0


@dataclass(frozen=True, slots=True)
class Expected:
    """What one kind of GPU would make of a batch."""

    jobs: int
    machines: int
    seconds_per_job: float
    seconds_sd: float  # relative: how far that may be off
    finish_s: float  # after the start
    is_late: bool  # even all there are would not make the deadline
    parts: BatchParts
    start_usd: float  # before first jobs: machine, disk and traffic in

    @property
    def usd_per_1000(self) -> float:
        return self.per_1000(self.parts.usd)

    @property
    def startup_fraction(self) -> float | None:
        """Of what the provider would bill, what goes before first jobs; None: it bills nothing."""
        billed = self.parts.usd - self.parts.own_time
        return self.start_usd / billed if billed > 0 else None

    def per_1000(self, usd: float) -> float:
        """A part of the batch's USD, told for 1,000 jobs."""
        return PER * usd / self.jobs


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a comparison."""

    provider: str
    gpu: str
    kind: Kind
    basis: Basis
    expected: Expected


def seconds_from(gpu: str, scores: Scores, priors: Priors) -> SecondsFrom | None:
    """Who says how long a job takes on a class of GPUs; None: nobody, it would be a bare guess."""
    seen = {pace.gpu for pace in scores.machines.values() if pace.jobs > 0}
    if gpu in seen:
        return SecondsFrom.MEASURED
    if gpu not in priors.seconds_per_job:
        return None
    is_carried = any(other in priors.seconds_per_job for other in seen)
    return SecondsFrom.CARRIED if is_carried else SecondsFrom.TABLE


def expected(candidates: Sequence[Candidate], batch: Batch) -> Expected | None:
    """What a batch would cost on these machines; None: none of them would be up in time."""
    machines = _cheapest_first(candidates, batch)
    if not machines:
        return None
    wanted_s = (1 - Rules().safety) * batch.deadline_s
    most = min(batch.machines_max, batch.jobs, len(machines))
    fewest = next(
        (count for count in range(1, most) if finish_s(machines[:count], batch.jobs) <= wanted_s),
        most,
    )
    best = _of_fleet(machines[:fewest], batch)
    for count in range(fewest + 1, most + 1):
        more = _of_fleet(machines[:count], batch)
        if more.parts.usd >= best.parts.usd:
            break
        best = more
    return best


def finish_s(machines: Sequence[Candidate], jobs: float) -> float:
    """When machines that start together have done so many jobs.

    What they have done by ``T`` is the sum of ``(T - a) / (s (1 + l a))`` over those that are up.
    """
    ready = sorted(machines, key=lambda one: one.start_s)
    rate = done_before = until_s = 0.0
    for number, machine in enumerate(ready, 1):
        rate += machine.jobs_per_s
        done_before += machine.jobs_per_s * machine.start_s
        until_s = (jobs + done_before) / rate
        if number < len(ready) and until_s <= ready[number].start_s:
            break
    return until_s


def middle(found: Sequence[Expected]) -> Expected:
    """The one that is neither dear nor cheap among the same batch at several moments."""
    ordered = sorted(found, key=lambda one: (one.is_late, one.usd_per_1000))
    return ordered[len(ordered) // 2]


def by_basis(lines: Sequence[Line]) -> Mapping[Basis, Sequence[Line]]:
    """Lines that can be held against each other, the surest basis first, the cheapest line first.

    Those that miss the deadline come last: unfinished work looks cheap.
    """
    order: dict[Basis, list[Line]] = {
        Basis(seconds, price): [] for seconds in SecondsFrom for price in PriceFrom
    }
    for line in sorted(lines, key=_place):
        order[line.basis].append(line)
    return {basis: found for basis, found in order.items() if found}


def rank(line: Line, others: Sequence[Line]) -> int | None:
    """Its place, from 1, among lines of one basis; None: it misses the deadline."""
    assert all(other.basis == line.basis for other in others), "of one basis"
    if line.expected.is_late:
        return None
    return 1 + sum(_place(other) < _place(line) for other in others)


def _place(line: Line) -> tuple[bool, float, float, str, str, str]:
    found = line.expected
    named = (line.provider, line.gpu, line.kind.value)
    return (found.is_late, found.usd_per_1000, found.finish_s, *named)


def _cheapest_first(candidates: Sequence[Candidate], batch: Batch) -> list[Candidate]:
    """Each machine once, by USD per job as a run would rank it."""
    quoter = Quoter(batch.load, Rules())
    found: dict[tuple[str, str], tuple[float, str, Candidate]] = {}
    for one in candidates:
        offer, wanted = one.offer, float(batch.jobs)
        price = quoter.price(offer, one.outlook, left_s=batch.deadline_s, shortfall=wanted)
        if price is None or one.start_s >= batch.deadline_s:
            continue
        mine = (price.usd_per_job, offer.ref, one)
        if offer.host_key not in found or mine[:2] < found[offer.host_key][:2]:
            found[offer.host_key] = mine
    return [one for *_, one in sorted(found.values(), key=lambda each: each[:2])]


def _of_fleet(machines: Sequence[Candidate], batch: Batch) -> Expected:
    until_s = finish_s(machines, batch.jobs)
    used = [one for one in machines if one.worked_s(until_s) > 0]
    costs = [_cost(one, until_s, batch.load) for one in used]
    own = BatchParts(own_time=batch.own_usd_per_hour * until_s / HOUR_S)
    return Expected(
        jobs=batch.jobs,
        machines=len(used),
        seconds_per_job=sum(one.worked_s(until_s) for one in used) / batch.jobs,
        seconds_sd=sum(one.outlook.seconds_sd for one in used) / len(used),
        finish_s=until_s,
        is_late=until_s > batch.deadline_s,
        parts=sum((parts for parts, _ in costs), own),
        start_usd=sum(start_usd for _, start_usd in costs),
    )


def _cost(machine: Candidate, until_s: float, load: Load) -> tuple[BatchParts, float]:
    """USD of one machine by what they are for, and how many of them go before first jobs."""
    offer, outlook = machine.offer, machine.outlook
    worked_s = machine.worked_s(until_s)
    starts = 1 + outlook.lost_per_s * worked_s
    tries = starts * (1 + FAILED_SHARE * failed_per_start(outlook))
    start = start_cost(offer, outlook, load)
    out_gb = load.result_gb * worked_s / outlook.seconds_per_job
    parts = BatchParts(
        rendering=worked_s * float(offer.usd_per_hour) / HOUR_S,
        startup=tries * start.gpu,
        storage=tries * start.storage + worked_s * float(offer.storage_usd_per_hour) / HOUR_S,
        network=tries * start.traffic + out_gb * float(offer.usd_per_gb_out),
        idle=tries * start.tail,
    )
    return parts, tries * (start.gpu + start.storage + start.traffic)
