"""A stand-in for ComfyUI behind each container, as quick as its GPU is in the story."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.modal.prices import price_name


@dataclass(frozen=True, slots=True)
class StandIns:
    """Makes them; ``seconds_per_job`` are the story's, by GPU where one is not like the others."""

    speed: float
    seconds_per_job: float = 0.0
    by_gpu: Mapping[str, float] = field(default_factory=dict)
    faults: tuple[str, ...] = ()  # of the stand-in, counted anew in each container

    def __call__(self, gpu: str) -> StandIn:
        seconds = self.by_gpu.get(price_name(gpu), self.seconds_per_job)
        return StandIn(render_s=seconds / self.speed, gpu_name=gpu or "cpu", faults=self.faults)
