"""The service's filters: ``{field: {op: value}}``, with numbers that may come as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nightkiln.testing.vast_market.replies import Refused

LIMIT_DEFAULT = 64  # rows of a search that names no limit; a guess
LIMIT_MAX = 3_000
ORDERS_MAX = 10
SETTINGS = frozenset({"order", "type", "limit", "allocated_storage", "disable_bundling"})
OPERATIONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda ours, asked: bool(ours == asked),
    "neq": lambda ours, asked: bool(ours != asked),
    "gt": lambda ours, asked: bool(ours > asked),
    "gte": lambda ours, asked: bool(ours >= asked),
    "lt": lambda ours, asked: bool(ours < asked),
    "lte": lambda ours, asked: bool(ours <= asked),
    "in": lambda ours, asked: ours in asked,
    "notin": lambda ours, asked: ours not in asked,
}
# Asking for CUDA alone hides the newest cards (gpuhunt#142).
HIDDEN_BY_CUDA = "H100"

Row = Mapping[str, Any]


def matches(row: Row, query: Mapping[str, Any]) -> bool:
    """Whether a row fulfils every condition; one on a field that it lacks is ignored."""
    if "cuda_max_good" in query and "compute_cap" not in query and _is_hidden(row):
        return False
    return all(
        _fulfils(_value(row, name), conditions)
        for name, conditions in query.items()
        if name not in SETTINGS and isinstance(conditions, Mapping)
    )


def ordered(rows: Sequence[Row], order: Any) -> list[Row]:
    """Sorted by ``[[field, "asc" or "desc"], ...]``."""
    found = list(rows)
    if not isinstance(order, list):
        return found
    for part in reversed(order[:ORDERS_MAX]):
        if not isinstance(part, list) or not part:
            raise Refused(400, "invalid_args", "order wants [[field, direction], ...]")
        name, is_down = str(part[0]), len(part) > 1 and part[1] == "desc"
        found.sort(key=lambda row: _sortable(row.get(name)), reverse=is_down)
    return found


def whole(value: Any, default: int, most: int) -> int:
    """A limit as it was asked for, if it was."""
    try:
        asked = default if value is None else int(value)
    except (TypeError, ValueError):
        raise Refused(400, "invalid_args", f"{value!r} is no number") from None
    return max(1, min(asked, most))


def _fulfils(ours: Any, conditions: Mapping[str, Any]) -> bool:
    for name, asked in conditions.items():
        operation = OPERATIONS.get(name)
        if operation is None:
            raise Refused(400, "invalid_args", f"unknown operator {name!r}")
        if ours is None:
            continue
        try:
            if not operation(ours, _alike(asked, ours)):
                return False
        except (TypeError, ValueError):
            raise Refused(400, "invalid_args", f"{asked!r} cannot be compared") from None
    return True


def _value(row: Row, name: str) -> Any:
    if name == "datacenter":
        return row.get("hosting_type") == 1
    if name == "geolocation":
        return str(row.get(name, ""))[-2:]
    return row.get(name)


def _alike(asked: Any, ours: Any) -> Any:
    """What was asked, as the kind of thing that we have."""
    if isinstance(asked, list):
        return [_alike(one, ours) for one in asked]
    if isinstance(ours, bool):
        return asked if isinstance(asked, bool) else str(asked).lower() == "true"
    if isinstance(ours, int | float) and isinstance(asked, str):
        return float(asked)
    return asked


def _is_hidden(row: Row) -> bool:
    return str(row.get("gpu_name", "")).startswith(HIDDEN_BY_CUDA)


def _sortable(value: Any) -> tuple[bool, Any]:
    """Rows without the field come first."""
    is_number = isinstance(value, int | float)
    return (value is not None, value if is_number else 0 if value is None else str(value))
