"""What a user can set about Modal; a part of ``settings``."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode

TOKEN_CHARS_MAX = 512
GPU_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9-]{0,31}!?$"

Gpus = Annotated[tuple[str, ...], NoDecode]


class ModalSettings(BaseSettings):
    """The workspace, and how its app is built. What is built takes effect with the next deploy."""

    modal_token_id: SecretStr | None = Field(
        None, description="Token of Modal; else MODAL_TOKEN_ID in the environment."
    )
    modal_token_secret: SecretStr | None = Field(
        None, description="Its secret; else MODAL_TOKEN_SECRET. Never shown."
    )
    modal_environment: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]{0,64}$", description="Modal's environment; empty: its usual."
    )
    modal_app: str = Field(
        "nightkiln",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="Name of the app; two catalogs with different environments need one each.",
    )
    modal_gpus: Gpus = Field(
        ("L40S", "A100-40GB"),
        min_length=1,
        max_length=8,
        description="GPUs in order of preference; a container gets the first that is to be had.",
    )
    modal_cpu: float = Field(2.0, gt=0, le=64, description="Cores of a container.")
    modal_memory_gib: float = Field(16.0, gt=0, le=336, description="Memory of a container.")
    modal_max_containers: int = Field(
        4, ge=1, le=100, description="Containers at once: the most that Modal can cost at a time."
    )
    modal_timeout_s: int = Field(600, ge=10, le=86_400, description="For one job.")
    modal_startup_timeout_s: int = Field(
        300, ge=10, le=86_400, description="For a container, until ComfyUI answers."
    )
    modal_scaledown_s: int = Field(
        15, ge=2, le=1200, description="An idle container ends after that; until then it costs."
    )
    modal_snapshot: bool = Field(
        default=False,
        description="Memory snapshots with the GPU: starts in seconds, alpha, and known to crash.",
    )
    modal_volume: str = Field(
        "nightkiln-models",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="Volume with the models.",
    )
    modal_result_mb_max: int = Field(
        64, ge=1, le=2048, description="MB of all files of one job together."
    )

    @field_validator("modal_gpus", mode="before")
    @classmethod
    def _split_gpus(cls, value: object) -> object:
        """In the environment with commas."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("modal_gpus")
    @classmethod
    def _gpu_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:

        for name in value:
            if not re.fullmatch(GPU_PATTERN, name):
                raise ValueError(f"{name!r} is no name of one GPU, such as L40S or A100-80GB")
        return value

    @field_validator("modal_token_id", "modal_token_secret", mode="before")
    @classmethod
    def _one_token_or_none(cls, value: Any) -> Any:
        """An empty variable says that there is none. What was given is never in the message."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not isinstance(text, str):
            return value
        text = text.strip()
        if len(text) > TOKEN_CHARS_MAX or not all("!" <= letter <= "~" for letter in text):
            raise ValueError("is no token: one word of letters and digits; nothing of it is shown")
        return SecretStr(text) if text else None

    @property
    def has_modal(self) -> bool:
        """Whether there is a whole token."""
        return self.modal_token_id is not None and self.modal_token_secret is not None
