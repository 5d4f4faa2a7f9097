"""What a rehearsal or a quote is asked for: a catalog's batch, as it is played."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from nightkiln import catalog as catalogs
from nightkiln.catalog import Catalog
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.model import Usd
from nightkiln.deadline import seconds_until
from nightkiln.night import LEASES_MAX
from nightkiln.priors import shipped_priors
from nightkiln.rehearse.markets import market_of
from nightkiln.rehearse.measured import measured_in
from nightkiln.rehearse.script import Script, with_jobs, with_models
from nightkiln.settings import Settings
from nightkiln.traffic import models_gb
from nightkiln.wiring import remembered_of

EXACT_ROWS_MAX = 100_000  # of so many it is found out which are equal, and so one job
JOBS_MAX = 100_000_000
USD_MAX = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Jobs:
    """How many jobs a catalog asks for."""

    count: int
    is_exact: bool  # else rows that mean the same pixels may have been counted twice


def script_of(
    catalog: Catalog, settings: Settings, *, by: str, budget: str, market: str
) -> tuple[Script, Jobs]:
    """A batch as it is played: its size from the catalog, all else from the market.

    Where the store of the settings knows how long this workflow takes, that is from there.

    Raises:
        BadInput: a value makes no sense, or the catalog cannot be read.
    """
    deadline_s = seconds_until(by, now_s=time.time(), timezone=settings.timezone)
    usd, chosen = parsed_usd(budget), with_models(market_of(market), models_gb(catalog))
    jobs = jobs_of(catalog)
    script = Script(
        with_jobs(chosen, jobs.count),
        deadline_s,
        budget=usd,
        leases_max=LEASES_MAX,
        results_per_s_max=settings.results_per_s,
    )
    found = measured_in(chosen, remembered_of(catalog, settings), shipped_priors())
    return script.with_measured(found), jobs


def parsed_usd(text: str) -> Usd:
    """An amount that can be spent.

    Raises:
        BadInput: it is none.
    """
    fix = "an amount in USD such as 12 or 4.50"
    try:
        usd = Decimal(text)
    except InvalidOperation:
        raise BadInput([Problem(f"--budget {text}", "is no amount", fix)]) from None
    if not usd.is_finite() or not 0 < usd <= USD_MAX:
        raise BadInput([Problem(f"--budget {text}", f"is not above 0, or above {USD_MAX}", fix)])
    return usd


def jobs_of(catalog: Catalog) -> Jobs:
    """How many jobs a catalog has; of a large one, or one of files, at most so many."""
    with catalogs.scratch() as con:
        jobs = catalogs.count_rows(con, catalog) * catalog.variants
        if jobs > JOBS_MAX:
            problem = Problem(str(catalog.folder), f"asks for {jobs} jobs", f"at most {JOBS_MAX}")
            raise BadInput([problem])
        has_files = any(item.is_file for item in catalog.inputs)
        if has_files or jobs > EXACT_ROWS_MAX:
            return Jobs(jobs, is_exact=False)
        catalogs.load_rows(con, catalog)
        return Jobs(catalogs.plan_jobs(con, catalog, batch="").jobs, is_exact=True)
