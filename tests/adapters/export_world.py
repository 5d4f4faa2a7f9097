"""Stores to export from, and what an export looks like from outside."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nightkiln.core.model import CatalogRow, Settled
from nightkiln.disk import Disk, OsDisk
from nightkiln.export.records import MANIFEST, SUMS
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.processes import Process
from nightkiln.store.records import BatchStart, write_batch_start
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import Store
from nightkiln.testing.mutants import NoFsyncDisk
from nightkiln.testing.settled import BATCH, done, failed

COLUMNS = {"category": "VARCHAR", "challenge": "BIGINT"}
PICTURES = 3  # more than one part, when a part holds two


def a_store(
    folder: Path, settled: Sequence[Settled] = (), *, columns: Mapping[str, str] = COLUMNS
) -> Store:
    """A store that holds these jobs and their files, else three pictures and a failure."""
    rows = settled or [*(done(number) for number in range(PICTURES)), failed(9)]
    store = Store.open(str(folder), disk=quick(), create=True)
    start = BatchStart(
        batch=BATCH,
        catalog_digest="c" * 64,
        process=Process("kiln.example", 42, "", ""),
        started_s=1_770_000_000.0,
        jobs_total=len(rows),
        version="0",
        columns=columns,
        params={"prompt": "VARCHAR", "steps": "BIGINT"},
    )
    write_batch_start(store.blobs, start)
    commit(store, rows)
    return store


def quick() -> Disk:
    """A disk for tests during which the power stays on: it need not really sync."""
    return NoFsyncDisk(OsDisk())


def commit(store: Store, rows: Sequence[Settled], number: int = 0) -> None:
    """The files of jobs that ``picture_of`` made, and then the jobs."""
    for settled in rows:
        for output in settled.outputs:
            store.blobs.put(output.uri, content(settled, output.index))
    key = shard_key(BATCH, number)
    create_or_same(store.blobs, key, parquet_bytes(rows_table(rows, BATCH, key)))


def content(settled: Settled, index: int) -> bytes:
    """What a file of a job holds: as ``nightkiln.testing.settled.picture`` has it."""
    number = settled.job.values["seed"]
    return f"picture {number} ".encode() * 20 + b"more " * index


def picture_of(
    number: int,
    *,
    values: Mapping[str, Any] | None = None,
    columns: Mapping[str, Any] | None = None,
    exts: Sequence[str] = ("png",),
) -> Settled:
    """Job ``number``, with as many outputs as extensions."""
    made = done(number)
    asked = replace(
        made.job,
        values={**made.job.values, **(values if values is not None else {})},
        rows=(CatalogRow(number, columns if columns is not None else {}),),
    )
    made = replace(made, job=asked)
    [first] = made.outputs
    outputs = []
    for index, ext in enumerate(exts):
        data = content(made, index)
        sha256 = hashlib.sha256(data).hexdigest()
        uri = f"images/{BATCH.batch}/{asked.id[:2]}/{asked.id}-{index}-{sha256[:8]}.{ext}"
        media = {"mp4": "video/mp4", "jpg": "image/jpeg"}.get(ext, "image/png")
        facts = replace(first.facts, sha256=sha256, size=len(data), media=media, ext=ext)
        outputs.append(replace(first, index=index, uri=uri, facts=facts))
    return replace(made, outputs=tuple(outputs))


def on_disk(store: Store, disk: Disk) -> Store:
    """The same store, as a process with another disk has it."""
    return Store.open(str(store.root), disk=disk)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones among them; empty folders as well."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def broken_sums(folder: Path) -> list[str]:
    """What is not as an export with a manifest says it is."""
    if not (folder / MANIFEST).exists():
        return []
    lines = (folder / SUMS).read_text().splitlines()
    named = {path: sha256 for sha256, _, path in (line.partition("  ") for line in lines)}
    return [
        path
        for path, sha256 in named.items()
        if not (folder / path).exists()
        or hashlib.sha256((folder / path).read_bytes()).hexdigest() != sha256
    ]
