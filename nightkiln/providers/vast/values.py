"""Single values of a stranger's JSON: bounded and of a known type, or None."""

from __future__ import annotations

from decimal import Decimal
from math import isfinite
from typing import Any

from nightkiln.core.model import Usd

TEXT_CHARS_MAX = 200
NUMBER_CHARS_MAX = 40
WHOLE_MAX = 2**63
USD_MAX = 1_000_000.0


def text(value: Any, *, chars_max: int = TEXT_CHARS_MAX) -> str:
    """Printable text on one line; empty where there is none."""
    if not isinstance(value, str):
        return ""
    return "".join(c if c.isprintable() else " " for c in value[:chars_max]).strip()


def number(value: Any) -> float | None:
    """A finite number, also one that was sent as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value[:NUMBER_CHARS_MAX] if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return found if isfinite(found) else None


def at_least_0(value: Any) -> float | None:
    """A number that is not negative."""
    found = number(value)
    return found if found is not None and found >= 0 else None


def whole(value: Any) -> int | None:
    """A positive whole number: an id."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:NUMBER_CHARS_MAX])
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value < WHOLE_MAX else None


def usd(value: Any) -> Usd | None:
    """An amount of money that is not negative and can be meant."""
    found = at_least_0(value)
    return Decimal(str(round(found, 6))) if found is not None and found <= USD_MAX else None
