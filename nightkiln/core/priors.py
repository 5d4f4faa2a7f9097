"""What is believed before anything is measured; the figures come from a dated data file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Priors:
    """Beliefs about machines nobody has tried. Shares are 0..1, hazards per hour.

    The values here are those of the shipped file; ``nightkiln/data/priors.toml`` says where each
    comes from.
    """

    seconds_per_job: Mapping[str, float] = field(default_factory=dict)  # by GPU class
    seconds_unknown: float = 6.0  # a GPU class that is not in the table
    workflow_sigma: float = 0.5  # sd of ln: how far a workflow is from the one of the table
    class_sigma: float = 0.12  # sd of ln: how far a class is from its figure
    machine_sigma: float = 0.17  # sd of ln between machines of one class
    job_sigma: float = 0.1  # sd of ln between jobs on one machine
    bandwidth_share: float = 0.62  # true / advertised, typical (harmonic mean of honest hosts)
    slow_link_share: float = 0.10  # hosts whose link is so slow that the start is given up
    cached_share: float = 0.2
    cached_s: float = 30.0
    extract_s: float = 70.0
    frozen_s: float = 18.0  # chance of a frozen start x its mean
    app_s: float = 75.0
    startup_sigma: float = 0.5  # sd / mean of a start-up
    boot_fails: float = 0.05
    boot_fails_bad: float = 0.45
    bad_share: float = 0.06
    reliability_a: float = 60.0  # Beta(a, 1) of what good hosts advertise
    reliability_a_bad: float = 12.0
    lost_per_h: float = 0.01
    lost_per_h_bad: float = 0.15
    outbid_per_h: float = 0.3
    outbid_weight_h: float = 2.0  # hours of experience that the prior is worth
    serverless_startup_s: float = 60.0


@lru_cache(maxsize=256)
def gpu_class(name: str) -> str:
    """The class of a GPU from any of its names: ``NVIDIA GeForce RTX 4090`` is ``RTX 4090``."""
    words = name.replace("_", " ").replace("-", " ").split()
    kept = [word for word in words if word.upper() not in {"NVIDIA", "GEFORCE", "TESLA"}]
    return " ".join(kept).upper() if kept else name.upper()
