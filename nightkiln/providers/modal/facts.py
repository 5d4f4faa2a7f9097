"""What the service says of an app, of what it is doing, and of what was billed."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from nightkiln.providers.modal.contract import CONTRACT, MARK_DIGITS

OTHERS_SHOWN_MAX = 3


@dataclass(frozen=True, slots=True)
class Deployed:
    """The app as it is deployed now."""

    version: int | None  # Modal's own count; None: it does not say
    gpus: tuple[str, ...]  # in order of preference
    timeout_s: float
    startup_timeout_s: float
    contract: int = CONTRACT  # that it speaks


@dataclass(frozen=True, slots=True)
class Seen:
    """What can be told of the app without knowing what it should be."""

    version: int | None
    environments: tuple[str, ...]  # first digits of the digests that it is for

    def difference(self, digest: str) -> str:
        """Which environment was wanted, and which ones the app is for."""
        others = ", ".join(self.environments[:OTHERS_SHOWN_MAX])
        found = f", it has {others}" if others else ""
        return f"wanted is {digest[:MARK_DIGITS]}{found}"


@dataclass(frozen=True, slots=True)
class Stats:
    """What a function is doing now."""

    backlog: int
    containers: int
    running: int


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the billing report."""

    description: str  # the app's name
    hour_s: float  # epoch seconds of the hour's start
    usd: Decimal
