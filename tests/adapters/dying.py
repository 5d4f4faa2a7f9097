"""Work on a store that ends in the middle."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import OsDisk
from nightkiln.store.store import Store
from nightkiln.testing.disk import NoFsyncDisk, SteppedDisk, VolatileDisk


def died(folder: Path, step: int, work: Callable[[Store], object], *, how: str) -> bool:
    """Do ``work`` until something happens before ``step``; whether it came to that step.

    ``how``: killed, power cut (what was not synced is lost), or disk full (once; it goes on).
    """
    volatile = VolatileDisk(NoFsyncDisk(OsDisk()))
    reached = False

    def before(number: int, _name: str) -> None:
        nonlocal reached
        if number == step or (number > step and how != "disk full"):
            reached = True
            raise OSError(errno.ENOSPC, "no space")  # for good, where nobody is left

    try:
        work(Store.open(str(folder), disk=SteppedDisk(volatile, before)))
    except StoreUnusable:
        if how == "power cut":
            volatile.lose_power()
    return reached
