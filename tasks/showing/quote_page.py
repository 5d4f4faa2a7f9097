"""A quote as a page: what is expected of a night before it costs anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nightkiln.markdown import cell, table
from nightkiln.observers.sentences import amount, duration

LINE_CHARS_MAX = 500
_WASTE = {
    "waste_startup_usd": "start-up of machines that come up",
    "waste_traffic_in_usd": "image and models, into them",
    "waste_failed_starts_usd": "machines that never come up",
    "waste_failed_tries_usd": "tries that give nothing",
    "waste_hedges_usd": "second tries that are not needed",
    "waste_idle_usd": "machines without work",
}


def quote_page(fields: Mapping[str, Any]) -> str:
    """The event ``quoted``, as Markdown."""
    return "\n\n".join(part for part in _parts(fields) if part) + "\n"


def quote_line(fields: Mapping[str, Any]) -> str:
    """The quote in one line, what counts first."""
    usd, finish_s = fields.get("usd_p90"), fields.get("finish_s_p90")
    return f"p90 {_usd(usd)} USD, over after {_time(finish_s)}"


def _parts(fields: Mapping[str, Any]) -> list[str]:
    spread = [
        ("", "p10", "p50", "p90"),
        ("USD", *(_usd(fields.get(f"usd_p{share}")) for share in (10, 50, 90))),
        ("last job after", *(_time(fields.get(f"finish_s_p{share}")) for share in (10, 50, 90))),
    ]
    facts = [
        ("jobs to do", f"{fields.get('jobs', 0):,}"),
        ("budget", f"{_usd(fields.get('budget_usd'))} USD"),
        ("nights that make the deadline", _share(fields.get("deadline_met_fraction"))),
        ("machines at once, p50 and p90", _pair(fields, "machines_p50", "machines_p90")),
        ("USD for 1000 jobs", _usd(fields.get("usd_per_1000"))),
        ("waste in all", _share(fields.get("waste_fraction"))),
        ("on", f"{fields.get('nights')} simulated nights of {fields.get('market')}"),
        ("seconds a job", fields.get("basis")),
    ]
    waste = [(said, _usd(fields[name])) for name, said in _WASTE.items() if fields.get(name)]
    return [
        _verdict(fields),
        table(spread[0], spread[1:]),
        table(("", ""), [row for row in facts if row[1] not in {None, ""}]),
        "## What is not rendering\n\n" + table(("what", "USD"), waste) if waste else "",
        "\n".join(f"> {cell(line, chars_max=LINE_CHARS_MAX)}  " for line in _told(fields)),
        "Nothing was rented for this.",
    ]


def _verdict(fields: Mapping[str, Any]) -> str:
    """Whether it fits; if not, what of it does not."""
    if fields.get("fits"):
        return "**It fits the budget.**"
    usd, budget, met = (
        fields.get(name) for name in ("usd_p90", "budget_usd", "deadline_met_fraction")
    )
    too_dear = usd is not None and budget is not None and usd > budget
    why = [
        f"its p90 of {_usd(usd)} USD is above the budget of {_usd(budget)}" if too_dear else "",
        f"the deadline was met on {met:.0%} of the nights played" if met is not None else "",
    ]
    return f"**It does not fit:** {'; '.join(part for part in why if part)}."


def _told(fields: Mapping[str, Any]) -> list[str]:
    """As the command line says it."""
    return [line.strip() for line in str(fields.get("told", "")).splitlines()]


def _usd(value: Any) -> str:
    return amount(value) if value is not None else ""


def _time(value: Any) -> str:
    return duration(value) if value is not None else ""


def _share(value: Any) -> str:
    return f"{value:.0%}" if value is not None else ""


def _pair(fields: Mapping[str, Any], first: str, second: str) -> str:
    both = (fields.get(first), fields.get(second))
    return " and ".join(f"{one:.0f}" for one in both if one is not None)
