"""A measured figure, and what was wanted of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of output. ``holds`` is None where nothing was promised."""

    name: str
    value: float
    unit: str
    wanted: str | None = None
    holds: bool | None = None

    def line(self) -> str:
        """As JSON, rounded to what the measurement is worth."""
        return json.dumps({**asdict(self), "value": float(f"{self.value:.3g}")})


def at_least(name: str, value: float, unit: str, least: float) -> Figure:
    """A figure that should not be smaller."""
    return Figure(name, value, unit, f">= {least:g}", value >= least)


def at_most(name: str, value: float, unit: str, most: float) -> Figure:
    """A figure that should not be larger."""
    return Figure(name, value, unit, f"<= {most:g}", value <= most)
