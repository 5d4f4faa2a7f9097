"""How a run ended, and what it says to whoever started it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from nightkiln.core.model import Usd
from nightkiln.store.quotes import Quoted

ALL_DONE, SOME_FAILED, BAD_INPUT, STOPPED_EARLY = 0, 1, 2, 3  # exit codes (design.md)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. Counts are the batch's, over all its runs."""

    batch: str
    epoch: int
    store: str
    exit_code: int
    total: int
    done: int
    reused: int
    failed: int
    left: int  # the next run of this batch will do them
    adopted: int  # made by an earlier run, committed by this one
    outputs: int  # files verified by this run
    elapsed_s: float
    not_released: tuple[str, ...] = ()  # leases that nobody confirmed to have ended
    stop_reason: str | None = None
    stage_s: Mapping[str, float] = field(default_factory=dict)  # seconds per stage, of this run
    usd: Usd = Decimal(0)  # spent by this run, as far as it is known
    quoted: Quoted | None = None  # what it would cost, if something could bill
    usd_open: Usd = Decimal(0)  # what leases that are not released may come to, on top of it
    usd_billed: Usd | None = None  # by the providers until now, for all leases of the batch whose
    # bills were read just now; None: nobody says
    left_out: int = 0  # of ``left``, what this run was not asked for

    def leaving_out(self, jobs: int) -> Outcome:
        """The outcome of a run that was not there for so many of the jobs that are left."""
        is_whole = self.left == jobs and not self.not_released
        code = SOME_FAILED if self.failed else ALL_DONE
        return replace(self, left_out=jobs, exit_code=code if is_whole else self.exit_code)
