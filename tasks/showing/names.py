"""What the timeline of a run calls a lease."""

from __future__ import annotations

from nightkiln.core.model import Lease, Usd

NAME_CHARS_MAX = 80
GPU_UNKNOWN = "unknown"  # of one's own machines, until they are up
CHEAP = Usd("0.10")  # less than that an hour is told in tenths of a cent


def lease_name(lease: Lease, number: int) -> str:
    """``vast RTX 4090 #3 (0.31/h)``: where, what, the how many-eth of the run, and its price.

    Of a machine whose GPU nobody has said, which is one's own, its address; what is free has no
    price. Names are a provider's or a stranger's words: one line, of letters that can be shown.
    """
    offer = lease.offer
    what = offer.gpu if offer.gpu not in {"", GPU_UNKNOWN} else lease.host
    usd = offer.usd_per_hour + offer.storage_usd_per_hour
    price = "" if offer.is_free else f" ({usd:.2f}/h)" if usd >= CHEAP else f" ({usd:.3f}/h)"
    end = f" #{number}{price}"
    said = plain_line(f"{lease.provider} {what}")
    return said[: NAME_CHARS_MAX - len(end)] + end


def plain_line(text: str) -> str:
    """One line of letters that can be shown."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
