"""Puts figures into docs/benchmarks.md; what is written by hand there stays."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

BEGIN = "<!-- figures: written by python -m tests.benchmarks --write -->"
END = "<!-- end of figures -->"
MARKERS = {  # by section of the page
    "figures": (BEGIN, END),
    "stores": (
        "<!-- stores: written by python -m tests.benchmarks --only store --write -->",
        "<!-- end of stores -->",
    ),
    "nights": (
        "<!-- nights: written by python -m tests.benchmarks --only nights --write -->",
        "<!-- end of nights -->",
    ),
}


def with_figures(
    text: str,
    lines: Sequence[str],
    *,
    command: str,
    now: datetime,
    markers: tuple[str, str] = (BEGIN, END),
) -> str:
    """``text`` with the lines between ``markers`` replaced by a table of ``lines``.

    Raises:
        ValueError: the markers are missing.
    """
    before, begin, rest = text.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    if not begin or not end:
        raise ValueError(f"no {markers[0]} ... {markers[1]} to write between")
    table = [
        f"Measured {now:%Y-%m-%d} with `{command}` on {machine()}.",
        "",
        "| figure | value | unit | wanted | holds |",
        "|---|---|---|---|---|",
        *(_row(json.loads(line)) for line in lines),
    ]
    return "\n".join([before + begin, "", *table, "", end + after])


def _row(figure: Mapping[str, Any]) -> str:
    holds = {True: "yes", False: "**no**", None: ""}[figure["holds"]]
    wanted = figure["wanted"] if figure["wanted"] is not None else ""
    return f"| `{figure['name']}` | {figure['value']:g} | {figure['unit']} | {wanted} | {holds} |"


def machine() -> str:
    """What the figures depend on most."""
    python = platform.python_version()
    return f"{os.cpu_count()} shared cores ({platform.machine()}), Python {python}"


def today() -> datetime:
    """Now, for the date of the table."""
    return datetime.now(UTC)
