"""A batch with pictures in a store, to look at: prompts with several seeds, failures, costs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice

from nightkiln.core.model import (
    Attempt,
    CatalogRow,
    Cost,
    Fault,
    Job,
    Lease,
    LeaseEnd,
    LeaseId,
    Offer,
    OutputFacts,
    Settled,
    Value,
)
from nightkiln.store.claim import acquire
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.processes import this_process
from nightkiln.store.records import BatchStart, write_batch_start, write_lease_end
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import Store
from nightkiln.testing.comfyui.pictures import Painter
from nightkiln.testing.settled import BATCH, done, failed

SEEDS = 4  # of each prompt
FAILS_EVERY, FAILS_AT = 41, 5
SHARD_ROWS = 1000
SIZES = ((256, 256), (256, 160), (160, 256))  # pixels
SUBJECTS = (
    "a fox in the snow",
    "a lighthouse in a storm",
    "an old harbour in thick oil, a low sun behind the masts and gulls over the water",
    "a bowl of lemons on a blue cloth",
    "a heron among reeds",
)
LIGHTS = ("dawn", "noon", "dusk", "night")
ERRORS = (
    (Fault.JOB, "the graph was refused: node 5 KSampler: cfg is out of range"),
    (Fault.MACHINE, "CUDA out of memory: 23.4 of 24 GB are in use"),
    (Fault.UNKNOWN, "output rejected: PNG checksum differs in chunk b'IDAT' at byte 1348"),
)
_MACHINES = (("local", "kiln-1.example", "RTX 3090"), ("vast", "kiln-2.example", "RTX 4090"))
_TYPES = {"challenge": "BIGINT"}
_BEGAN_S = 1_770_000_000.0


@dataclass(frozen=True, slots=True)
class Pictured:
    """What the batch is like. ``stranger`` is added to everything that others write.

    ``drawn``: only so many pictures are drawn, and every further file is a second name of one of
    them. Its row claims another sha256, so nobody who reads the rows can tell. (For figures: the
    work is that of as many pictures as there are jobs, the room on the disk is not.)
    """

    jobs: int
    size_mb: float = 0.0  # of each picture; 0: small
    drawn: int | None = None
    stranger: str = ""


def write_pictured(store: Store, wanted: Pictured) -> None:
    """Put the batch ``night`` into the store, as a run that has ended leaves it."""
    acquire(store.blobs, BATCH.batch, now_s=_BEGAN_S)
    columns = {
        name: _TYPES.get(name, "VARCHAR") for name in _job(0, wanted.stranger).rows[0].columns
    }
    start = BatchStart(BATCH, "c" * 64, this_process(), _BEGAN_S, wanted.jobs, "0", columns, {})
    write_batch_start(store.blobs, start)
    settled = _settled(store, wanted)
    number = 0
    while some := list(islice(settled, SHARD_ROWS)):
        key = shard_key(BATCH, number)
        create_or_same(store.blobs, key, parquet_bytes(rows_table(some, BATCH, key)))
        number += 1
    for place, (provider, host, gpu) in enumerate(_MACHINES):
        lease = Lease(_lease(place), Offer(provider, f"offer-{place}", gpu=gpu), host=host)
        cost = Cost(Decimal("0.0004") * place * wanted.jobs)
        end = LeaseEnd(
            lease, _BEGAN_S, _BEGAN_S + 60, _BEGAN_S + 3600, "done", 1, 0, 9.0, cost=cost
        )
        write_lease_end(store.blobs, BATCH, end)
    store.refresh_views()


def _settled(store: Store, wanted: Pictured) -> Iterator[Settled]:
    painter = Painter(wanted.size_mb)
    for number in range(wanted.jobs):
        job = _job(number, wanted.stranger)
        if number % FAILS_EVERY == FAILS_AT:
            yield _failed(number, job, wanted.stranger)
        else:
            yield _done(store, painter, number, job, wanted)


def _job(number: int, stranger: str) -> Job:
    row = number // SEEDS
    subject = SUBJECTS[row % len(SUBJECTS)]
    light = LIGHTS[row // len(SUBJECTS) % len(LIGHTS)]
    seed = number * 7919 + (2**63 if number % 7 == 0 else 0)  # some are too large for JavaScript
    values: dict[str, Value] = {
        "prompt": f"{subject}, {light}, no. {row}{stranger}",
        "negative": f"blurry, watermark{stranger}",
        "seed": seed,
        "steps": 20,
        f"sampler{stranger}": f"euler{stranger}",
    }
    columns = {
        f"subject{stranger}": f"{subject}{stranger}",
        "light": light,
        "challenge": row % 29,
        "id": f"row-{row:05d}",
    }
    return Job(done(number).job.id, values, rows=(CatalogRow(row, columns),))


def _done(store: Store, painter: Painter, number: int, job: Job, wanted: Pictured) -> Settled:
    usual = done(number)
    width, height = SIZES[number // SEEDS % len(SIZES)]
    if wanted.drawn is None:
        data = b"".join(painter.png(f"picture {number}", (width, height)))
        sha256, size = hashlib.sha256(data).hexdigest(), len(data)
        key = _key(job, sha256)
        store.blobs.put(key, data)
    else:
        sha256 = hashlib.sha256(f"picture {number}".encode()).hexdigest()
        key = _key(job, sha256)
        size = _named_again(store, painter, key, f"{number % wanted.drawn}-{width}x{height}.png")
    facts = OutputFacts(sha256, size, "image/png", "png", width, height, "decoded")
    output = replace(usual.outputs[0], uri=key, facts=facts)
    tries = (_attempt(number, usual.attempts[0], wanted.stranger),)
    return replace(usual, job=job, outputs=(output,), attempts=tries, finished_s=_BEGAN_S + number)


def _key(job: Job, sha256: str) -> str:
    return f"images/{BATCH.batch}/{job.id[:2]}/{job.id}-0-{sha256[:8]}.png"


def _named_again(store: Store, painter: Painter, key: str, name: str) -> int:
    """Give the picture ``name`` a further name; its bytes."""
    original = store.staging / name
    if not original.is_file():
        store.prepare(now_s=_BEGAN_S)
        original.write_bytes(b"".join(painter.png(name, SIZES[0])))
    path = store.root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.hardlink_to(original)
    return original.stat().st_size


def _failed(number: int, job: Job, stranger: str) -> Settled:
    usual = failed(number)
    fault, error = ERRORS[number % len(ERRORS)]
    error += stranger
    one = replace(_attempt(number, usual.attempts[0], stranger), fault=fault, error=error)
    tries = (one, replace(one, id=type(one.id)(f"{one.id}-again")))
    return replace(
        usual,
        job=job,
        fault=fault,
        error=error,
        attempts=tries,
        finished_s=_BEGAN_S + number,
    )


def _attempt(number: int, usual: Attempt, stranger: str) -> Attempt:
    place = int(number % 3 > 0)
    provider, host, gpu = _MACHINES[place]
    return replace(
        usual,
        lease_id=_lease(place),
        provider=provider,
        host=host + stranger,
        gpu=gpu + stranger,
        gpu_s=2.0 + number % 9 / 3,
    )


def _lease(place: int) -> LeaseId:
    return LeaseId(f"{BATCH.batch}-1-lease-{place:03d}")
