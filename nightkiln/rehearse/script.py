"""What is played: a market, a batch, a deadline, and what the scheduler believes beforehand."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from math import log

from nightkiln.core.learning import Scores
from nightkiln.core.model import Kind, Usd
from nightkiln.core.priors import Priors, gpu_class
from nightkiln.core.terms import Fallback, Late, Load, Rules, Terms
from nightkiln.rehearse.measured import Measured
from nightkiln.testing.market import Market, Night
from nightkiln.testing.market.dice import throw
from nightkiln.testing.market.night import HORIZON_DEADLINES

PROVIDER = "market"
SERVERLESS = "modal"  # stands behind a market file's fallback
LUMPS_USUAL = 500  # per night: enough that a lump more or less on a machine does not show
LUMPS_PER_MACHINE_MIN = 40  # in the time until the deadline
SECONDS_UNKNOWN = 6.0  # per job, of a class that nobody has seen
WORKFLOW_SIGMA = 0.05  # the market file says what a job takes, so the workflow is well known


@dataclass(frozen=True, slots=True)
class Script:
    """What all nights of a rehearsal have in common.

    ``market.batch`` is the batch. ``lump``: so many jobs are handed out as one, which is as much
    faster to play and changes little while a machine has many lumps to do.
    """

    market: Market
    deadline_s: float
    budget: Usd | None = None
    lump: int = 1
    leases_max: int = 64
    fallback: Fallback = Fallback.AUTO
    late: Late = Late.STOP
    kinds: tuple[Kind, ...] = (Kind.ON_DEMAND, Kind.INTERRUPTIBLE)
    rules: Rules = field(default_factory=Rules)
    is_proven: bool = True  # the workflow has been rendered before, so that no canary is needed
    known_share: float = 0.0  # of the machines whose luck earlier nights have shown
    results_per_s_max: float | None = None  # that the controller can take in; None: any number
    measured: Measured | None = None  # of the workflow; the market is already as measured
    usd_per_hour_max: Usd | None = (
        None  # of a machine, with its disk; dearer ones are not looked at
    )

    def __post_init__(self) -> None:
        assert self.deadline_s > 0
        assert self.lump >= 1

    @property
    def lumps(self) -> int:
        return max(1, round(self.market.batch.jobs / self.lump))

    @property
    def jobs_per_lump(self) -> float:
        """Close to ``lump``: lumps are whole, and together they are the batch."""
        return self.market.batch.jobs / self.lumps

    def night(self, seed: int) -> Night:
        """The night of ``seed``; the same one, as far as they go, that baselines are played on."""
        horizon_s = HORIZON_DEADLINES * self.deadline_s
        market = self.night_market(seed)
        return Night(market, seed=seed, horizon_s=horizon_s, deadline_s=self.deadline_s)

    def night_market(self, seed: int) -> Market:
        """The market of one night: measured seconds may be off, and each night says how far."""
        if self.measured is None or not self.measured.is_used:
            return self.market
        return self.measured.night_market(self.market, seed)

    def with_measured(self, measured: Measured | None) -> Script:
        """The same with what is known of the workflow, where that says anything."""
        if measured is None or not measured.is_used:
            return replace(self, measured=measured)
        return replace(self, market=measured.market(self.market), measured=measured)

    @property
    def basis(self) -> str:
        """Where seconds per job are from: market file, measured, or measured elsewhere.

        Elsewhere: only on what nobody can compare with anything that is for rent.
        """
        if self.measured is None:
            return "market file"
        return "measured" if self.measured.is_used else "measured elsewhere"

    @property
    def terms(self) -> Terms:
        """What the scheduler is held to; its jobs are lumps."""
        return Terms(
            run_label="rehearsal-1",
            leases_max=self.leases_max,
            jobs=self.lumps,
            deadline_s=self.deadline_s,
            budget=self.budget,
            late=self.late,
            fallback=self.fallback,
            load=self.load,
            jobs_per_s_max=self._lumps_per_s_max,
            rules=self.rules,
        )

    @property
    def _lumps_per_s_max(self) -> float | None:
        most = self.results_per_s_max
        return most / self.jobs_per_lump if most is not None else None

    @property
    def load(self) -> Load:
        batch = self.market.batch
        result_gb = batch.result_mb / 1000 * self.lump
        return Load(batch.image_gb, batch.models_gb, result_gb)

    @property
    def priors(self) -> Priors:
        """Beliefs before the night: what the market file says of its classes, not of its machines.

        Where true paces differ from what one would expect, the file says that, too.
        """
        if self.measured is not None and self.measured.is_used:
            return self._measured_priors(self.measured.priors)
        market, fallback = self.market, self.market.fallback
        seconds = {gpu_class(fallback.gpu): fallback.seconds_per_job}
        for name, facts in market.classes.items():
            expected = facts.prior_seconds_per_job
            seconds[gpu_class(name)] = expected if expected > 0 else facts.seconds_per_job
        return Priors(
            seconds_per_job={gpu: each * self.lump for gpu, each in seconds.items()},
            seconds_unknown=SECONDS_UNKNOWN * self.lump,
            job_sigma=max(market.batch.job_sigma, 0.01) / self.lump**0.5,
            workflow_sigma=WORKFLOW_SIGMA,
        )

    def _measured_priors(self, table: Priors) -> Priors:
        """Those that the measured seconds are told against: a run starts from the same."""
        return replace(
            table,
            seconds_per_job={gpu: each * self.lump for gpu, each in table.seconds_per_job.items()},
            seconds_unknown=table.seconds_unknown * self.lump,
            job_sigma=max(self.market.batch.job_sigma, 0.01) / self.lump**0.5,
        )

    def scores(self, night: Night) -> Scores:
        """What earlier nights have left: seconds of this workflow, the luck of some machines."""
        scores = Scores(workflow_jobs=int(self.is_proven))
        if self.measured is not None and self.measured.is_used:
            scores.machines |= {host: replace(it) for host, it in self.measured.machines.items()}
        for machine in night.machines:
            known, *_ = throw(f"known-1/{night.seed}/{machine.name}")
            if known < self.known_share:
                luck = log(machine.s_per_job / machine.prior_s_per_job)
                scores.luck[PROVIDER, machine.name] = luck
        return scores

    def exactly(self) -> Script:
        """The same with every job played by itself."""
        return replace(self, lump=1)


def allowed(fallback: Fallback, providers: Collection[str]) -> Fallback:
    """What of a market file can be had from these: machines, the fallback's containers, or both.

    Nobody named: both, for the figures are worth having before anything is set up.
    """
    if not providers:
        return fallback
    if SERVERLESS not in providers:
        return Fallback.NEVER
    return Fallback.ONLY if set(providers) == {SERVERLESS} else fallback


def with_containers(market: Market, most: int) -> Market:
    """The same market where at most so many containers of the fallback run at once."""
    return replace(market, fallback=replace(market.fallback, max_containers=most))


def with_jobs(market: Market, jobs: int) -> Market:
    """The same market with another batch size."""
    return replace(market, batch=replace(market.batch, jobs=jobs))


def with_models(market: Market, gb: float) -> Market:
    """The same market where each machine downloads so many GB of models before it renders."""
    return replace(market, batch=replace(market.batch, models_gb=gb))


def lump_for(
    market: Market,
    deadline_s: float,
    *,
    lumps: int = LUMPS_USUAL,
    per_machine: int = LUMPS_PER_MACHINE_MIN,
) -> int:
    """Jobs to be played as one: few enough that every machine still has many lumps to do."""
    slowest_s = max(facts.seconds_per_job for facts in market.classes.values())
    most = deadline_s / per_machine / slowest_s
    return max(1, min(market.batch.jobs // lumps, int(most)))
