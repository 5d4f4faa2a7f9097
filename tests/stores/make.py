"""``python -m tests.stores.make``: keep a small store as the writer of today leaves it.

One is kept of every schema version, so that no later one forgets to read it. Make it when the
version is raised, with the last commit that still wrote the old one.
"""

from __future__ import annotations

import tarfile
import tempfile
from decimal import Decimal
from pathlib import Path

from nightkiln.core.model import Cost, Lease, LeaseEnd, LeaseId, Offer
from nightkiln.ports.provider import Charge
from nightkiln.store.charges import write_charge
from nightkiln.store.claim import acquire
from nightkiln.store.claims import write_ended
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.processes import Process
from nightkiln.store.records import (
    BatchEnd,
    BatchStart,
    write_batch_end,
    write_batch_start,
    write_lease_end,
)
from nightkiln.store.rows import SCHEMA_VERSION, parquet_bytes, rows_table
from nightkiln.store.showing import DATABASE
from nightkiln.store.store import Store
from nightkiln.testing.settled import BATCH, done, failed, picture

STORES = Path(__file__).parent
SHARDS = ((done(1), failed(2), done(3)), (done(4),))
STARTED_S = 1_770_000_000.0


def fill(store: Store) -> None:
    """One night on one machine: three jobs done, one failed, a bill."""
    acquire(store.blobs, BATCH.batch, now_s=STARTED_S)
    process = Process("kiln.example", 42, "", "")
    columns = {"category": "VARCHAR", "challenge": "BIGINT"}
    params = {"prompt": "VARCHAR", "steps": "BIGINT"}
    start = BatchStart(BATCH, "c" * 64, process, STARTED_S, 4, "0", columns, params)
    write_batch_start(store.blobs, start)
    for number, settled in enumerate(SHARDS):
        for one in settled:
            for output in one.outputs:
                store.blobs.put(output.uri, picture(int(one.job.values["seed"])))
        key = shard_key(BATCH, number)
        create_or_same(store.blobs, key, parquet_bytes(rows_table(settled, BATCH, key)))
    lease = Lease(LeaseId("night-1-lease"), Offer("local", "4711", usd_per_hour=Decimal("0.4")))
    end = LeaseEnd(lease, 1.0, 2.0, 3.0, "done", 3, 1, busy_s=8.0, cost=Cost(Decimal("0.9")))
    write_lease_end(store.blobs, BATCH, end)
    nothing = Decimal(0)
    charge = Charge(lease.id, Decimal("0.9"), nothing, nothing, nothing)
    write_charge(store.blobs, charge, provider="local", date=BATCH.date, read_s=STARTED_S + 9000)
    write_batch_end(store.blobs, start, BatchEnd(STARTED_S + 200, 3, 0, 1, 1))
    write_ended(store.blobs, BATCH.batch, BATCH.epoch, {"exit_code": 1})


def main() -> None:
    """Write ``schema-<version>.tar.gz`` beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(f"{folder}/store", create=True)
        fill(store)
        with tarfile.open(STORES / f"schema-{SCHEMA_VERSION}.tar.gz", "w:gz") as archive:
            for path in sorted(store.root.rglob("*")):
                # The database holds absolute paths, and a megabyte; it is made anew.
                if path.is_file() and path.name != DATABASE and ".tmp" not in path.parts:
                    archive.add(path, str(path.relative_to(store.root)))


if __name__ == "__main__":
    main()
