"""The shipped priors: a dated file in which every figure says its unit and where it comes from."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import date
from importlib import resources
from typing import Any

from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.priors import Priors, gpu_class

PRIORS_VERSION = 1
PRIORS_BYTES_MAX = 1_000_000
PROVENANCES = frozenset({"measured", "published", "derived", "guess"})
VALUE_MAX = 1e6
_FIGURE = {"value", "unit", "provenance", "date"}
_TABLES = {"meta", "names", "seconds_per_image", "beliefs", "traffic"}
_BELIEFS = frozenset(each.name for each in fields(Priors)) - {"seconds_per_job"}
_TRAFFIC = frozenset({"image_gb", "checkpoint_gb", "model_gb", "result_gb"})
_SHARES = frozenset(
    {
        "bandwidth_share",
        "slow_link_share",
        "cached_share",
        "boot_fails",
        "boot_fails_bad",
        "bad_share",
    }
)


@dataclass(frozen=True, slots=True)
class PriorsFile:
    """A file of priors, read."""

    dated: str
    default: str  # the family of workflows that stands for one of which nothing is known
    seconds: Mapping[str, Mapping[str, float]]  # family -> GPU class -> seconds per image
    beliefs: Mapping[str, float]
    traffic: Mapping[str, float]  # GB

    def priors(self, family: str | None = None) -> Priors:
        """What a run starts from.

        Raises:
            BadInput: there is no such family.
        """
        wanted = family if family is not None else self.default
        if wanted not in self.seconds:
            known = ", ".join(sorted(self.seconds))
            raise BadInput([Problem(wanted, "no such family of workflows", f"one of: {known}")])
        return Priors(seconds_per_job=self.seconds[wanted], **self.beliefs)


def shipped_priors(family: str | None = None) -> Priors:
    """The priors that nightkiln comes with."""
    return _shipped().priors(family)


def shipped_traffic() -> Mapping[str, float]:
    """GB of an image, of a model and of a result of which nothing is known."""
    return _shipped().traffic


def shipped_date() -> str:
    """Of when they are, as YYYY-MM-DD."""
    return _shipped().dated


def _shipped() -> PriorsFile:
    text = resources.files("nightkiln").joinpath("data/priors.toml").read_text(encoding="utf-8")
    return parse_priors(text, where="data/priors.toml")


def parse_priors(text: str, *, where: str) -> PriorsFile:
    """Read a file of priors.

    Raises:
        BadInput: with every figure that is missing, unknown, out of bounds or of unsaid origin.
    """
    try:
        tables = tomllib.loads(text[:PRIORS_BYTES_MAX])
    except tomllib.TOMLDecodeError as error:
        raise BadInput([Problem(where, str(error))]) from error
    problems = [Problem(f"{where}: {place}", what) for place, what in _problems(tables)]
    if problems:
        raise BadInput(problems)
    return PriorsFile(
        dated=tables["meta"]["dated"],
        default=tables["meta"]["default"],
        seconds={
            family: _by_class(figures, tables["names"])
            for family, figures in tables["seconds_per_image"].items()
        },
        beliefs=_values(tables["beliefs"]),
        traffic=_values(tables["traffic"]),
    )


def _values(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(figure["value"]) for name, figure in figures.items()}


def _by_class(figures: Mapping[str, Any], names: Mapping[str, list[str]]) -> dict[str, float]:
    """Seconds by every name of every class."""
    return {
        gpu_class(name): float(figure["value"])
        for gpu, figure in figures.items()
        if gpu != "workload"
        for name in (gpu, *names.get(gpu, ()))
    }


def _problems(tables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if tables.keys() != _TABLES or not all(isinstance(each, dict) for each in tables.values()):
        yield "tables", f"must be {', '.join(sorted(_TABLES))}"
        return
    meta, families = tables["meta"], tables["seconds_per_image"]
    if meta.get("version") != PRIORS_VERSION or not _is_date(meta.get("dated")):
        yield "meta", f"version {PRIORS_VERSION} and dated = YYYY-MM-DD are needed"
    if meta.get("default") not in families:
        yield "meta.default", "is no family of seconds_per_image"
    for gpu, names in tables["names"].items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            yield f"names.{gpu}", "is no list of names"
    for family, figures in families.items():
        yield from _family_problems(family, figures)
    for table, known in (("beliefs", _BELIEFS), ("traffic", _TRAFFIC)):
        for name in sorted(known ^ tables[table].keys()):
            yield f"{table}.{name}", "missing" if name in known else "nobody knows what this is"
        for name, figure in tables[table].items():
            maximum = 1.0 if name in _SHARES else VALUE_MAX
            yield from _figure_problems(f"{table}.{name}", figure, maximum)


def _family_problems(family: str, figures: Any) -> Iterator[tuple[str, str]]:
    place = f"seconds_per_image.{family}"
    if not isinstance(figures, dict) or not isinstance(figures.get("workload"), str):
        yield place, "must say its workload"
        return
    for gpu, figure in figures.items():
        if gpu != "workload":
            yield from _figure_problems(f"{place}.{gpu}", figure, VALUE_MAX)


def _figure_problems(place: str, figure: Any, maximum: float) -> Iterator[tuple[str, str]]:
    if not isinstance(figure, dict) or not _FIGURE <= figure.keys() <= _FIGURE | {"note"}:
        yield place, f"a figure has {', '.join(sorted(_FIGURE))}, and may have a note"
        return
    value = figure["value"]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 < value <= maximum:
        yield place, f"{value!r} is not above 0 and at most {maximum:g}"
    if figure["provenance"] not in PROVENANCES:
        yield place, f"provenance is one of {', '.join(sorted(PROVENANCES))}"
    if not isinstance(figure["unit"], str) or not figure["unit"] or not _is_date(figure["date"]):
        yield place, "a unit, and a date as YYYY-MM-DD, are needed"


def _is_date(value: Any) -> bool:
    try:
        return isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False
