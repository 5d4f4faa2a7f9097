"""What can be said of one provider: the tabs of the form."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from tasks.form import Form

URL = Annotated[str, Field(pattern=r"^https?://[^\s/@]+(/[^\s@]*)?$", max_length=1000)]
WORD = Annotated[str, Field(pattern=r"^[^,\r\n]{1,64}$")]  # settings are split at commas
COUNTRY = Annotated[str, Field(pattern=r"^[A-Za-z]{2,20}$")]


class Tab(Form):
    """One tab: what is left empty, or 0, is as it is set up where the flow runs."""

    def flags(self) -> dict[str, Any]:
        """What is given, by the names of settings."""
        return {}


class AsSetUp(Tab):
    """Everything as it is set up where the flow runs."""

    model_config = ConfigDict(title="as set up")

    kind: Literal["as set up"] = Field("as set up", title="Kind", description="Which tab this is.")


class LocalOptions(Tab):
    """ComfyUI servers that are running already, and cost nothing."""

    model_config = ConfigDict(title="local")

    kind: Literal["local"] = Field("local", title="Kind", description="Which tab this is.")
    worker_urls: list[URL] = Field(
        [],
        title="Workers",
        description="Addresses of running ComfyUI servers, such as http://127.0.0.1:8188. "
        "Empty: NIGHTKILN_WORKER_URLS.",
    )

    def flags(self) -> dict[str, Any]:
        """What is given, by the names of settings."""
        return {"worker_urls": list(self.worker_urls)}


class VastOptions(Tab):
    """Which machines of Vast.ai will do."""

    model_config = ConfigDict(title="vast")

    kind: Literal["vast"] = Field("vast", title="Kind", description="Which tab this is.")
    usd_per_hour_max: float = Field(
        0,
        ge=0,
        le=128,
        allow_inf_nan=False,
        title="USD per hour at most",
        description="A machine with its disk must not cost more. 0: as set up, else 2.",
    )
    kinds: list[Literal["on_demand", "interruptible"]] = Field(
        [],
        title="How machines are had",
        description="on_demand: at a price, until given back. interruptible: cheaper, and taken "
        "away when somebody bids more. None: as set up, else both.",
    )
    gpus: list[WORD] = Field(
        [],
        title="GPUs",
        description="Names such as RTX 4090, beside what the catalog says. Empty: any.",
    )
    regions: list[COUNTRY] = Field(
        [],
        title="Regions",
        description="Countries by two letters, or regions such as EU. Empty: everywhere.",
    )
    regions_not: list[COUNTRY] = Field(
        [], title="Regions not", description="The same, where nothing is rented."
    )
    reliability_min: float = Field(
        0,
        ge=0,
        le=1,
        title="Reliability at least",
        description="As Vast.ai reckons it, such as 0.99. 0: as set up, else 0.98.",
    )

    def flags(self) -> dict[str, Any]:
        """What is given, by the names of settings."""
        return {
            "vast_usd_per_hour_max": str(self.usd_per_hour_max) if self.usd_per_hour_max else None,
            "vast_kinds": list(self.kinds),
            "vast_gpus": list(self.gpus),
            "vast_regions": list(self.regions),
            "vast_regions_not": list(self.regions_not),
            "vast_reliability_min": self.reliability_min or None,
        }


class ModalOptions(Tab):
    """How serverless GPUs of Modal are used."""

    model_config = ConfigDict(title="modal")

    kind: Literal["modal"] = Field("modal", title="Kind", description="Which tab this is.")
    max_containers: int = Field(
        0,
        ge=0,
        le=100,
        title="Containers at most",
        description="Containers at once: the most that Modal can cost at a time, and no more than "
        "the app was deployed with. 0: as set up, else 4.",
    )
    app: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,62})?$",
        title="App",
        description="Name of the deployed app. Empty: as set up, else nightkiln.",
    )
    environment: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        title="Environment",
        description="Modal's environment. Empty: as set up, else its usual.",
    )

    def flags(self) -> dict[str, Any]:
        """What is given, by the names of settings."""
        return {
            "modal_max_containers": self.max_containers or None,
            "modal_app": self.app or None,
            "modal_environment": self.environment or None,
        }


class SeveralOptions(Tab):
    """For a batch that more than one of them works on."""

    model_config = ConfigDict(title="several")

    kind: Literal["several"] = Field("several", title="Kind", description="Which tab this is.")
    local: LocalOptions = Field(
        LocalOptions(), title="Local", description="Your own ComfyUI servers."
    )
    vast: VastOptions = Field(VastOptions(), title="Vast", description="Machines of Vast.ai.")
    modal: ModalOptions = Field(
        ModalOptions(), title="Modal", description="Serverless GPUs of Modal."
    )

    def flags(self) -> dict[str, Any]:
        """What is given, by the names of settings."""
        return {**self.local.flags(), **self.vast.flags(), **self.modal.flags()}
