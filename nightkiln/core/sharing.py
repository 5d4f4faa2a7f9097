"""How one night is split among several controllers: its jobs, its money, and who is started again.

Jobs go by their ids, so that every job is in exactly one share wherever its rows stand: two rows
that mean the same job cannot end up with two controllers, and who plans the catalog again finds
the same split.

Money. Each start of a share has a limit that it may spend and reserve up to. A limit that was
given counts from then on; one that was lowered counts as it was until the controller has said that
it keeps to the lower one, for it may have rented in between. A controller that is lost keeps what
it might have spent until the ledger says what it did. So all that was ever given never comes to
more than the whole, whatever was heard late or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum
from itertools import chain

from nightkiln.core.model import Usd

SHARES_MAX = 100  # controllers of one night
STARTS_MAX = 5  # of one share in one round: something that kills it every time is no accident
CENT = Decimal("0.01")
NOTHING = Decimal(0)
CHANGE_MIN = Decimal("0.01")  # of the whole: a smaller difference is not worth telling
# Of a batch that is a share.
SHARE_NAME = re.compile(r"(?P<night>.+)-(?P<number>[0-9]+)of(?P<of>[0-9]+)")
_DIGITS = 8  # hex, of a job's id


@dataclass(frozen=True, slots=True)
class Share:
    """One of the parts that a night is split into: a batch of its own."""

    night: str  # the batch that all parts together are
    number: int  # from 1
    of: int

    @property
    def batch(self) -> str:
        """What the part is called; the same part is always called the same, so that it resumes."""
        return share_batch(self.night, self.number, self.of)


def share_batch(night: str, number: int, of: int) -> str:
    """``night-2of4``."""
    return f"{night}-{number}of{of}"


def share_called(batch: str) -> Share | None:
    """The share that a batch is by its name; whether there is such a night, only its store says."""
    found = SHARE_NAME.fullmatch(batch)
    if found is None:
        return None
    share = Share(found["night"], int(found["number"]), int(found["of"]))
    return share if 1 <= share.number <= share.of and share.batch == batch else None


def share_of(job_id: str, of: int) -> int:
    """Which of ``of`` shares, from 1, a job belongs to."""
    return int(job_id[:_DIGITS], 16) % of + 1


def share_sql(column: str, of: int) -> str:
    """The same for a column in DuckDB."""
    return f"(('0x' || {column}[:{_DIGITS}])::BIGINT % {of:d} + 1)"


def split_usd(total: Usd, weights: Sequence[int]) -> list[Usd]:
    """``total``, cut to cents by weight: adds up to it exactly, less what is below a cent.

    Without any weight nobody gets anything.
    """
    cents, whole = int(total / CENT), sum(weights)
    if whole == 0 or cents <= 0:
        return [NOTHING for _ in weights]
    parts = [cents * weight // whole for weight in weights]
    by_rest = sorted(range(len(parts)), key=lambda at: (-(cents * weights[at] % whole), at))
    for at in by_rest[: cents - sum(parts)]:
        parts[at] += 1
    return [CENT * part for part in parts]


class Fate(StrEnum):
    """What has become of one start of a share."""

    WAITING = "waiting"  # asked for; it has not begun
    RUNNING = "running"
    ENDED = "ended"  # said how it went
    CUT = "cut short"  # said that it could not go on
    LOST = "lost"  # began, and fell silent
    VOID = "void"  # never began, and cannot any more

    @property
    def is_open(self) -> bool:
        """Whether it may yet do something."""
        return self in {Fate.WAITING, Fate.RUNNING}


@dataclass(frozen=True, slots=True)
class Money:
    """Where a start stands with its money, by its own count."""

    spent: Usd = NOTHING
    reserved: Usd = NOTHING  # for machines that it has
    limit: Usd = NOTHING  # that it keeps to
    orders: int = 0  # the last that it has heard

    @property
    def bound(self) -> Usd:
        """What nobody can take from it any more."""
        return self.spent + self.reserved


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a share: what it was told, and what was heard of it."""

    fate: Fate = Fate.WAITING
    orders: int = 1  # how often it was told its limit
    limit: Usd = NOTHING  # that it was told last
    most: Usd = NOTHING  # that it may keep to, of all that it was told since it last answered
    money: Money = Money()
    ledger_usd: Usd | None = None  # of one that is lost: what it came to; None: nobody knows yet

    @property
    def committed(self) -> Usd:
        """What it may come to in the worst case."""
        match self.fate:
            case Fate.VOID:
                return NOTHING
            case Fate.ENDED | Fate.CUT:
                return self.money.bound
            case Fate.LOST if self.ledger_usd is not None:
                return self.ledger_usd
            case Fate.RUNNING if self.money.orders == self.orders:
                return max(self.money.limit, self.money.bound)
            case _:
                return max(self.most, self.money.bound)

    def told(self, usd: Usd) -> Start:
        """The same after it was told another limit, which it has not answered yet."""
        return Start(
            self.fate, self.orders + 1, usd, max(self.committed, usd), self.money, self.ledger_usd
        )


@dataclass(frozen=True, slots=True)
class Part:
    """One share of the night."""

    starts: tuple[Start, ...] = ()
    left: int | None = None  # jobs without an end; None: nobody has counted yet
    exit_code: int | None = None  # how its last run ended, if it did

    @property
    def is_open(self) -> bool:
        """Whether somebody works on it, or is about to."""
        return bool(self.starts) and self.starts[-1].fate.is_open

    @property
    def is_settled(self) -> bool:
        """Whether nobody has to be started for it any more."""
        return bool(self.starts) and self.starts[-1].fate is Fate.ENDED

    @property
    def waits_for_ledger(self) -> bool:
        """Whether money is set aside for one that died, of which the ledger may yet say more."""
        return any(one.fate is Fate.LOST and one.ledger_usd is None for one in self.starts)

    @property
    def is_given_up(self) -> bool:
        """It was started so often in vain that the fault is elsewhere."""
        return not (self.is_open or self.is_settled) and len(self.starts) >= STARTS_MAX

    @property
    def wants_start(self) -> bool:
        return not (self.is_open or self.is_settled or self.is_given_up)


def free_usd(total: Usd, parts: Sequence[Part]) -> Usd:
    """What is promised to nobody."""
    return total - sum((one.committed for one in _starts(parts)), NOTHING)


def targets(total: Usd, parts: Sequence[Part]) -> list[Usd]:
    """What each share's living start should have: what it is bound to, and by the jobs left.

    A share that is about to be started gets its part, too; one that is over gets nothing more.
    """
    over = (one.committed for part in parts for one in part.starts if not one.fate.is_open)
    bound = [_bound(part) for part in parts]
    pool = total - sum(chain(over, bound), NOTHING)
    weights = _weights(parts)
    return [mine + more for mine, more in zip(bound, split_usd(pool, weights), strict=True)]


def _bound(part: Part) -> Usd:
    return part.starts[-1].money.bound if part.is_open else NOTHING


def _weights(parts: Sequence[Part]) -> list[int]:
    known = [part.left for part in parts if part.left is not None]
    usual = max(1, sum(known) // len(known)) if known else 1  # of one that has not counted yet
    return [
        (part.left if part.left is not None else usual) if part.is_open or part.wants_start else 0
        for part in parts
    ]


def rebalanced(total: Usd, parts: Sequence[Part]) -> Mapping[int, Usd]:
    """New limits for living starts, by the index of their share; those not named keep theirs.

    Nobody is raised by more than what is free now: what was taken from others is free once they
    have answered, and then it is given.
    """
    wanted, free = targets(total, parts), free_usd(total, parts)
    least = max(CENT, (total * CHANGE_MIN).quantize(CENT, ROUND_DOWN))
    limits: dict[int, Usd] = {}
    for at, part in enumerate(parts):
        if not part.is_open:
            continue
        start, target = part.starts[-1], wanted[at]
        if abs(target - start.limit) < least:
            continue
        if target < start.limit:
            limits[at] = target
            continue
        more = min(target - start.committed, free)
        if more >= least:
            limits[at] = start.committed + more
            free -= more
    return limits


def first_limit(total: Usd, parts: Sequence[Part], at: int) -> Usd:
    """What a share may be started with now; 0: nothing is free, so it has to wait."""
    return max(NOTHING, min(targets(total, parts)[at], free_usd(total, parts))).quantize(
        CENT, ROUND_DOWN
    )


def is_over(parts: Sequence[Part]) -> bool:
    """Whether nobody works any more, and nobody is to be started."""
    return all(part.is_settled or part.is_given_up for part in parts)


def _starts(parts: Sequence[Part]) -> list[Start]:
    return [start for part in parts for start in part.starts]
