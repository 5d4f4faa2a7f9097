"""Settings from flags, then ``NIGHTKILN_*`` variables, then ``nightkiln.toml``; read only here."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.model import Trust
from nightkiln.core.terms import AtCap, Fallback, Late
from nightkiln.disk import state_folder
from nightkiln.modal_settings import ModalSettings
from nightkiln.s3_settings import S3Settings
from nightkiln.vast_settings import VastSettings

FLAGS = {
    "budget": "--budget",
    "fallback": "--fallback",
    "late": "--late",
    "at_cap": "--at-cap",
    "upload": "--upload",
    "providers": "--providers",
    "fleet": "--fleet",
}
# Where others look for them, too.
USUAL_KEYS = ("VAST_API_KEY", "HF_TOKEN", "CIVITAI_TOKEN", "MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET")


class Settings(VastSettings, ModalSettings, S3Settings):
    """Everything that can be set once instead of on every command line."""

    model_config = SettingsConfigDict(
        env_prefix="NIGHTKILN_", toml_file="nightkiln.toml", extra="forbid", frozen=True
    )

    store: str = Field("nightkiln-store", description="Folder with results, or s3://bucket/prefix.")
    worker_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Addresses of running ComfyUI servers; in the environment with commas."
    )
    startup_s: float = Field(60.0, gt=0, description="Seconds a worker may take to answer first.")
    stall_s: float = Field(
        600.0, gt=0, description="Seconds without progress after which a worker counts as stalled."
    )
    release_s: float = Field(
        180.0, gt=0, description="Seconds for which the release of a machine is tried again."
    )
    results_per_s: float = Field(
        25.0,
        gt=0,
        description="Results a second that this computer takes in from rented machines "
        "(docs/benchmarks.md, ssh_images_kiln); no more machines are rented than give so many.",
    )
    shard_rows: int = Field(
        256, ge=1, le=10_000, description="Settled jobs per commit; a commit is made every 30 s."
    )
    gallery_url: str = Field(
        "",
        pattern=r"^(https?://[^\s()<>]+)?$",
        description="Where somebody serves the store's folder to browsers, such as "
        "http://nas:8080/results: links to galleries begin with it. Empty: a file's address.",
    )
    timezone: str = Field("UTC", description="Where a nightly batch's date is taken.")
    by: str = Field("", description="Deadline: 07:00, 2h, or 2026-12-24T07:00; empty: none.")
    budget: Decimal | None = Field(
        None, gt=0, le=1_000_000, description="USD that one run may spend; needed where it costs."
    )
    budget_per_month: Decimal | None = Field(
        None,
        gt=0,
        le=10_000_000,
        description="USD that all batches of the store may spend in a calendar month (timezone); "
        "a night that needs more than is left of it does not start.",
    )
    fallback: Fallback = Field(
        Fallback.AUTO, description="Serverless GPUs: never, auto (where they are better), only."
    )
    late: Late = Field(Late.STOP, description="At the deadline: stop, or finish all the same.")
    at_cap: AtCap = Field(
        AtCap.FINISH, description="When the budget is spent: finish what is in flight, or cancel."
    )
    trust: Trust = Field(
        Trust.ANY,
        description="Who may run rented machines: any, verified (by the service), datacenter; the "
        "least, beside what a catalog asks.",
    )
    market: str = Field(
        "ordinary", description="Market, or market file, that a run is quoted in before it rents."
    )
    image_gb: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="GB of the container image that a rented machine pulls; else a usual one.",
    )
    providers: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Which to use; empty: local workers if given, vast and modal if set up."
    )
    fleet: str = Field(
        "main",
        pattern="^[a-z0-9]{1,12}$",
        description="Which set-up rented machines belong to; computers that do not share a state "
        "folder need one each.",
    )
    state: str = Field(
        "",
        description="Folder that remembers what is rented; empty: nightkiln in XDG_STATE_HOME.",
    )
    deadman_s: float = Field(
        900.0,
        ge=180,
        le=6 * 3600,
        description="A rented machine that hears nothing for so many seconds deletes itself.",
    )
    disk: str = Field("", description="For tests: a disk that fails (nightkiln.testing.disk).")

    @field_validator("worker_urls", "providers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        parts = [value] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(one, str) for one in parts):
            return value
        return tuple(name for part in parts for one in part.split(",") if (name := one.strip()))

    @property
    def state_folder(self) -> Path:
        """What this user's runs, the reaper and ``nightkiln leases`` share."""
        return state_folder(self.state)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags win over the environment, which wins over the file."""
        del dotenv_settings, file_secret_settings
        usual = {name.lower(): os.environ[name] for name in USUAL_KEYS if name in os.environ}
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls),
            InitSettingsSource(settings_cls, init_kwargs=usual),
        )


def load_settings(**flags: Any) -> Settings:
    """Settings with the flags that were given; a flag that is None or empty was not.

    Raises:
        BadInput: a setting makes no sense; the message names it and where it may come from.
    """
    given = {name: value for name, value in flags.items() if value not in (None, [], ())}
    try:
        return Settings(**given)
    except (ValidationError, tomllib.TOMLDecodeError, SettingsError) as error:
        raise BadInput(_problems(error)) from error


def _problems(error: Exception) -> list[Problem]:
    if not isinstance(error, ValidationError):
        return [Problem("nightkiln.toml or NIGHTKILN_*", str(error))]
    fix = "a flag, NIGHTKILN_<NAME> in the environment, or nightkiln.toml sets it"
    return [
        Problem(_setting(one["loc"]), one["msg"], fix) for one in error.errors(include_url=False)
    ]


def _setting(place: Sequence[int | str]) -> str:
    """A setting as its user would look for it."""
    name = ".".join(str(part) for part in place)
    flag = FLAGS.get(name)
    return f"setting {name} ({flag})" if flag is not None else f"setting {name}"
