"""What a second of a container costs: as the service says today, else by a dated file.

The service names its rates as it likes, and no page says how; a rate is taken for a GPU's only if
its name is that GPU's and its figure is near the dated one. Else the dated one counts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from importlib import resources

from nightkiln.core.model import Usd

NEAR = Decimal(3)  # a rate that differs by more from the dated one means something else
UNKNOWN = "unknown"
CORE, GIB = "core", "gib"
_PARTS = {CORE: frozenset({"cpu", "core"}), GIB: frozenset({"mem", "memory", "gib"})}
_SAME = {"A10G": "A10", "A100": "A100-40GB"}  # other names of one class


@dataclass(frozen=True, slots=True)
class Prices:
    """USD per second."""

    gpus: Mapping[str, Usd]  # by class
    core: Usd
    gib: Usd
    vram_gb: Mapping[str, float]
    basis: str  # for people: where they come from

    def usd_per_s(self, gpu: str, *, cpu: float, memory_mib: int) -> Usd:
        """Of a container with this GPU; one that nobody knows costs as much as the dearest."""
        usd = self.gpus.get(class_of(gpu), max(self.gpus.values()))
        return usd + self.core * Decimal(repr(cpu)) + self.gib * Decimal(memory_mib) / 1024

    def updated(self, rates: Mapping[str, Usd], *, when: str) -> Prices:
        """The same with the service's own rates, where they are what they seem to be."""
        gpus = {name: _rate(rates, {name.lower()}, usd) for name, usd in self.gpus.items()}
        core, gib = _rate(rates, _PARTS[CORE], self.core), _rate(rates, _PARTS[GIB], self.gib)
        if (gpus, core, gib) == (self.gpus, self.core, self.gib) and not rates:
            return self
        return replace(self, gpus=gpus, core=core, gib=gib, basis=f"rates of {when}")


def class_of(gpu: str) -> str:
    """The class by which a GPU is priced, from what it is asked for as, or calls itself."""
    name = gpu.upper().removesuffix("!").partition(":")[0].strip()
    if name in _SAME:
        return _SAME[name]
    words = set(re.split(r"[^A-Z0-9]+", name)) - {"NVIDIA", "TESLA", "GEFORCE"}
    for known in sorted(dated().gpus, key=len, reverse=True):
        if set(known.split("-")) <= words:
            return known
    return _SAME.get(next((word for word in sorted(words) if word in _SAME), ""), name)


def dearest(gpus: Iterable[str], prices: Prices) -> Usd:
    """The most that the GPU of a container may cost that asks for any of these."""
    named = [class_of(gpu) for gpu in gpus]
    most = max(prices.gpus.values())
    return max((prices.gpus.get(name, most) for name in named), default=most)


@lru_cache(maxsize=1)
def dated() -> Prices:
    """The prices that nightkiln comes with."""
    text = resources.files("nightkiln").joinpath("data/modal.toml").read_text(encoding="utf-8")
    told = tomllib.loads(text, parse_float=Decimal)
    usd = {name: Decimal(one["value"]) for name, one in told["usd_per_s"].items()}
    parts = {name: Decimal(one["value"]) for name, one in told["parts_usd_per_s"].items()}
    vram = {name: float(one["value"]) for name, one in told["vram_gb"].items()}
    basis = f"prices of {told['meta']['dated']}"
    return Prices(usd, parts[CORE], parts[GIB], vram, basis)


def _rate(rates: Mapping[str, Usd], wanted: Iterable[str], usual: Usd) -> Usd:
    """The rate of this name, if it is near what is usual for a second."""
    for name, usd in rates.items():
        words = set(re.split(r"[^a-z0-9]+", name.lower()))
        is_named = any(set(one.split("-")) <= words for one in wanted)
        if is_named and usd.is_finite() and usual / NEAR <= usd <= usual * NEAR:
            return usd
    return usual
