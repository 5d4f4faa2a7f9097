"""What a user holds a run to: by when, for how much, and what gives when both cannot be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.model import Trust, Usd
from nightkiln.core.outbid import DAY_S
from nightkiln.core.terms import AtCap, Fallback, Late, Load, Terms
from nightkiln.ports.provider import Provider

NOTHING = Load()  # goes over the wire, as far as money is concerned


@dataclass(frozen=True, slots=True)
class Goals:
    """By when, for how much, and how."""

    deadline_s: float | None = None  # epoch seconds
    budget: Usd | None = None
    fallback: Fallback = Fallback.AUTO
    late: Late = Late.STOP
    at_cap: AtCap = AtCap.FINISH
    jobs_per_s_max: float | None = None  # that this computer can take in; None: nobody knows
    more_usd_s: float = 0.0  # with the budget spent, so long is waited for more

    def terms(
        self,
        run_label: str,
        leases_max: int,
        *,
        jobs: int,
        now_s: float,
        clock_s: float,
        load: Load = NOTHING,
        trust: Trust = Trust.ANY,
    ) -> Terms:
        """The same for a scheduler whose clock shows ``clock_s`` at ``now_s`` (epoch seconds)."""
        until_s = self.deadline_s
        return Terms(
            run_label,
            leases_max,
            jobs=jobs,
            deadline_s=clock_s + until_s - now_s if until_s is not None else None,
            budget=self.budget,
            late=self.late,
            fallback=self.fallback,
            at_cap=self.at_cap,
            load=load,
            jobs_per_s_max=self.jobs_per_s_max,
            midnight_s=clock_s - now_s % DAY_S,
            trust=trust,
            more_usd_s=self.more_usd_s,
        )

    def check(self, providers: Iterable[Provider]) -> None:
        """Nothing that costs money is used without a limit.

        Raises:
            BadInput: a provider bills, and there is no budget.
        """
        bills = sorted(provider.name for provider in providers if provider.bills)
        if bills and self.budget is None:
            what = f"{' and '.join(bills)} cost money, and nothing says how much may be spent"
            raise BadInput([Problem("--budget", what, "give --budget 4.00, in USD, for this run")])
