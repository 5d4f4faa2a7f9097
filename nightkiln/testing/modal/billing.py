"""What containers cost: seconds of the wall in each phase, by GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from nightkiln.core.model import Usd
from nightkiln.testing.modal.prices import CORE, GIB, price_name

MICROSECONDS = 1_000_000


class Phase(StrEnum):
    """What a container is doing. All but the first and the last are billed."""

    QUEUED = "queued"
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    ENDED = "ended"


BILLED = (Phase.STARTING, Phase.IDLE, Phase.BUSY)


@dataclass(frozen=True, slots=True)
class Size:
    """What of a container has a price."""

    gpu: str  # empty: none
    cores: float
    gib: float

    def usd_per_s(self, prices: Mapping[str, str]) -> Mapping[str, Usd]:
        """USD a second, by what it is for.

        Raises KeyError: a GPU without a price.
        """
        parts = {
            CORE: Decimal(prices[CORE]) * Decimal(str(self.cores)),
            GIB: Decimal(prices[GIB]) * Decimal(str(self.gib)),
        }
        if self.gpu:
            parts[price_name(self.gpu)] = Decimal(prices[price_name(self.gpu)])
        return parts


@dataclass(frozen=True, slots=True)
class Spell:
    """A stretch of a container's life in one phase; epoch seconds of the wall."""

    container_id: str
    app_id: str
    size: Size
    phase: Phase
    begun_s: float
    ended_s: float

    @property
    def seconds(self) -> Decimal:
        return Decimal(round((self.ended_s - self.begun_s) * MICROSECONDS)) / MICROSECONDS


@dataclass(frozen=True, slots=True)
class GpuBill:
    """Container seconds with one GPU, and what they cost with their cores and memory."""

    gpu: str
    starting_s: Decimal
    busy_s: Decimal
    idle_s: Decimal
    usd: Usd

    @property
    def seconds(self) -> Decimal:
        return self.starting_s + self.busy_s + self.idle_s


@dataclass(frozen=True, slots=True)
class Billing:
    """All that was billed up to a moment."""

    spells: tuple[Spell, ...]
    prices: Mapping[str, str]

    @property
    def by_gpu(self) -> Mapping[str, GpuBill]:
        gpus = dict.fromkeys(spell.size.gpu for spell in self.spells)
        return {gpu: self._of(gpu) for gpu in gpus}

    @property
    def seconds(self) -> Decimal:
        return sum((spell.seconds for spell in self.spells), Decimal(0))

    @property
    def usd(self) -> Usd:
        return sum((bill.usd for bill in self.by_gpu.values()), Decimal(0))

    def usd_of(self, spell: Spell) -> Mapping[str, Usd]:
        """What a stretch cost, by what it was for."""
        return {
            name: usd * spell.seconds for name, usd in spell.size.usd_per_s(self.prices).items()
        }

    def _of(self, gpu: str) -> GpuBill:
        ours = [spell for spell in self.spells if spell.size.gpu == gpu]

        def spent(phase: Phase) -> Decimal:
            return sum((one.seconds for one in ours if one.phase is phase), Decimal(0))

        usd = sum((sum(self.usd_of(one).values(), Decimal(0)) for one in ours), Decimal(0))
        return GpuBill(gpu, spent(Phase.STARTING), spent(Phase.BUSY), spent(Phase.IDLE), usd)


class Meter:
    """Runs while a container lives."""

    def __init__(self, container_id: str, app_id: str, size: Size, at_s: float) -> None:
        self._container_id, self._app_id, self.size = container_id, app_id, size
        self.phase, self.since_s = Phase.QUEUED, at_s
        self._past: list[Spell] = []

    def turn(self, phase: Phase, at_s: float) -> None:
        """From then on it does this."""
        self._past += self._running(at_s)
        self.phase, self.since_s = phase, at_s

    def spells(self, at_s: float) -> list[Spell]:
        """What is billed up to then."""
        return [*self._past, *self._running(at_s)]

    def _running(self, at_s: float) -> Iterator[Spell]:
        if self.phase in BILLED and at_s > self.since_s:
            yield Spell(self._container_id, self._app_id, self.size, self.phase, self.since_s, at_s)
