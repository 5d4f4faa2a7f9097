"""A store in a bucket, on a real server on this computer: commits, images, and what queries fetch.

There is no network in between, so ratios to a bare client in the same run say more than values.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from nightkiln.blobs.s3 import S3Blobs
from nightkiln.blobs.s3_place import S3Access, S3Place
from nightkiln.blobs.spool import SpooledBlobs
from nightkiln.disk import OsDisk
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import Store
from nightkiln.testing.s3_proxy import s3_proxy
from nightkiln.testing.s3_server import BUCKET, S3Server, s3_server
from nightkiln.testing.settled import BATCH, done
from tests.benchmarks.child import in_child, measured, peak_mb
from tests.benchmarks.figure import Figure, at_least, at_most

WRITERS, ROWS = 4, 256
ROWS_PER_S_MIN = 15_000.0
IMAGE_BYTES, UPLOADS = 1_500_000, 8
OVER_BARE_MIN = 0.9
SPOOL_BYTES = 100_000_000
GROWTH_MB_MAX = 100.0  # of memory, for eight times as many images
BYTES_OVER_COLUMNS_MAX = 1.2
START_S = 10.0  # until four writers have loaded what they need
SEED = 6

COLUMNS = ("provider", "gpu", "gpu_seconds")
GROUPED = "select provider, gpu, sum(gpu_seconds) from read_parquet({}) group by 1, 2"


def figures(*, is_quick: bool) -> Iterator[Figure]:
    """Commits, images, queries."""
    with tempfile.TemporaryDirectory() as folder, s3_server(Path(folder)) as server:
        warm(server)
        place = {"url": server.url, "key": server.access.access_key_id}
        secret = {"secret": server.access.secret_access_key}
        yield from _commits(Path(folder), {**place, **secret}, commits=4 if is_quick else 40)
        yield from _images({**place, **secret}, count=24 if is_quick else 240)
        yield _queries(server, Path(folder), rows=20_000 if is_quick else 1_000_000)


def warm(server: S3Server) -> None:
    """The server lays its files out at the first writes."""
    blobs = S3Blobs(S3Place(BUCKET, "warm"), server.access)
    for number in range(WRITERS):
        blobs.create(f"{number}", b"x")


def access_of(url: str, key: str, secret: str) -> S3Access:
    """As it travels to a child."""
    return S3Access(endpoint_url=url, access_key_id=key, secret_access_key=secret)


def _commits(folder: Path, reached: dict[str, str], *, commits: int) -> Iterator[Figure]:
    places = {"folder": str(folder / "commits"), "s3": f"s3://{BUCKET}/commits"}
    for name, uri in places.items():
        Store.open(uri, create=True, s3=access_of(**reached), state=folder / "state")
        begin_s = time.time() + START_S
        asked = {"uri": uri, "commits": commits, "begin_s": begin_s, **reached}
        with ThreadPoolExecutor(WRITERS) as writers:
            told = list(
                writers.map(
                    lambda writer, asked=asked: in_child(__name__, "write", writer=writer, **asked),
                    range(WRITERS),
                )
            )
        wall_s = max(each["ended_s"] for each in told) - min(each["began_s"] for each in told)
        rows = WRITERS * commits * ROWS
        store = Store.open(uri, s3=access_of(**reached), state=folder / "state")
        with store.connect() as con:
            assert con.execute("select count(*) from jobs").fetchall() == [(rows,)]
        yield at_least(f"{name}_commit_rows_per_s", rows / wall_s, "rows/s", ROWS_PER_S_MIN)
        slowest_s = max(each["slowest_s"] for each in told)
        yield Figure(f"{name}_commit_slowest", 1000 * slowest_s, "ms")


def write(uri: str, commits: int, begin_s: float, writer: int, **reached: str) -> dict[str, float]:
    """One of several writers: rows made into shards, and committed."""
    with tempfile.TemporaryDirectory() as state:
        store = Store.open(uri, s3=access_of(**reached), state=Path(state))
        batch = replace(BATCH, batch=f"night-{writer}")
        settled = [done(number, batch=batch) for number in range(ROWS * commits)]
        store.blobs.size("warm")  # its client is made, and what makes rows is loaded
        parquet_bytes(rows_table(settled[:1], batch, "warm"))
        time.sleep(max(0.0, begin_s - time.time()))
        began_s, slowest_s = time.time(), 0.0
        for number in range(commits):
            with measured() as spent:
                key = shard_key(batch, number)
                some = settled[number * ROWS : (number + 1) * ROWS]
                create_or_same(store.blobs, key, parquet_bytes(rows_table(some, batch, key)))
            slowest_s = max(slowest_s, spent.wall_s)
    return {"began_s": began_s, "ended_s": time.time(), "slowest_s": slowest_s}


def _images(reached: dict[str, str], *, count: int) -> Iterator[Figure]:
    """Bare, ours, spooled, and bare again: the machine is not the same all the time."""
    ways = ("bare", "kiln", "spooled", "bare")
    told = [in_child(__name__, "put", way=way, count=count, **reached) for way in ways]
    bare_s = (told[0]["wall_s"] + told[3]["wall_s"]) / 2
    yield Figure("s3_images_bare", count / bare_s, "images/s")
    for way, each in zip(ways[1:3], told[1:3], strict=True):
        yield Figure(f"s3_images_{way}", count / each["wall_s"], "images/s")
        ratio = bare_s / each["wall_s"]
        yield at_least(f"s3_images_{way}_over_bare", ratio, "x", OVER_BARE_MIN)
        yield Figure(f"s3_images_{way}_cpu", 1000 * each["cpu_s"] / count, "ms/image")
    few = in_child(__name__, "put", way="spooled", count=count // 8, **reached)
    growth = told[2]["peak_mb"] - few["peak_mb"]
    yield at_most("s3_images_spooled_memory_growth", growth, "MB", GROWTH_MB_MAX)


def put(way: str, count: int, **reached: str) -> dict[str, float]:
    """Bring so many images into the bucket."""
    access, prefix = access_of(**reached), uuid.uuid4().hex
    body = random.Random(SEED).randbytes(IMAGE_BYTES)  # noqa: S311 - pixels, not secrets
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.png" for number in range(count)]
        for path in paths:
            path.write_bytes(body)
        bring = {"bare": bare, "kiln": kiln, "spooled": spooled}[way]
        with measured() as spent:
            bring(access, prefix, paths)
    return {"wall_s": spent.wall_s, "cpu_s": spent.cpu_s, "peak_mb": peak_mb()}


def bare(access: S3Access, prefix: str, paths: list[Path]) -> None:
    """What one writes with s3fs's client in a few minutes: so many at once, nothing checked."""
    from fsspec.asyn import sync

    files = access.file_system()

    async def all_of_them() -> None:
        turns, client = asyncio.Semaphore(UPLOADS), await files.set_session()

        async def one(path: Path) -> None:
            async with turns:
                content = await asyncio.to_thread(path.read_bytes)
                await client.put_object(Bucket=BUCKET, Key=f"{prefix}/{path.name}", Body=content)

        await asyncio.gather(*(one(path) for path in paths))

    sync(files.loop, all_of_them)


def kiln(access: S3Access, prefix: str, paths: list[Path]) -> None:
    """Straight into the store, as many at once."""
    blobs = S3Blobs(S3Place(BUCKET, prefix), access)
    with ThreadPoolExecutor(UPLOADS) as uploads:
        list(uploads.map(lambda path: blobs.put(f"images/{path.name}", path), paths))


def spooled(access: S3Access, prefix: str, paths: list[Path]) -> None:
    """Through the spool, as a run does it, until everything has arrived."""
    inner = S3Blobs(S3Place(BUCKET, prefix), access)
    folder = paths[0].parent / "spool"
    blobs = SpooledBlobs(inner, folder, disk=OsDisk(), bytes_max=SPOOL_BYTES)
    with ThreadPoolExecutor(UPLOADS) as uploads:
        list(uploads.map(lambda path: blobs.put(f"images/{path.name}", path), paths))
    blobs.flush()
    blobs.close()


def _queries(server: S3Server, folder: Path, *, rows: int) -> Figure:
    """Bytes that a group-by fetches, over those of the columns that it asks for."""
    with s3_proxy(server) as proxy:
        access = replace(server.access, endpoint_url=proxy.url)
        uri = f"s3://{BUCKET}/queries"
        store = Store.open(uri, create=True, s3=access, state=folder / "state")
        key = shard_key(BATCH, 0)
        store.blobs.create(key, parquet_bytes(many_rows(rows)))
        named = f"'{store.where(key)}'"
        with store.connect() as con:
            wanted = ", ".join(f"'{name}'" for name in COLUMNS)
            metadata = f"from parquet_metadata({named}) where path_in_schema in ({wanted})"
            [(size,)] = con.execute(f"select sum(total_compressed_size) {metadata}").fetchall()
        with store.connect() as con:
            before = proxy.bytes_out
            con.execute(GROUPED.format(named)).fetchall()
            fetched = proxy.bytes_out - before
    return at_most("s3_group_by_bytes_over_columns", fetched / size, "x", BYTES_OVER_COLUMNS_MAX)


def many_rows(rows: int) -> pa.Table:
    """A compacted file's worth of rows that do not compress better than real ones."""
    dice = random.Random(SEED)  # noqa: S311 - figures, not secrets
    like = rows_table([done(0)], BATCH, "key").take([0] * rows)
    values: dict[str, Callable[[int], Any]] = {
        "job_id": lambda n: hashlib.sha256(str(n).encode()).hexdigest(),
        "gpu_seconds": lambda _: dice.random(),
        "gpu": lambda _: dice.choice(("RTX 4090", "RTX 3090", "L40S")),
        "provider": lambda _: dice.choice(("vast", "modal")),
    }
    for name, value in values.items():
        at = like.schema.get_field_index(name)
        made = pa.array([value(n) for n in range(rows)], type=like.schema.field(name).type)
        like = like.set_column(at, like.schema.field(name), made)
    return like
