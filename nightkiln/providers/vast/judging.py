"""What a machine's row means for its lease. Pure: rows in, ailments out.

A start is bounded by its deadline, never by the text of a status: that freezes for ten minutes on
healthy machines. Only texts that are known to be final end a start early.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from nightkiln.core.model import Loss, Offer, Usd
from nightkiln.providers.vast.rows import Row
from nightkiln.providers.vast.terms import Limits

# Why is the same on every machine for the same cause: by that the scheduler sees whose fault it is.
FATAL = (
    ("manifest unknown", "the image does not exist: manifest unknown"),
    ("unauthorized", "the image may not be pulled: unauthorized"),
    ("no space left on device", "the disk was full before the image was there"),
    ("unexpected eof", "the image could not be pulled: it broke off"),
    ("failed to pull image", "the image could not be pulled"),
    ("oci runtime create failed", "the container could not be created"),
    ("error response from daemon", "the container could not be started"),
)
STARTING = frozenset({"", "created", "loading", "exited", "stopped"})
DEAR_SHARE, DEAR_USD = Decimal("1.25"), Decimal("0.01")  # above what was offered, per hour
ENDED = frozenset({"exited", "stopped"})
SILENT = frozenset({"offline", "unknown"})


@dataclass(frozen=True, slots=True)
class Ailment:
    """Something that ends a lease once it has lasted for ``patience_s``."""

    loss: Loss
    why: str
    patience_s: float = 0.0


def ailment(row: Row, limits: Limits, *, has_run: bool) -> Ailment | None:
    """What is wrong with a machine that we have not asked to stop; None: nothing that counts."""
    start = None if has_run else _broken_start(row)
    return _taken(row, limits) or start or _bad_state(row, limits, has_run=has_run)


def overcharge(row: Row, offer: Offer) -> Ailment | None:
    """A machine that costs clearly more than was offered: nobody has set that money aside."""
    offered: Usd = offer.usd_per_hour + offer.storage_usd_per_hour
    if row.usd_per_hour is None or row.usd_per_hour <= offered * DEAR_SHARE + DEAR_USD:
        return None
    return Ailment(Loss.MARKET, "the machine costs more than was offered")


def _taken(row: Row, limits: Limits) -> Ailment | None:
    """Outbid machines are stopped, not gone: they cost storage and may come back as zombies."""
    if row.current == row.intended == row.following == "stopped":
        return Ailment(Loss.MARKET, "outbid: somebody else has the machine now")
    if row.current == "stopped" and row.following == "running" and row.status in ENDED:
        why = "outbid: the machine waits until its GPU is free again"
        return Ailment(Loss.MARKET, why, limits.scheduling_s)
    return None


def _broken_start(row: Row) -> Ailment | None:
    texts = FATAL if row.status in STARTING else ()
    found = (why for sign, why in texts if sign in row.message)
    return next((Ailment(Loss.STARTUP, why) for why in found), None)


def _bad_state(row: Row, limits: Limits, *, has_run: bool) -> Ailment | None:
    if row.status in ENDED:
        loss = Loss.LOST if has_run else Loss.STARTUP
        return Ailment(loss, "the container has ended", limits.stopping_s)
    if row.status in SILENT:
        return Ailment(Loss.LOST, "the machine has no contact to the service", limits.offline_s)
    if row.status == "frozen":
        return Ailment(Loss.LOST, "the machine is frozen", limits.stopping_s)
    return None
