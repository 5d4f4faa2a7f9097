"""Calls that were handed over and whose end nobody has seen, written down in the state folder.

The service cannot list calls, so what is written here is all that anybody knows of them: a later
process cancels them for the reaper, and says which leases may still cost something. One small file
per call; all calls of this module block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from nightkiln import records
from nightkiln.core.errors import StoreUnusable
from nightkiln.core.model import LeaseId, Usd
from nightkiln.core.plain import from_json, to_json
from nightkiln.disk import Disk, OsDisk

USAGE_KEPT_S = 30 * 86400.0
_SAFE = re.compile(r"[A-Za-z0-9._~-]{1,200}")


@dataclass(frozen=True, slots=True)
class Call:
    """One call. Times are epoch seconds."""

    call_id: str  # the service's; the ticket of an attempt
    lease_id: LeaseId
    what: str  # the attempt, or what else it was for; empty: unknown, as is when it was submitted
    gpu: str
    usd_per_s: Usd
    submitted_s: float
    expires_s: float  # then it is not rendered any more


class OpenCalls:
    """The calls in one folder."""

    def __init__(self, folder: Path, *, disk: Disk | None = None) -> None:
        self._calls, self._usage = folder / "calls", folder / "usage"
        self._disk = disk if disk is not None else OsDisk()

    def opened(self, call: Call) -> None:
        """Durable when this returns.

        Raises:
            StoreUnusable: it is not.
        """
        records.keep(self._calls / _file(call.call_id), to_json(call), self._disk)

    def closed(self, call_id: str) -> None:
        """Its end was seen, and what it gave is ours."""
        records.drop(self._calls / _file(call_id), self._disk)

    def all(self) -> list[Call]:
        """Every open call, oldest first; damaged files are left out."""
        told = ((path, records.read(path)) for path in records.records_in(self._calls))
        found = [_call(entry, path) for path, entry in told]
        return sorted(
            (call for call in found if call is not None), key=lambda call: call.submitted_s
        )

    def keep_usage(self, lease_id: LeaseId, hours: Mapping[int, Usd]) -> None:
        """What a lease has cost by the hour, for when the bill comes.

        Raises:
            StoreUnusable: it cannot be written.
        """
        told = {str(hour): str(usd) for hour, usd in hours.items()}
        records.keep(self._usage / _file(lease_id), told, self._disk)

    def usage(self) -> dict[LeaseId, dict[int, Usd]]:
        """The same for every lease that is remembered."""
        found: dict[LeaseId, dict[int, Usd]] = {}
        for path in records.records_in(self._usage):
            with suppress(ValueError, TypeError, ArithmeticError, AttributeError):
                entry = records.read(path)
                hours = {int(hour): Decimal(usd) for hour, usd in entry.items()}
                found[LeaseId(path.stem)] = hours
        return found

    def forget_usage(self, *, before_s: float) -> None:
        """Drop what no bill is expected for any more."""
        for path in records.records_in(self._usage):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before_s:
                    records.drop(path, self._disk)


def _call(entry: Any, path: Path) -> Call | None:
    try:
        return from_json(Call, entry, where=path.name)
    except (ValueError, RecursionError):
        return None


def _file(name: str) -> str:
    if not _SAFE.fullmatch(name) or name.startswith("."):
        raise StoreUnusable(f"{name[:40]!r} cannot name a file")
    return f"{name}.json"
