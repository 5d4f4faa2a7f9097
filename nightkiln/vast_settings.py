"""What a user can set about Vast.ai; a part of ``settings``."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode

from nightkiln.core.model import Kind

VAST_URL = "https://console.vast.ai"
IMAGE = "vastai/comfy:v0.8.2-cuda-12.9-py312"
KEY_CHARS_MAX = 512
KINDS = {"on_demand": Kind.ON_DEMAND, "interruptible": Kind.INTERRUPTIBLE}

Names = Annotated[tuple[str, ...], NoDecode]


class VastSettings(BaseSettings):
    """The account, and which of its machines will do.

    A floor of 0 asks for nothing, and so does an empty list.
    """

    vast_api_key: SecretStr | None = Field(
        None, description="API key of Vast.ai; else VAST_API_KEY in the environment."
    )
    hf_token: SecretStr | None = Field(
        None, description="For private models at Hugging Face; else HF_TOKEN. Never leaves here."
    )
    civitai_token: SecretStr | None = Field(
        None, description="For models at Civitai; else CIVITAI_TOKEN. Never leaves here."
    )
    vast_url: str = Field(
        VAST_URL, pattern=r"^https?://[^\s/@]+(/[^\s@]*)?$", description="Where Vast.ai answers."
    )
    vast_image: str = Field(
        IMAGE, min_length=1, max_length=1024, description="Container image with ComfyUI, pinned."
    )
    vast_launch: str = Field(
        "", max_length=200, description="What starts the image's programs; empty: entrypoint.sh."
    )
    vast_comfy_folder: str = Field(
        "", max_length=200, description="ComfyUI's folder in the image; empty: the usual places."
    )
    vast_kinds: Names = Field(
        tuple(KINDS), min_length=1, description="How machines are had: on_demand, interruptible."
    )
    vast_bid_premium: float = Field(
        1.25, ge=1, le=10, description="Bid so many times the lowest bid that wins a machine now."
    )
    vast_usd_per_hour_max: Decimal = Field(
        Decimal("2.00"), gt=0, le=128, description="A machine with its disk must not cost more."
    )
    vast_usd_per_gb_max: Decimal = Field(
        Decimal("0.01"), ge=0, le=10, description="Traffic into a machine must not cost more."
    )
    vast_is_verified: bool = Field(
        default=True, description="Only machines that Vast.ai has verified."
    )
    vast_reliability_min: float = Field(0.98, ge=0, le=1, description="As Vast.ai reckons it.")
    vast_mbps_down_min: float = Field(400.0, ge=0, description="Mbit/s into the machine.")
    vast_mbps_up_min: float = Field(100.0, ge=0, description="Mbit/s out of it.")
    vast_disk_mb_per_s_min: float = Field(500.0, ge=0, description="MB/s of its disk.")
    vast_direct_ports_min: int = Field(4, ge=1, description="Open ports; one is for SSH.")
    vast_cuda_min: float = Field(12.8, ge=0, description="CUDA version that its driver is for.")
    vast_compute_cap_min: int = Field(750, ge=0, description="Compute capability, times 100.")
    vast_duration_h_min: float = Field(
        4.0, ge=0, description="Hours until its host takes it off the market."
    )
    vast_regions: Names = Field(
        (), description="Countries by two letters, or regions such as EU; empty: everywhere."
    )
    vast_regions_not: Names = Field((), description="The same, where nothing is rented.")
    vast_gpus: Names = Field(
        (), description="GPU names such as RTX 4090, beside what a catalog says; empty: any."
    )
    vast_machines_not: Names = Field((), description="Ids of machines that are never rented.")

    @field_validator(
        "vast_kinds",
        "vast_regions",
        "vast_regions_not",
        "vast_gpus",
        "vast_machines_not",
        mode="before",
    )
    @classmethod
    def _split_list(cls, value: object) -> object:
        """In the environment with commas."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("vast_kinds")
    @classmethod
    def _known_kinds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(value) - KINDS.keys()):
            raise ValueError(f"{unknown[0]!r} is neither {' nor '.join(KINDS)}")
        return value

    @field_validator("vast_api_key", "hf_token", "civitai_token", mode="before")
    @classmethod
    def _one_word_or_none(cls, value: Any) -> Any:
        """An empty variable says that there is none. What was given is never in the message."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not isinstance(text, str):
            return value
        text = text.strip()
        if len(text) > KEY_CHARS_MAX or not all("!" <= letter <= "~" for letter in text):
            raise ValueError("is no key: one word of letters and digits; nothing of it is shown")
        return SecretStr(text) if text else None

    @field_validator("vast_url")
    @classmethod
    def _no_slash_at_the_end(cls, value: str) -> str:
        return value.rstrip("/")
