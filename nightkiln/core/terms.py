"""What a run is held to: money, time, and the figures of the rules themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from nightkiln.core.model import Trust, Usd

DEADLINE_S_UNSAID = 8 * 3600.0  # nobody named a deadline: as cheap as fits a night


class Fallback(StrEnum):
    """When serverless GPUs may be used: never, where they are the better deal, or alone."""

    NEVER = "never"
    AUTO = "auto"
    ONLY = "only"

    def allows(self, *, is_serverless: bool) -> bool:
        """Whether such an offer may be rented."""
        return self is Fallback.AUTO or (self is Fallback.ONLY) == is_serverless


class Late(StrEnum):
    """What happens at the deadline: stop and keep everything, or finish all the same."""

    STOP = "stop"
    FINISH = "finish"


class Upload(StrEnum):
    """How results get into an object store: through this computer, or brought by the machines."""

    THROUGH = "through"
    DIRECT = "direct"


class AtCap(StrEnum):
    """What happens to jobs in flight when the budget is spent.

    To finish them, a machine that cannot be paid for longer gets nothing more in time; else it
    works to the end of what is paid, and what it has then is left for the next run.
    """

    FINISH = "finish"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Load:
    """What goes over the wire; billed by the GB on many machines."""

    image_gb: float = 0.0  # container image, compressed
    models_gb: float = 0.0
    result_gb: float = 0.0  # per job


@dataclass(frozen=True, slots=True)
class Rules:
    """The figures of the rules. Those with a source name it; the rest are what seemed sound.

    "Economics" is a simulation of such nights; its ablations say what each rule is worth. The
    switches exist so that the benchmarks can print the same.
    """

    safety: float = 0.03  # of the whole time, kept before the deadline (economics: 3 %)
    z: float = 1.2816  # plan on the 90th percentile of the finish, not on its mean
    gap_s: float = 300.0  # of its time a lost machine costs where as many are on offer as we have
    gap_s_max: float = 1080.0  # ... where none is (economics: 18 minutes, whatever is on offer)
    plan_every_s: float = 60.0  # how often the fleet is looked at when nothing happens
    offers_every_s: float = 60.0  # of a provider that bills, while more is wanted
    swap_every_s: float = 900.0
    swap_share: float = 0.07  # of what a lease would still cost: less is not worth the change
    drop_slack: float = 0.1  # of what remains: the rest must suffice with so much to spare
    last_s: float = 240.0  # to see a loss, to start a fallback's container, and for a job there
    boot_factor: float = 2.5  # x expected start-up, then give it up ...
    boot_extra_s: float = 120.0  # ... and so much more
    boot_s_max: float = 1500.0
    boot_share_max: float = 0.35  # of the time until the deadline, ...
    boot_factor_min: float = 1.25  # ... but never less than so many times the expected start-up
    busy_share: float = 0.5  # of the time left that a fallback's container has to have work for
    fallback_share: float = 0.5  # of its capacity: a p90 shortfall of so much starts it
    no_return_share: float = 0.9  # of its capacity: counting only leases that are ready
    canary_leases_max: int = 2  # until the first result of an unknown workflow
    canary_share_max: float = 0.2  # of the time until the deadline; then fan out unproven
    pause_s: float = 60.0  # a provider that fails is left alone; doubles each time, up to ...
    pause_s_max: float = 900.0
    silence_s: float = 3600.0  # without a deadline: nobody answers for so long, so nobody will
    lease_s: float = 3600.0  # life of a lease that nobody extends
    extend_before_s: float = 900.0
    job_limit_factor: float = 5.0  # x the learned 99th percentile of a job's time
    job_limit_s_min: float = 30.0
    hedge_factor: float = 1.6  # x expected: such a job is slower than its 95th percentile
    tail_s_min: float = 3.0  # what moving or doubling a job at the end must save at least
    ranks_by_hour: bool = False  # ablation: the cheapest hour instead of the cheapest job
    counts_start: bool = True  # ablation: what a lease costs before its first job
    drops: bool = True
    swaps: bool = True
    learns: bool = True
    hedges: bool = True


@dataclass(frozen=True, slots=True)
class Terms:
    """What a run works under."""

    run_label: str  # <batch>-<epoch>: prefixes lease and attempt ids, unique in a store's life
    leases_max: int
    jobs: int | None = None  # to do in this run; None: known when the catalog ends
    deadline_s: float | None = None  # on the clock of ``Tick``
    budget: Usd | None = None
    late: Late = Late.STOP
    fallback: Fallback = Fallback.AUTO
    at_cap: AtCap = AtCap.FINISH
    load: Load = Load()
    jobs_per_s_max: float | None = None  # what the controller can fetch, verify and keep
    midnight_s: float | None = None  # some UTC midnight on the clock of ``Tick``; None: not known
    trust: Trust = Trust.ANY  # nothing is rendered on a machine that is known less well
    more_usd_s: float = 0.0  # with the budget spent, somebody may give more for so long
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        assert self.leases_max > 0
        assert self.budget is None or self.budget > 0
