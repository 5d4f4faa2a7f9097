"""How a market is put on: everything that is not drawn from the night."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from nightkiln.core.model import Usd
from nightkiln.testing.vast_market.clock import steady_clock

KEY = "simulated-market-key"
PAGE_ROWS_MAX = 25  # of the listing, as documented


class LimitStyle(StrEnum):
    """How the service says 429; each has been seen."""

    TEXT = "text"
    JSON = "json"
    RETRY_AFTER = "retry-after"


@dataclass(frozen=True, slots=True)
class Rules:
    """``speed`` divides the story's durations; bills and rate limits are by the wall."""

    speed: float = 1.0
    key: str = KEY
    credit: Usd = Decimal(25)
    port: int = 0  # 0: a free one
    faults: tuple[str, ...] = ()  # as ``FaultPlan`` reads them
    limits_scale: float = 1.0  # times the documented waits; 0: no limits
    limit_style: LimitStyle = LimitStyle.TEXT
    strikes_s: float = 300.0  # of the story, from rendering until a scripted trouble strikes
    hang_s: float = 60.0  # by the wall, of a request that hangs
    charge_decimals: int = 3  # of the service's charges: what it rounds to
    image_gb: float | None = None  # None: the night's
    models_gb: float | None = None  # None: the night's; where a body counts, it decides
    page_rows_max: int = PAGE_ROWS_MAX
    has_ports_by_id: bool = True  # contradictory reports: the listing has them in any case
    has_decoys: bool = True  # offers that the usual filters hide
    now: Callable[[], float] = field(default_factory=steady_clock)
