"""How large a store is, and how its rows lie."""

from __future__ import annotations

from dataclasses import dataclass

from nightkiln.store.compacting import waiting
from nightkiln.store.manifest import newest_manifest, shard_of
from nightkiln.store.store import Store


@dataclass(frozen=True, slots=True)
class Stats:
    """A store in numbers. Bytes of images are those that rows tell of."""

    batches: int
    jobs: int
    jobs_done: int
    jobs_reused: int
    jobs_failed: int
    images: int
    images_bytes: int
    leases: int
    usd: float
    shards: int  # not compacted yet
    shards_bytes: int
    compact_files: int
    compact_rows: int
    compact_bytes: int
    manifest: int
    replaced_files: int  # to be removed when their grace is over


_JOBS = """
    select
        count(distinct batch), count(*),
        count(*) filter (status = 'done'),
        count(*) filter (status = 'reused'),
        count(*) filter (status = 'failed')
    from jobs
"""
_IMAGES = "select count(*), coalesce(sum(bytes), 0) from outputs where status = 'done'"
_LEASES = "select count(*), coalesce(sum(usd), 0) from leases"


def stats(store: Store) -> Stats:
    """Count. Blocking.

    Raises:
        StoreUnusable: the store cannot be read.
    """
    manifest = newest_manifest(store.blobs)
    fresh = [
        entry.size
        for entry in store.blobs.entries("results/")
        if (shard := shard_of(entry.key)) is not None and not manifest.replaces(shard)
    ]
    with store.connect("jobs", "outputs") as con:
        [jobs] = con.execute(_JOBS).fetchall()
        [images] = con.execute(_IMAGES).fetchall()
        [(leases, usd)] = con.execute(_LEASES).fetchall()
    return Stats(
        batches=jobs[0],
        jobs=jobs[1],
        jobs_done=jobs[2],
        jobs_reused=jobs[3],
        jobs_failed=jobs[4],
        images=images[0],
        images_bytes=images[1],
        leases=leases,
        usd=float(usd),
        shards=len(fresh),
        shards_bytes=sum(fresh),
        compact_files=len(manifest.files),
        compact_rows=sum(one.rows for one in manifest.files),
        compact_bytes=sum(one.bytes for one in manifest.files),
        manifest=manifest.number,
        replaced_files=len(waiting(store.blobs, manifest)),
    )
