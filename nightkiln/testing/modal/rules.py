"""How the fake behaves: what a test may set."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol, TypeAlias

from nightkiln.testing.modal.prices import USD_PER_S

Seconds: TypeAlias = tuple[float, float]  # at least, at most; of the story

TOKEN = ("ak-nightkilnfakemodal00000", "as-nightkilnfakemodal00000")
DAY_S = 86_400.0


class Renderer(Protocol):
    """A server on loopback that answers as ComfyUI does."""

    @property
    def url(self) -> str: ...


class Comfy(Protocol):
    """Makes what stands behind one container with that GPU."""

    def __call__(self, gpu: str) -> AbstractAsyncContextManager[Renderer]: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What is not in a fault and not in what was deployed. Seconds are the story's."""

    queue_s: Seconds = (0.2, 2.0)  # until a GPU is found; not billed
    cold_s: Seconds = (30.0, 60.0)  # boot and loading, before a container's own start; billed
    kept_s: float = 7 * DAY_S  # how long results are kept
    containers_max: int = 20  # of one function that names no limit, and of the whole workspace
    crash_wait_s: Seconds = (1.0, 60.0)  # between two starts that crash: first, at most; doubled
    crashes_max: int | None = (
        None  # then its inputs fail; None: it is tried for ever, as documented
    )
    reruns_max: int = 8  # of an input whose containers died under it, preemption aside
    limit_s_min: float = 2.0  # of the WALL: no timeout of a container is shorter, at any speed
    usd_per_s: Mapping[str, str] = field(default_factory=lambda: USD_PER_S)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by name
    environment: Mapping[str, str] = field(
        default_factory=dict
    )  # of all containers, beside images'
    credit_usd: Decimal | None = None  # when it is used up, nothing more can be called
    has_disks: bool = False  # else nothing with a volume to write to is run: it would write here
    has_report: bool = True  # the billing report is for some plans only
