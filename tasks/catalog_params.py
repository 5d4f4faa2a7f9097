"""What the forms of ``nightly``, ``adhoc``, ``retry``, ``quote`` and ``rehearse`` share."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from nightkiln.settings import Settings, load_settings
from tasks.form import BLOCK, TEXT, USD_MAX, ZONE, Form, KeyBlocks
from tasks.options import AsSetUp, LocalOptions, ModalOptions, SeveralOptions, VastOptions

MOMENT = (
    r"^(([01]\d|2[0-3]):[0-5]\d"  # a time of day
    r"|(\d+(\.\d+)?h)?(\d+(\.\d+)?m)?(\d+(\.\d+)?s)?"  # a duration, or nothing
    r"|\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?)?)$"
)


class CatalogParams(Form):
    """A catalog, and what a night with it is held to."""

    catalog: Annotated[Path, Field(json_schema_extra={"minLength": 1, "maxLength": 1000})] = Field(
        title="Catalog",
        description="Folder with catalog.yaml, prompts and workflow, where the flow runs.",
    )
    store: str = Field(
        "",
        max_length=1000,
        pattern=TEXT,
        title="Store",
        description="Folder for the results, or s3://bucket/prefix. Empty: NIGHTKILN_STORE, else "
        "nightkiln-store.",
    )
    select: str = Field(
        "",
        max_length=100_000,
        title="Rows",
        description="A query in SQL for the rows of the catalog to render, such as SELECT * FROM "
        "prompts WHERE lang = 'en'. Empty: all.",
    )
    limit: int = Field(
        0,
        ge=0,
        title="Limit",
        description="Only the first so many rows of the catalog. 0: all.",
    )
    overrides: dict[str, str] = Field(
        {},
        title="Overrides",
        description='Inputs of the catalog to hold constant, such as {"steps": "8"}.',
    )
    by: str = Field(
        "",
        pattern=MOMENT,
        title="Deadline",
        description="07:00 (the next one in the time zone), 2h, or 2026-12-24T07:00. "
        "Empty: NIGHTKILN_BY, else none.",
    )
    timezone: str = Field(
        "",
        pattern=ZONE,
        title="Time zone",
        description="Where the deadline, and the date of a nightly, are taken, such as "
        "Europe/Berlin. Empty: NIGHTKILN_TIMEZONE, else UTC.",
    )
    budget: float = Field(
        0,
        ge=0,
        le=USD_MAX,
        allow_inf_nan=False,
        title="Budget",
        description="USD that this run may spend; nothing that costs money is used without it. "
        "0: NIGHTKILN_BUDGET.",
    )
    fallback: Literal["", "never", "auto", "only"] = Field(
        "",
        title="Fallback",
        description="Serverless GPUs: never, auto (where they are better), only. "
        "Empty: NIGHTKILN_FALLBACK, else auto.",
    )
    late: Literal["", "stop", "finish"] = Field(
        "",
        title="Late",
        description="At the deadline: stop and keep what is made, or finish all the same. "
        "Empty: NIGHTKILN_LATE, else stop.",
    )
    s3_block: str = Field(
        "",
        pattern=BLOCK,
        title="S3 credentials",
        description="Name of a Secret block with the credentials of a store in S3. Empty: as every "
        "AWS client finds them, where the flow runs.",
    )

    def settings(self, **secrets: str) -> Settings:
        """Settings of the environment the flow runs in, with what is given here on top.

        Raises:
            BadInput: a setting makes no sense; the message names it.
        """
        return load_settings(**secrets, **self.flags())

    def flags(self) -> dict[str, Any]:
        """What is given here, by the names of settings."""
        return {
            "store": self.store or None,
            "timezone": self.timezone or None,
            "by": self.by or None,
            "budget": f"{Decimal(str(self.budget)).normalize():f}" if self.budget else None,
            "fallback": self.fallback or None,
            "late": self.late or None,
        }


class RentingParams(CatalogParams, KeyBlocks):
    """And on whose machines."""

    trust: Literal["", "any", "verified", "datacenter"] = Field(
        "",
        title="Trust",
        description="Who may run the machines. any: any host sees your prompts and pictures; it "
        "rents out its own computer, and can read all that is on it. verified: the service has "
        "looked at the host, which sees them all the same. datacenter: a company that does this "
        "for a living. What the catalog asks is the least. Empty: NIGHTKILN_TRUST, else any.",
    )
    providers: list[Literal["local", "vast", "modal"]] = Field(
        [],
        title="Providers",
        description="Where to render. local: your own ComfyUI servers. vast: machines rented from "
        "strangers by the hour. modal: serverless GPUs. None: NIGHTKILN_PROVIDERS, else local if "
        "there are workers, and where there is a budget what is set up.",
    )
    options: AsSetUp | LocalOptions | VastOptions | ModalOptions | SeveralOptions = Field(
        AsSetUp(),
        title="Options of a provider",
        description="What is set up where the flow runs, or something else for this run.",
    )

    def flags(self) -> dict[str, Any]:
        """What is given here, by the names of settings."""
        return {
            **super().flags(),
            **self.options.flags(),
            "providers": list(self.providers),
            "trust": self.trust or None,
        }
