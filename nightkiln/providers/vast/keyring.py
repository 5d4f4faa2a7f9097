"""The key pairs of batches: kept while a machine may be entered with them, and no longer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nightkiln.core.errors import StoreUnusable
from nightkiln.core.model import LeaseId
from nightkiln.lease_book import LeaseBook, Standing
from nightkiln.providers.vast.labels import batch_of

if TYPE_CHECKING:  # asyncssh takes half a second
    from nightkiln.machine.keys import BatchKeys

_log = logging.getLogger(__name__)


class Keyring:
    """The pairs that this process has used, in ``<state>/keys``."""

    def __init__(self, state: Path) -> None:
        self._folder, self._book = state / "keys", LeaseBook(state)
        self._keys: dict[str, BatchKeys] = {}
        self._batches: set[str] = set()

    async def of(self, lease_id: LeaseId) -> BatchKeys:
        """The pair of a lease's batch; the same for as long as this process lives.

        Raises:
            StoreUnusable: the folder cannot be read or written.
        """
        from nightkiln.machine.keys import BatchKeys

        batch = batch_of(lease_id)
        self.concern([lease_id])
        if batch not in self._keys:
            self._keys[batch] = await asyncio.to_thread(BatchKeys.of, self._folder, batch)
        return self._keys[batch]

    def concern(self, lease_ids: Iterable[LeaseId]) -> None:
        """Look, in the end, whether the keys of these leases are still needed."""
        self._batches |= {batch_of(lease_id) for lease_id in lease_ids}

    async def forget_unused(self, left: Iterable[LeaseId]) -> None:
        """Forget the private halves of batches of which no lease is left: here, or by the book."""
        unused = self._batches - {batch_of(one) for one in left}
        try:
            await asyncio.to_thread(self._forget, unused)
        except StoreUnusable as error:  # they open nothing any more
            _log.warning("keys of ended batches are still there: %s", error)

    def _forget(self, batches: Iterable[str]) -> None:
        for batch in batches:
            path = self._folder / batch
            if not path.is_file():
                continue
            if all(entry.standing is Standing.ENDED for entry in self._book.entries(batch)):
                from nightkiln.machine.keys import drop_key

                drop_key(self._folder, batch)
