"""A run reduced to its writes: two pictures, kept, proven and committed, and said to be so.

``python -m nightkiln.testing.short_run SPEC STORE`` makes it on a disk that
``nightkiln.testing.disk.disk_from_spec`` describes, to be stopped at any step. What it has said
on stdout it must never take back.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from nightkiln.journal import FileJournal
from nightkiln.store.adopt import settled_fields
from nightkiln.store.claim import acquire
from nightkiln.store.claims import write_heartbeat
from nightkiln.store.commit import Committer
from nightkiln.store.store import Store
from nightkiln.testing.disk import disk_from_spec
from nightkiln.testing.settled import BATCH, done, picture

PICTURES = (1, 2)


async def mine() -> None:
    """Nobody has taken the batch over."""


async def short_run(store: Store, say: Callable[[str], None]) -> None:
    """Make both pictures, saying ``proven 1``, ``proven 2`` and ``committed`` when they are."""
    acquire(store.blobs, BATCH.batch, now_s=0.0)
    journal = FileJournal(store.journal_path(BATCH.batch, BATCH.epoch), disk=store.disk)
    async with Committer(store.blobs, BATCH, still_mine=mine) as commits:
        for number in PICTURES:
            store.blobs.put(done(number).outputs[0].uri, picture(number))
            await journal.append("rendered", settled_fields(done(number)))
            say(f"proven {number}")
            await commits.add(done(number))
    say("committed")
    write_heartbeat(store.blobs, BATCH.batch, BATCH.epoch, alive_s=1.0)
    await journal.close()


if __name__ == "__main__":
    asyncio.run(
        short_run(
            Store.open(sys.argv[2], disk=disk_from_spec(sys.argv[1])),
            lambda said: print(said, flush=True),  # noqa: T201 - what it is for
        )
    )
