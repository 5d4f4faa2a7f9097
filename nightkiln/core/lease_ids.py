"""What leases are called: ``<batch>-<epoch>-lease-<number>``, and whose such a name is.

A provider whose labels are too short for the name of a batch shows ``<its start>~<digest>``
instead, with the first digits of the batch's sha256; no batch has a ``~`` in its own name.
"""

from __future__ import annotations

import hashlib
import re

from nightkiln.core.model import LeaseId

DIGEST_DIGITS = 8
_LEASE = re.compile(r"(?P<batch>.+)(?P<rest>-[0-9]+-lease-[0-9]+)")


def lease_id(run_label: str, number: int) -> LeaseId:
    """The name of a run's next lease; ``run_label`` is ``<batch>-<epoch>``."""
    return LeaseId(f"{run_label}-lease-{number:03d}")


def batch_of_run(run_label: str) -> str:
    """The batch that a run works on."""
    return run_label.rpartition("-")[0]


def is_of_run(lease: LeaseId, run_label: str) -> bool:
    """Whether this very run has rented it."""
    return lease.startswith(f"{run_label}-lease-")


def run_of(lease: LeaseId) -> str:
    """The run, ``<batch>-<epoch>``, that has rented a lease of ours; empty: it has no such name."""
    return lease.rpartition("-lease-")[0] if _LEASE.fullmatch(lease) else ""


def batch_of(lease: LeaseId) -> str:
    """The batch that a lease of ours was rented for; empty: it has no such name."""
    found = _LEASE.fullmatch(lease)
    return found["batch"] if found is not None else ""


def in_full(listed: str, batch: str) -> LeaseId | None:
    """A lease as a provider lists it, by its whole name; None: it is not of ``batch``.

    Never takes another batch's for ours, also where one name begins like the other.
    """
    found = _LEASE.fullmatch(listed)
    if found is None:
        return None
    start, tilde, digest = found["batch"].rpartition("~")
    if tilde:
        wanted = hashlib.sha256(batch.encode()).hexdigest()[:DIGEST_DIGITS]
        is_ours = batch.startswith(start) and digest == wanted
    else:
        is_ours = found["batch"] == batch
    return LeaseId(batch + found["rest"]) if is_ours else None
