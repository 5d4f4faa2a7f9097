"""Which machines that are billed to us nobody wants any more, and which are none of our business.

One rule, whoever asks (the reaper, ``nightkiln leases``): a machine is taken away from a run only
if that run is over, or silent for so long that its machines delete themselves anyway, or if the
machine is past the end that was agreed on. A machine that our book does not know may be another
computer's: it is told, and taken only when it is far older than any night.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from nightkiln.core.model import LeaseId, Usd

UNKNOWN_S = 36 * 3600.0  # a machine of nobody that we know is taken away when it is so old
SEARCH_S = 600.0  # for so long after it was asked for, a machine may yet turn up
PRICE_SLACK = Decimal("1.05")  # above what was agreed: disks are billed in parts of a month


class Fate(StrEnum):
    """What becomes of a machine."""

    KEEP = "keep"
    END = "end"  # it is billed, and nobody wants it
    CLOSE = "close"  # it is not billed any more, but the book does not say so
    FOREIGN = "foreign"  # not ours to end: somebody should look


class Cause(StrEnum):
    """Why."""

    IN_USE = "in_use"
    STARTING = "starting"
    OTHER_FLEET = "other_fleet"
    UNKNOWN = "unknown"
    UNKNOWN_AND_OLD = "unknown_and_old"
    STILL_BILLED = "still_billed"
    RUN_ENDED = "run_ended"
    RUN_SILENT = "run_silent"
    EXPIRED = "expired"
    TOO_DEAR = "too_dear"
    GONE = "gone"
    MISSING = "missing"
    CLOSED = "closed"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a machine, and why, also in words."""

    fate: Fate
    cause: Cause
    said: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What a provider bills us for, as it says. Times are epoch seconds, here and below."""

    lease_id: LeaseId
    fleet: str
    usd_per_hour: Usd
    since_s: float | None = None


@dataclass(frozen=True, slots=True)
class Sign:
    """A run's last sign of life."""

    epoch: int
    alive_s: float
    has_ended: bool = False  # in order


@dataclass(frozen=True, slots=True)
class Known:
    """What the book says of a lease, and of the run that answers for it."""

    asked_s: float
    expires_s: float
    usd_per_hour: Usd  # agreed on, disk included
    has_ended: bool = False
    run: Sign | None = None  # None: the book does not know the run


@dataclass(frozen=True, slots=True)
class ReapRules:
    """What a sweep goes by."""

    fleet: str
    silence_s: float  # the dead-man's: machines of a run silent for longer delete themselves
    usd_per_hour_max: Usd | None = None
    unknown_s: float = UNKNOWN_S

    def __post_init__(self) -> None:
        assert self.fleet, "a sweep without a scope"
        assert self.silence_s > 0
        assert self.unknown_s > 0


def answering(signs: Iterable[Sign], epoch: int) -> Sign | None:
    """Which run of a batch answers for a lease of its run ``epoch``: the newest one.

    It has taken the batch over, so what it did not adopt it gives back.
    """
    newer = [sign for sign in signs if sign.epoch >= epoch]
    return max(newer, key=lambda sign: sign.epoch, default=None)


def judge(machine: Machine, known: Known | None, rules: ReapRules, *, now_s: float) -> Verdict:
    """What becomes of a machine that is billed."""
    if machine.fleet != rules.fleet:
        said = f"it belongs to fleet {machine.fleet}"
        return Verdict(Fate.FOREIGN, Cause.OTHER_FLEET, said)
    if known is None:
        return _judge_unknown(machine, rules, now_s)
    return _judge_known(machine, known, rules, now_s)


def _judge_known(machine: Machine, known: Known, rules: ReapRules, now_s: float) -> Verdict:
    orphaned = _orphaned(known, rules, now_s)
    if orphaned is not None and known.has_ended:
        said = "it was given back, and is billed all the same"
        return Verdict(Fate.END, Cause.STILL_BILLED, said)
    if orphaned is not None:
        return orphaned
    if known.has_ended:  # it was listed just before it went, and its run says so in a moment
        return Verdict(Fate.KEEP, Cause.IN_USE, "its run is giving it back")
    most = rules.usd_per_hour_max
    if most is not None and is_dearer(machine, known) and machine.usd_per_hour > most:
        said = (
            f"it costs {machine.usd_per_hour:.3f} USD an hour: more than agreed, and than allowed"
        )
        return Verdict(Fate.END, Cause.TOO_DEAR, said)
    return Verdict(Fate.KEEP, Cause.IN_USE, "its run is alive")


def is_dearer(machine: Machine, known: Known) -> bool:
    """Whether a machine costs more than was agreed on."""
    return machine.usd_per_hour > known.usd_per_hour * PRICE_SLACK


def judge_missing(known: Known, rules: ReapRules, *, now_s: float) -> Verdict:
    """What becomes of a lease of the book for which nothing is billed."""
    if known.has_ended:
        is_told = _orphaned(known, rules, now_s) is None  # by its run, in a moment
        fate = Fate.KEEP if is_told else Fate.CLOSE
        return Verdict(fate, Cause.CLOSED, "it was given back, and is not on record yet")
    is_young = now_s - known.asked_s <= SEARCH_S
    if _orphaned(known, rules, now_s) is None:
        if is_young:
            return Verdict(Fate.KEEP, Cause.STARTING, "it was just asked for")
        return Verdict(Fate.KEEP, Cause.MISSING, "its run believes that it has it")
    if is_young:  # its creation may yet turn out to have happened
        return Verdict(Fate.KEEP, Cause.STARTING, "nobody confirmed it; it may yet turn up")
    return Verdict(Fate.CLOSE, Cause.GONE, "it is gone, and its run did not say so")


def billed_until_s(known: Known, *, silence_s: float, now_s: float) -> float:
    """Until when a lease that nobody saw end may have cost money; never less than it did.

    Its machine ends itself at its agreed end, or when its run gives no sign for so long.
    """
    alive_s = max(known.run.alive_s, known.asked_s) if known.run is not None else known.asked_s
    return max(known.asked_s, min(now_s, known.expires_s, alive_s + silence_s))


def _judge_unknown(machine: Machine, rules: ReapRules, now_s: float) -> Verdict:
    if machine.since_s is not None and now_s - machine.since_s > rules.unknown_s:
        hours = (now_s - machine.since_s) / 3600
        said = f"no run of this computer knows it, and it is {hours:.0f} hours old"
        return Verdict(Fate.END, Cause.UNKNOWN_AND_OLD, said)
    said = "no run of this computer knows it: another computer's, or the book was lost"
    return Verdict(Fate.FOREIGN, Cause.UNKNOWN, said)


def _orphaned(known: Known, rules: ReapRules, now_s: float) -> Verdict | None:
    """Why nobody can want a lease any more; None: somebody does.

    A sign of life from the future (a clock that was set) is one.
    """
    if known.run is not None and known.run.has_ended:
        return Verdict(Fate.END, Cause.RUN_ENDED, "its run has ended")
    alive_s = max(known.run.alive_s, known.asked_s) if known.run is not None else known.asked_s
    if now_s - alive_s > rules.silence_s:
        said = f"its run is silent for {(now_s - alive_s) / 60:.0f} min"
        return Verdict(Fate.END, Cause.RUN_SILENT, said)
    if now_s > known.expires_s:
        said = f"it should have ended {(now_s - known.expires_s) / 60:.0f} min ago"
        return Verdict(Fate.END, Cause.EXPIRED, said)
    return None
