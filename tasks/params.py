"""What the deployments ask for in their forms."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from nightkiln.core.sharing import SHARES_MAX
from nightkiln.testing.market import SHIPPED
from tasks.catalog_params import CatalogParams, RentingParams
from tasks.form import TEXT, USD_MAX

NAME = r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?$"


class RunParams(RentingParams):
    """One run of a batch: who is asked, and how it ends."""

    name: str = Field(
        "",
        pattern=NAME,
        title="Name of the batch",
        description="The same name resumes. Empty: from the catalog, and for a nightly the date.",
    )
    approve_above_usd: float = Field(
        0,
        ge=0,
        le=USD_MAX,
        allow_inf_nan=False,
        title="Ask above",
        description="When the quote (its p90) is above so many USD, the run waits for somebody to "
        "approve it before anything is rented. 0: nobody is asked.",
    )
    approve_within_minutes: int = Field(
        60,
        ge=1,
        le=24 * 60,
        title="Wait for the answer",
        description="Minutes that the run waits to be approved.",
    )
    unanswered: Literal["refuse", "part"] = Field(
        "refuse",
        title="Without an answer",
        description="refuse: nothing is rendered. part: what can be had for the sum above which "
        "somebody is asked is rendered.",
    )
    at_cap: Literal["", "finish", "cancel"] = Field(
        "",
        title="At the budget's end",
        description="Finish what is being rendered, or cancel it. "
        "Empty: NIGHTKILN_AT_CAP, else finish.",
    )
    on_cancel: Literal["finish", "hand back"] = Field(
        "finish",
        title="When cancelled",
        description="finish: what is being rendered gets some seconds to be finished, and the rest "
        "is handed back. hand back: everything at once.",
    )

    def flags(self) -> dict[str, Any]:
        """What is given here, by the names of settings."""
        return {**super().flags(), "at_cap": self.at_cap or None}

    @property
    def is_fresh(self) -> bool:
        """Whether it renders anew what other batches of the store have done."""
        return False


class BatchParams(RunParams):
    """One batch: what to render, on what, within which limits, and where the results go."""

    model_config = ConfigDict(title="Batch")

    fresh: bool = Field(
        default=False,
        title="Fresh",
        description="Render anew what other batches of the store have done.",
    )
    controllers: int = Field(
        1,
        ge=1,
        le=SHARES_MAX,
        title="Controllers",
        description="Over how many flow runs the batch is spread, each on a Prefect worker of its "
        "own, if there are so many. More than 1 want a store that all of them reach.",
    )

    @property
    def is_fresh(self) -> bool:
        return self.fresh


class RetryParams(RunParams):
    """Jobs of a batch again: give the catalog, name, rows and overrides of the run before."""

    model_config = ConfigDict(title="Retry")

    where: str = Field(
        "",
        max_length=100_000,
        title="Which jobs",
        description="A condition in SQL over the view jobs, such as fault = 'MACHINE' or row < 10. "
        "Of those that it names the failed ones are rendered again. Empty: every one that failed.",
    )
    force: bool = Field(
        default=False, title="Force", description="Render also those again that are done."
    )
    reseed: bool = Field(
        default=False,
        title="Reseed",
        description="Render them with new seeds, done or not, as a batch of their own; each new "
        "job says which one it replaces.",
    )


class QuoteParams(RentingParams):
    """What a batch will cost and when it will be done; nothing is rented."""

    model_config = ConfigDict(title="Quote")

    market: str = Field(
        "",
        max_length=1000,
        pattern=TEXT,
        title="Market",
        description=f"Whose prices and machines: {', '.join(SHIPPED)}, or a market file where the "
        "flow runs. Empty: NIGHTKILN_MARKET, else ordinary.",
    )

    def flags(self) -> dict[str, Any]:
        """What is given here, by the names of settings."""
        return {**super().flags(), "market": self.market or None}


class RehearseParams(CatalogParams):
    """The batch's night, played many times in a simulated market; nothing is rented."""

    model_config = ConfigDict(title="Rehearsal")

    market: str = Field(
        "",
        max_length=1000,
        pattern=TEXT,
        title="Market",
        description=f"Whose prices and machines: {', '.join(SHIPPED)}, or a market file where the "
        "flow runs. Empty: NIGHTKILN_MARKET, else ordinary.",
    )
    nights: int = Field(50, ge=1, le=10_000, title="Nights", description="How many nights to play.")

    def flags(self) -> dict[str, Any]:
        """What is given here, by the names of settings."""
        return {**super().flags(), "market": self.market or None}
