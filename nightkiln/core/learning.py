"""Turns what happened into what to expect: seconds per job, start-up, losses.

All estimates are conjugate updates in closed form, so an event costs a few additions:

- ln(seconds per job) = ln(prior of the class) + workflow + class + machine, each normal around 0;
  every machine that has rendered gives one noisy reading of the first three, and many of its own.
- start-up = what the advertised figures say x a factor learned from those that came up.
- losses are Poisson: a gamma posterior over hours of experience; those of bids (``outbid``) by GPU
  class and time of day.

What is kept between nights (`Scores`) is plain data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import exp, log

from nightkiln.core.model import Host, Kind, Offer
from nightkiln.core.outbid import DayRates, Outbid, Rate
from nightkiln.core.priors import Priors, gpu_class
from nightkiln.core.terms import Load

STARTUP_WEIGHT = 4.0  # start-ups that the prior factor 1 is worth
STARTUP_RATIO_MAX = 3.0  # one odd start-up tells no more than this
BOOT_WEIGHT = 2.0  # failed starts that the prior is worth
LOSS_WEIGHT_H = 20.0  # hours of experience that the prior of on-demand losses is worth
SPREAD_WEIGHT = 20.0  # jobs that the prior of the spread between jobs is worth
Z99 = 2.33  # 99th percentile of a normal distribution
SERVERLESS_SIGMA = 0.03
STARTED_LOCAL_S = 5.0
FEAR = 2.0  # standard deviations by which bids may lose their machine more often than is thought


@dataclass(slots=True)
class Pace:
    """What one machine, or the memory of it, says of its speed."""

    gpu: str = ""  # class
    jobs: float = 0.0
    log_s: float = 0.0  # mean of ln(seconds / prior of its class)


@dataclass(slots=True)
class Scores:
    """What tonight learns, and tomorrow starts from. Keys are GPU classes or machines."""

    workflow_jobs: int = 0  # verified results of this workflow, ever: it is proven
    machines: dict[Host, Pace] = field(default_factory=dict)  # of this workflow
    luck: dict[Host, float] = field(default_factory=dict)  # ln of machine / class
    startup: Pace = field(default_factory=Pace)  # ln(seen / expected)
    boots: Rate = field(default_factory=Rate)  # failed; hours = expected failures
    outbid: dict[str, Rate] = field(default_factory=dict)  # by GPU class; "" pools them
    lost: Rate = field(default_factory=Rate)
    outbid_by_day: dict[str, DayRates] = field(default_factory=dict)  # the same keys


@dataclass(frozen=True, slots=True)
class Outlook:
    """What to expect of an offer. ``*_sd`` are relative, a share of the mean."""

    seconds_per_job: float
    seconds_sd: float
    startup_s: float
    startup_sd: float
    loading_s: float  # part of the start-up in which the GPU may not be billed
    boot_fails: float
    lost_per_s: float
    feared_per_s: float  # the same, for prices: of what is not known for sure, a bad case


class Knowledge:
    """Expectations, kept up to date."""

    def __init__(
        self,
        priors: Priors,
        load: Load,
        scores: Scores | None = None,
        *,
        midnight_s: float | None = None,
    ) -> None:
        self.priors, self._load = priors, load
        self.scores = scores if scores is not None else Scores()
        self._outbid = Outbid(priors, self.scores.outbid, self.scores.outbid_by_day, midnight_s)
        self.learns = True
        self._sums: dict[str, tuple[int, float]] = {}  # class -> machines, sum of their log_s
        self._bad: dict[float, float] = {}
        self._effects: dict[str, tuple[float, float]] = {}  # as computed since the last reading
        self._outlooks: dict[tuple[str, str, Kind], Outlook] = {}  # of one look at the fleet
        self._spread = Rate(priors.job_sigma**2 * SPREAD_WEIGHT, SPREAD_WEIGHT)
        for pace in self.scores.machines.values():
            machines, total = self._sums.get(pace.gpu, (0, 0.0))
            self._sums[pace.gpu] = (machines + 1, total + pace.log_s)

    # Speed.

    def pace(self, offer: Offer) -> tuple[float, float]:
        """Seconds per job, and its relative standard deviation."""
        gpu = gpu_class(offer.gpu)
        effect, variance = self._effect(gpu)
        own = self._own(offer, effect)
        sigma = self._machine_sigma(offer)
        seconds = self._prior_s(gpu) * exp(effect + own[0])
        return seconds, (variance * own[1] + sigma**2 * own[1]) ** 0.5

    def class_pace(self, gpu: str) -> tuple[float, float]:
        """Seconds per job of a class, and its relative standard deviation, machines' luck apart."""
        effect, variance = self._effect(gpu)
        return self._prior_s(gpu) * exp(effect), variance**0.5

    def _prior_s(self, gpu: str) -> float:
        return self.priors.seconds_per_job.get(gpu, self.priors.seconds_unknown)

    def _machine_sigma(self, offer: Offer) -> float:
        return SERVERLESS_SIGMA if offer.kind is Kind.SERVERLESS else self.priors.machine_sigma

    def _own(self, offer: Offer, effect: float) -> tuple[float, float]:
        """The machine's own part of ln(seconds), and the share of doubt that is left."""
        seen = self.scores.machines.get(offer.host_key)
        luck = self.scores.luck.get(offer.host_key)
        if seen is None or not seen.jobs or not self.learns:
            return (luck, 0.3) if luck is not None else (0.0, 1.0)
        doubt = self._job_variance() / self._machine_sigma(offer) ** 2
        trust = seen.jobs / (seen.jobs + doubt)
        start = luck if luck is not None else 0.0
        return start + trust * (seen.log_s - effect - start), 1.0 - trust

    def _effect(self, gpu: str) -> tuple[float, float]:
        """Workflow and class part of ln(seconds) and their variance, for one class."""
        known = self._effects.get(gpu)
        if known is None:
            known = self._effects[gpu] = self._work_out_effect(gpu)
        return known

    def _work_out_effect(self, gpu: str) -> tuple[float, float]:
        priors = self.priors
        spread = priors.class_sigma**2 + priors.machine_sigma**2
        # A class that no table knows, a CPU for one, says how fast it is, and nothing of others.
        compared = priors.seconds_per_job.keys() | {gpu}
        told = [sums for each, sums in self._sums.items() if each in compared]
        count = sum(machines for machines, _ in told)
        total = sum(value for _, value in told)
        weight = 1 / priors.workflow_sigma**2
        workflow = total / spread / (weight + count / spread)
        workflow_var = 1 / (weight + count / spread)
        machines, value = self._sums.get(gpu, (0, 0.0))
        noise = priors.machine_sigma**2 / priors.class_sigma**2
        own = (value - machines * workflow) / (machines + noise)
        class_var = priors.class_sigma**2 * noise / (machines + noise)
        return workflow + own, workflow_var + class_var

    def rendered(self, offer: Offer, seconds: float) -> None:
        """One job took ``seconds`` of this machine."""
        self.scores.workflow_jobs += 1
        if not self.learns or seconds <= 0:
            return
        gpu, key = gpu_class(offer.gpu), offer.host_key
        seen = self.scores.machines.setdefault(key, Pace(gpu))
        machines, total = self._sums.get(gpu, (0, 0.0))
        if seen.jobs:
            machines, total = machines - 1, total - seen.log_s
        seen.jobs += 1
        self._effects.clear()
        value = log(seconds / self._prior_s(gpu))
        off = value - seen.log_s
        seen.log_s += off / seen.jobs
        self._sums[gpu] = (machines + 1, total + seen.log_s)
        if seen.jobs > 1:
            self._spread.events += off * (value - seen.log_s)
            self._spread.hours += 1

    def _job_variance(self) -> float:
        """Of ln(seconds) between jobs on one machine, learned over all machines."""
        return self._spread.events / self._spread.hours

    def job_p99_s(self, offer: Offer) -> float:
        """Seconds that one job in a hundred passes."""
        seconds, sd = self.pace(offer)
        return seconds * exp(Z99 * (sd**2 + self._job_variance()) ** 0.5)

    # Start-up.

    def startup(self, offer: Offer) -> tuple[float, float]:
        """Seconds until it renders when all goes well, and how many of them are loading."""
        if offer.kind is Kind.LOCAL:
            return STARTED_LOCAL_S, 0.0
        if offer.kind is Kind.SERVERLESS:
            return self.priors.serverless_startup_s, 0.0
        priors, factor = self.priors, self._startup_factor()
        mbps = offer.mbps_in or 200.0
        per_gb_s = 8000.0 / (mbps * priors.bandwidth_share)
        fetched_s = self._load.image_gb * per_gb_s + priors.extract_s
        pull_s = priors.cached_share * priors.cached_s + (1 - priors.cached_share) * fetched_s
        loading_s = (pull_s + priors.frozen_s) * factor
        return loading_s + (self._load.models_gb * per_gb_s + priors.app_s) * factor, loading_s

    def _startup_factor(self) -> float:
        seen = self.scores.startup
        return exp(seen.log_s * seen.jobs / (seen.jobs + STARTUP_WEIGHT)) if self.learns else 1.0

    def started(self, offer: Offer, took_s: float) -> None:
        """A machine came up after ``took_s``."""
        if offer.kind in {Kind.LOCAL, Kind.SERVERLESS}:
            return
        expected_s = self.startup(offer)[0] / self._startup_factor()
        bound = log(STARTUP_RATIO_MAX)
        ratio = max(-bound, min(bound, log(max(took_s, 1.0) / expected_s)))
        seen = self.scores.startup
        seen.jobs += 1
        seen.log_s += (ratio - seen.log_s) / seen.jobs
        self.scores.boots.hours += self._boot_fails_prior(offer)

    def boot_failed(self, offer: Offer) -> None:
        """A machine did not come up."""
        if offer.kind in {Kind.LOCAL, Kind.SERVERLESS}:
            return
        self.scores.boots.events += 1
        self.scores.boots.hours += self._boot_fails_prior(offer)

    def boot_fails(self, offer: Offer) -> float:
        """The chance that it does not come up."""
        if offer.kind in {Kind.LOCAL, Kind.SERVERLESS}:
            return 0.0
        boots = self.scores.boots
        learned = (boots.events + BOOT_WEIGHT) / (boots.hours + BOOT_WEIGHT)
        return min(0.9, self._boot_fails_prior(offer) * (learned if self.learns else 1.0))

    def _boot_fails_prior(self, offer: Offer) -> float:
        priors, bad = self.priors, self._bad_host(offer.reliability)
        fails = bad * priors.boot_fails_bad + (1 - bad) * priors.boot_fails
        return 1 - (1 - fails) * (1 - priors.slow_link_share * 0.5)

    def _bad_host(self, reliability: float) -> float:
        """The chance that a host is a bad one, from what it advertises (Bayes)."""
        known = self._bad.get(reliability)
        if known is None:
            priors, sure = self.priors, min(max(reliability, 1e-6), 1.0)
            good = priors.reliability_a * sure ** (priors.reliability_a - 1)
            bad = priors.reliability_a_bad * sure ** (priors.reliability_a_bad - 1)
            share = priors.bad_share
            known = self._bad[reliability] = share * bad / (share * bad + (1 - share) * good)
        return known

    # Losses.

    def lost_per_h(self, offer: Offer) -> float:
        """Expected losses per hour of such a lease."""
        if offer.kind in {Kind.LOCAL, Kind.SERVERLESS}:
            return 0.0
        priors, bad, lost = self.priors, self._bad_host(offer.reliability), self.scores.lost
        own = bad * priors.lost_per_h_bad + (1 - bad) * priors.lost_per_h
        if self.learns:
            usual = priors.lost_per_h
            own *= (lost.events + usual * LOSS_WEIGHT_H) / (
                usual * lost.hours + usual * LOSS_WEIGHT_H
            )
        if offer.kind is not Kind.INTERRUPTIBLE:
            return own
        return own + (
            self._outbid.per_h(gpu_class(offer.gpu)) if self.learns else priors.outbid_per_h
        )

    def feared_per_h(self, offer: Offer) -> float:
        """What a price counts on: a bid that is outbid more often than is thought is a dear one."""
        lost = self.lost_per_h(offer)
        if offer.kind is not Kind.INTERRUPTIBLE or not self.learns:
            return lost
        gpu = gpu_class(offer.gpu)
        return lost + FEAR * self._outbid.doubt(gpu) * self._outbid.per_h(gpu)

    def held(
        self, offer: Offer, hours: float, *, was_lost: bool, until_s: float | None = None
    ) -> None:
        """A lease was ours for ``hours``, and then taken away or not.

        ``until_s`` on the clock of ``Tick``; None says nothing about the time of day.
        """
        if offer.kind is Kind.INTERRUPTIBLE:
            self._outbid.held(gpu_class(offer.gpu), hours, was_lost=was_lost, until_s=until_s)
        elif offer.kind is Kind.ON_DEMAND:
            self.scores.lost.hours += hours
            self.scores.lost.events += was_lost

    def look_again(
        self, now_s: float, left_s: float, still_ours: Iterable[tuple[Offer, float]] = ()
    ) -> None:
        """Outlooks are worked out once for each look at the fleet; this is a new look.

        They are for the time ahead: the next ``left_s`` seconds. ``still_ours``: leases, and for
        how many hours they have been.
        """
        self._outlooks.clear()
        bids = (each for each in still_ours if each[0].kind is Kind.INTERRUPTIBLE)
        self._outbid.look_at((gpu_class(offer.gpu), hours) for offer, hours in bids)
        self._outbid.look_ahead(now_s, left_s)

    def outlook(self, offer: Offer) -> Outlook:
        """Everything above for one offer."""
        key = (offer.provider, offer.ref, offer.kind)
        known = self._outlooks.get(key)
        if known is None:
            known = self._outlooks[key] = self._work_out_outlook(offer)
        return known

    def _work_out_outlook(self, offer: Offer) -> Outlook:
        seconds, seconds_sd = self.pace(offer)
        startup_s, loading_s = self.startup(offer)
        is_sure = offer.kind in {Kind.LOCAL, Kind.SERVERLESS}
        return Outlook(
            seconds_per_job=seconds,
            seconds_sd=seconds_sd,
            startup_s=startup_s,
            startup_sd=0.1 if is_sure else self.priors.startup_sigma,
            loading_s=loading_s,
            boot_fails=self.boot_fails(offer),
            lost_per_s=self.lost_per_h(offer) / 3600,
            feared_per_s=self.feared_per_h(offer) / 3600,
        )
