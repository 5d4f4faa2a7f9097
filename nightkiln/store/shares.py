"""What a night that is split among controllers leaves in the store: orders out, reports back.

    shares/<night>/split.json                      into how many shares, once for all its runs
    shares/<night>/<round>/<share>-<start>.orders.json   what that start may spend, and to stop
    shares/<night>/<round>/<share>-<start>.taken.json    who works on it; created once
    shares/<night>/<round>/<share>-<start>.report.json   where it stands; written again and again
    shares/<night>/<round>/closed.json             everybody of that round has ended

A round is one budget. Each start of a share may be taken once: so whoever comes late, or twice,
spends nothing, and whoever is never to begin is kept from it by taking the start from him.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from nightkiln.core.errors import StoreUnusable
from nightkiln.core.model import Usd
from nightkiln.core.plain import from_json, to_json
from nightkiln.core.sharing import NOTHING, Share
from nightkiln.ports.blobs import Blobs
from nightkiln.store.processes import Process

_ROUND = re.compile(r"(?P<round>[0-9]{6})/.+")
_ORDERS = re.compile(r"(?P<share>[0-9]+)-(?P<start>[0-9]+)\.orders\.json")

T = TypeVar("T")


class StopAsked(StrEnum):
    """How a controller is to end."""

    NO = ""
    FINISH = "finish"  # what is being rendered
    NOW = "now"  # what is being rendered is handed back


@dataclass(frozen=True, slots=True)
class Ticket:
    """One start of a share."""

    share: Share
    round: int
    start: int  # from 1
    mark: str = ""  # of the night in its store: a store of the same name may have been before

    @property
    def label(self) -> str:
        """Unique in the life of a store."""
        return f"{self.share.batch}-{self.round}-{self.start}"


@dataclass(frozen=True, slots=True)
class Orders:
    """What a controller is told."""

    number: int  # how often it was told something
    usd: Usd | None  # that it may spend; None: nothing costs money
    most: Usd = NOTHING  # that it may keep to until it has answered: for who divides the money
    stop: StopAsked = StopAsked.NO


@dataclass(frozen=True, slots=True)
class Report:
    """Where a start of a share stands, as its controller says."""

    number: int  # grows while it is alive
    process: Process
    orders: int  # the last that it keeps to
    total: int | None = None  # jobs of the share; None: it has not counted yet
    done: int = 0
    reused: int = 0
    failed: int = 0
    spent: Usd = NOTHING
    reserved: Usd = NOTHING
    limit: Usd | None = None
    images_per_minute: float = 0.0
    has_ended: bool = False  # nothing comes after this
    exit_code: int | None = None  # None: it was cut short
    said: str = ""  # why it stopped, or could not go on
    adopted: int = 0
    outputs: int = 0
    not_released: tuple[str, ...] = ()
    usd_billed: Usd | None = None

    @property
    def left(self) -> int | None:
        """Jobs without an end."""
        if self.total is None:
            return None
        return self.total - self.done - self.reused - self.failed


@dataclass(frozen=True, slots=True)
class Split:
    """Into how many shares a night is split."""

    of: int
    mark: str  # no other night has it, in whatever store


@dataclass(frozen=True, slots=True)
class _Taken:
    by: Process | None  # None: nobody is to begin with it any more


def split_into(blobs: Blobs, night: str, *, wanted: int) -> Split:
    """How a night is split: as it was at first, else as ``wanted``."""
    key = f"shares/{night}/split.json"
    blobs.create(key, _encoded(Split(wanted, uuid.uuid4().hex)))
    found = found_split(blobs, night)
    assert found is not None, "it was there, or was just made"
    return found


def found_split(blobs: Blobs, night: str) -> Split | None:
    """How a night was split; None: it was not."""
    return _read(blobs, f"shares/{night}/split.json", Split)


def open_round(blobs: Blobs, night: str) -> int:
    """The round to work in: the last one if not all of it has ended, else a new one."""
    start = f"shares/{night}/"
    rounds = [
        int(found["round"])
        for key in blobs.list(start)
        if (found := _ROUND.fullmatch(key.removeprefix(start)))
    ]
    last = max(rounds, default=0)
    is_open = last > 0 and blobs.size(_closed(night, last)) is None
    return last if is_open else last + 1


def close_round(blobs: Blobs, night: str, number: int) -> None:
    """Everybody has ended; the next run of the night has a budget of its own."""
    blobs.create(_closed(night, number), b"{}")


def tickets(blobs: Blobs, night: str, round_number: int, split: Split) -> list[list[Ticket]]:
    """The starts of each share in a round, in order."""
    start = f"shares/{night}/{round_number:06d}/"
    found = [
        (int(one["share"]), int(one["start"]))
        for key in blobs.list(start)
        if (one := _ORDERS.fullmatch(key.removeprefix(start)))
    ]
    return [
        [
            Ticket(Share(night, number, split.of), round_number, start, split.mark)
            for share, start in sorted(found)
            if share == number
        ]
        for number in range(1, split.of + 1)
    ]


def order(blobs: Blobs, ticket: Ticket, orders: Orders) -> None:
    """Tell a controller something; it hears it a second later."""
    blobs.put(_key(ticket, "orders"), _encoded(orders))


def orders_for(blobs: Blobs, ticket: Ticket) -> Orders | None:
    """What a controller was told last; None: nothing."""
    return _read(blobs, _key(ticket, "orders"), Orders)


def take(blobs: Blobs, ticket: Ticket, process: Process) -> bool:
    """Begin with a start; False: somebody has, or nobody may any more."""
    return blobs.create(_key(ticket, "taken"), _encoded(_Taken(process)))


def void(blobs: Blobs, ticket: Ticket) -> bool:
    """See that nobody begins with a start any more; False: somebody has."""
    blobs.create(_key(ticket, "taken"), _encoded(_Taken(None)))
    return taken_by(blobs, ticket) is None


def taken_by(blobs: Blobs, ticket: Ticket) -> Process | None:
    """Who has begun with a start."""
    taken = _read(blobs, _key(ticket, "taken"), _Taken)
    return taken.by if taken is not None else None


def is_void(blobs: Blobs, ticket: Ticket) -> bool:
    """Whether nobody can begin with a start any more, and nobody has."""
    taken = _read(blobs, _key(ticket, "taken"), _Taken)
    return taken is not None and taken.by is None


def report(blobs: Blobs, ticket: Ticket, told: Report) -> None:
    """Say where a start of a share stands."""
    blobs.put(_key(ticket, "report"), _encoded(told))


def report_of(blobs: Blobs, ticket: Ticket) -> Report | None:
    """What its controller has said last; None: nothing yet."""
    return _read(blobs, _key(ticket, "report"), Report)


def _closed(night: str, number: int) -> str:
    return f"shares/{night}/{number:06d}/closed.json"


def _key(ticket: Ticket, part: str) -> str:
    share = ticket.share
    return f"shares/{share.night}/{ticket.round:06d}/{share.number}-{ticket.start}.{part}.json"


def _encoded(value: Any) -> bytes:
    return json.dumps(to_json(value), indent=1).encode()


def _read(blobs: Blobs, key: str, kind: type[T]) -> T | None:
    try:
        return from_json(kind, json.loads(blobs.get(key)), where=key)
    except KeyError:
        return None
    except (ValueError, RecursionError) as error:
        raise StoreUnusable(f"{key} is damaged ({error}); remove it to go on") from error
