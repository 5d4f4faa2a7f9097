"""What a column must not hold, as SQL; the twin of ``specs.value_problem``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nightkiln.catalog.catalog import CatalogInput
from nightkiln.catalog.columns import INTEGERS, is_fractional
from nightkiln.catalog.jobs import is_nested
from nightkiln.catalog.schema import LARGEST_INTEGER, SMALLEST_INTEGER
from nightkiln.core.plan import EXACT_BELOW, SeedRule
from nightkiln.core.specs import MODEL_SUFFIXES, Definitions, Spec, choice_fix

TEXT_BYTES_MAX = (
    2**20
)  # of one value; ComfyUI takes requests of 100 MB, encoders a few hundred words
_MODEL_PATTERN = "(" + "|".join(re.escape(suffix) for suffix in MODEL_SUFFIXES) + ")$"


@dataclass(frozen=True, slots=True)
class Condition:
    """Rows for which ``sql`` is true are wrong."""

    sql: str
    what: str
    fix: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)


def nothing_but(kind: str, specs: Sequence[Spec]) -> tuple[str, str] | None:
    """Why no value of a column of this type will do, and what to do; None if some may."""
    if kind in {"BLOB", "BIT", "INTERVAL"} or (is_nested(kind) and kind not in INTEGERS):
        return f"of type {kind}, which cannot be bound", "cast it to text or a number in SQL"
    is_number = kind in INTEGERS or is_fractional(kind)
    for spec in specs:
        right = {
            "INT": is_number,
            "FLOAT": is_number,
            "BOOLEAN": kind == "BOOLEAN",
            "STRING": not is_number and kind != "BOOLEAN",
        }.get(spec.kind, True)
        if not right:
            return f"of type {kind}", f"{spec.takes}; cast it in prompts: {{sql: ...}}"
    return None


def conditions(
    item: CatalogInput,
    column: str,
    kind: str,
    specs: Sequence[Spec],
    definitions: Definitions,
    *,
    beyond: int,
    key: str,
) -> Iterator[Condition]:
    """Everything that may be wrong with values of a (quoted) column.

    ``beyond`` is how far variants count a seed up; ``key`` makes names of parameters unique.
    """
    if item.default is None and item.seed_rule is SeedRule.GIVEN:
        fix = f"fill it, or give inputs.{item.name} a default"
        yield Condition(f"{column} IS NULL", "is null", fix)
    if item.is_file:
        return
    if kind in INTEGERS:
        outside = f"{column} NOT BETWEEN {SMALLEST_INTEGER} AND {LARGEST_INTEGER}"
        yield Condition(outside, "is out of all range", "64 bits at most")
    elif is_fractional(kind):
        yield Condition(f"NOT isfinite(CAST({column} AS DOUBLE))", "is not a number", "fill it")
    elif kind != "BOOLEAN":
        long = f"strlen(CAST({column} AS VARCHAR)) > {TEXT_BYTES_MAX}"
        yield Condition(long, f"is longer than {TEXT_BYTES_MAX // 2**20} MiB", "shorten it")
    is_seed = item.seed_rule is not SeedRule.GIVEN or beyond > 0
    for at, spec in enumerate(specs):
        if is_fractional(kind) and (spec.kind == "INT" or is_seed):
            yield _whole(column, spec)
        if spec.kind in {"INT", "FLOAT"}:
            yield from _ranged(column, kind, spec, beyond)
        if spec.kind == "COMBO" and spec.choices is not None:
            yield _listed(column, spec, definitions, key=f"{key}_{at}")


def _whole(column: str, spec: Spec) -> Condition:
    number = f"CAST({column} AS DOUBLE)"
    uneven = f"{number} <> trunc({number}) OR abs({number}) >= {EXACT_BELOW}"
    return Condition(f"isfinite({number}) AND ({uneven})", "is not a whole number", spec.takes)


def _ranged(column: str, kind: str, spec: Spec, beyond: int) -> Iterator[Condition]:
    tests = []
    if spec.minimum is not None:
        tests.append(f"{column} < {spec.minimum!r}")
    if spec.maximum is not None:
        tests.append(f"{column} > {spec.maximum - beyond!r}")
    if tests:
        # NaN is larger than anything here, and told already.
        finite = f"isfinite(CAST({column} AS DOUBLE)) AND " if is_fractional(kind) else ""
        variants = f", less {beyond} for variants" if beyond else ""
        outside = f"{finite}({' OR '.join(tests)})"
        yield Condition(outside, "is out of range", spec.takes + variants)


def _listed(column: str, spec: Spec, definitions: Definitions, *, key: str) -> Condition:
    text = f"CAST({column} AS VARCHAR)"
    listed = f"list_contains($choices_{key}, {text})"
    slashed = f"list_contains($choices_{key}, replace({text}, '\\', '/'))"
    outside = f"{text} IS NOT NULL AND NOT ({listed} OR {slashed})"
    parameters: dict[str, object] = {f"choices_{key}": [str(one) for one in spec.choices or ()]}
    if spec.only_models:
        outside += f" AND regexp_matches(lower({text}), $models_{key})"
        parameters[f"models_{key}"] = _MODEL_PATTERN
    return Condition(outside, "is not in the list", choice_fix(spec, definitions), parameters)
