"""From a market file to a ``Market``: strict, and naming every problem at once."""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from nightkiln.core.errors import BadInput, Problem
from nightkiln.testing.market import params
from nightkiln.testing.market.params import Bounds, GpuClass, Market

MARKET_BYTES_MAX = 1_000_000
CLASSES_MAX = 100
SHARES_SUM_TOLERANCE = 1e-6
SHIPPED = ("ordinary", "scarce", "flooded")

_TABLES: Mapping[str, type[Any]] = {
    "meta": params.Meta,
    "batch": params.BatchFacts,
    "price": params.Price,
    "network": params.Network,
    "startup": params.Startup,
    "failure": params.Failure,
    "hazard": params.Hazard,
    "speed": params.Speed,
    "availability": params.Availability,
    "regions": params.Regions,
    "fallback": params.FallbackFacts,
}
_OPTIONAL: Mapping[str, type[Any]] = {
    "jobs": params.JobTroubles,
    "api": params.ApiTroubles,
    "offline": params.Offline,
}
_ORDERED = (  # (table, low end, high end)
    ("price", "bid_ratio_low", "bid_ratio_high"),
    ("network", "true_share_low", "true_share_high"),
    ("network", "liar_true_low", "liar_true_high"),
    ("startup", "cached_low_s", "cached_high_s"),
    ("startup", "extract_low_s", "extract_high_s"),
    ("startup", "app_low_s", "app_high_s"),
    ("failure", "early_low_s", "early_high_s"),
    ("speed", "shared_low", "shared_high"),
    ("price", "spike_from_h", "spike_to_h"),
)

T = TypeVar("T")


def load_market(path: Path) -> Market:
    """Read a market file.

    Raises:
        BadInput: it cannot be read, or a key is missing, unknown or out of bounds.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MARKET_BYTES_MAX + 1)
    except OSError as error:
        raise BadInput([Problem(str(path), f"cannot be read: {error.strerror}")]) from error
    return parse_market(content, where=str(path))


def shipped_market(name: str = "ordinary") -> Market:
    """One of the markets in the package, by name (``SHIPPED``)."""
    if name not in SHIPPED:
        shipped = ", ".join(SHIPPED)
        raise BadInput([Problem("market", f"no market {name!r}", f"shipped are {shipped}")])
    file = resources.files("nightkiln") / "data" / "markets" / f"{name}.toml"
    return parse_market(file.read_bytes(), where=f"{name}.toml")


def parse_market(content: bytes, *, where: str) -> Market:
    """The market that the bytes of a file describe; ``where`` names the file in errors."""
    if len(content) > MARKET_BYTES_MAX:
        raise BadInput([Problem(where, f"larger than {MARKET_BYTES_MAX} bytes: no market file")])
    try:
        raw = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput([Problem(where, f"is no TOML: {error}")]) from error
    reader = _Reader(where)
    market = reader.market(raw, hashlib.sha256(content).hexdigest())
    if reader.problems or market is None:
        raise BadInput(reader.problems)
    return market


class _Reader:
    """Collects problems while it reads, so that a user mends them all in one go."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.problems: list[Problem] = []

    def market(self, raw: Mapping[str, Any], sha256: str) -> Market | None:
        for name in sorted(raw.keys() - _TABLES.keys() - _OPTIONAL.keys() - {"class"}):
            self._complain(name, "unknown table")
        tables: dict[str, Any] = {
            name: self._table(kind, raw.get(name), name) for name, kind in _TABLES.items()
        }
        tables |= {
            name: self._table(kind, raw[name], name)
            for name, kind in _OPTIONAL.items()
            if name in raw
        }
        classes = self._classes(raw.get("class"))
        if self.problems:
            return None
        market = Market(**tables, classes=classes, sha256=sha256)
        self._relations(market)
        return market

    def _classes(self, raw: Any) -> dict[str, GpuClass]:
        if not isinstance(raw, dict) or not 0 < len(raw) <= CLASSES_MAX:
            self._complain("class", f"wants 1 to {CLASSES_MAX} tables [class.NAME]")
            return {}
        read = {name: self._table(GpuClass, body, f"class.{name}") for name, body in raw.items()}
        return {name: one for name, one in read.items() if one is not None}

    def _table(self, kind: type[T], raw: Any, name: str) -> T | None:
        """One table as its dataclass; None when something in it is wrong."""
        if not isinstance(raw, dict):
            self._complain(name, "missing table" if raw is None else "is no table")
            return None
        before = len(self.problems)
        hints = get_type_hints(kind, include_extras=True)
        for key in sorted(raw.keys() - hints.keys()):
            self._complain(f"{name}.{key}", "unknown key")
        values = {}
        for item in fields(kind):  # type: ignore[arg-type]  # every table is a dataclass
            if item.name in raw:
                where = f"{name}.{item.name}"
                values[item.name] = self._value(hints[item.name], raw[item.name], where)
            elif item.default is MISSING:
                self._complain(f"{name}.{item.name}", "missing key")
        return kind(**values) if len(self.problems) == before else None

    def _value(self, hint: Any, value: Any, where: str) -> Any:
        if get_origin(hint) is tuple:
            if isinstance(value, list):
                one = get_args(hint)[0]
                return tuple(self._value(one, part, where) for part in value)
            return self._complain(where, "wants a list")
        if get_origin(hint) is Annotated:
            kind, bounds = get_args(hint)
            return self._number(kind, bounds, value, where)
        return value if isinstance(value, str) else self._complain(where, "wants a text")

    def _number(self, kind: type, bounds: Bounds, value: Any, where: str) -> Any:
        is_number = isinstance(value, int) or (kind is float and isinstance(value, float))
        if not is_number or isinstance(value, bool):
            return self._complain(where, f"{value!r} is no {kind.__name__}")
        if not math.isfinite(value) or not bounds.low <= value <= bounds.high:
            return self._complain(where, f"{value} is not within {bounds.low:g}..{bounds.high:g}")
        return kind(value)

    def _relations(self, market: Market) -> None:
        """What must hold between two numbers."""
        for table, low, high in _ORDERED:
            values = getattr(market, table)
            if getattr(values, low) > getattr(values, high):
                self._complain(f"{table}.{low}", f"is above {high}")
        regions = market.regions
        if not regions.names or len(regions.names) != len(regions.shares):
            self._complain("regions.shares", "wants one share per name, and at least one")
        elif abs(sum(regions.shares) - 1) > SHARES_SUM_TOLERANCE:
            self._complain("regions.shares", f"sum to {sum(regions.shares):g} instead of 1")
        elif regions.outage_region >= len(regions.names):
            self._complain("regions.outage_region", "is no index into names")
        failure = market.failure
        if failure.early_share + failure.stuck_loading_share > 1:
            self._complain("failure.stuck_loading_share", "is above 1 together with early_share")

    def _complain(self, where: str, what: str) -> None:
        self.problems.append(Problem(f"{self._file}: {where}", what))
