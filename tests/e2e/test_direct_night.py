"""Nights whose machines bring their results into a bucket: real SDK, real SSH, curl, real S3."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightkiln.night import ALL_DONE
from nightkiln.testing.kills import KILLED, ended
from nightkiln.testing.s3_proxy import Asked, S3Proxy, Way, s3_proxy
from nightkiln.testing.s3_server import BUCKET, S3Server
from nightkiln.testing.vast_market.scene import VastScene
from nightkiln.wiring import open_store

pytestmark = pytest.mark.s3

JOBS = 12
LARGE_BYTES = 1_000  # a request that holds a picture of the stand-in


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[S3Proxy]:
    with s3_proxy(s3) as running:
        yield running


def scene_at(folder: Path, proxy: S3Proxy) -> VastScene:
    """A market whose runs keep their results in a bucket, by way of the proxy."""
    access = proxy.server.access
    more = {
        "upload": "direct",
        "s3_endpoint_url": proxy.url,
        "s3_region": "us-east-1",
        "s3_access_key_id": access.access_key_id,
        "s3_secret_access_key": access.secret_access_key,
    }
    store = f"s3://{BUCKET}/nights/{uuid.uuid4().hex}"
    return VastScene(folder, jobs=JOBS, store=store, more=more)


def told_by(scene: VastScene) -> dict[str, int]:
    """How many results were looked at how closely."""
    with open_store(scene.controller.settings).connect() as con:
        return dict(con.execute("select verified, count(*) from outputs group by 1").fetchall())


def left_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_night_whose_machines_bring_their_results_is_whole(
    proxy: S3Proxy, tmp_path: Path
) -> None:
    async with scene_at(tmp_path, proxy) as scene:
        outcome = await scene.run()

        assert outcome.exit_code == ALL_DONE, scene.told()
        assert await scene.broken() == []
        assert sum(told_by(scene).values()) == JOBS
        brought = [one for one in proxy.asked if one.method == "PUT" and "X-Amz-Sig" in one.path]
        assert len(brought) >= JOBS, scene.told()
        sent = [one for one in proxy.asked if one.method == "PUT" and "/images/" in one.path]
        assert {one.size for one in sent} == {0}, "the store has copied them by itself"
        assert list(open_store(scene.controller.settings).blobs.list("incoming/")) == []
        everything = left_in(tmp_path) + scene.said.getvalue().encode()
        assert b"X-Amz-Signature" not in everything, "an address was written down"


@pytest.mark.parametrize(
    "is_after",
    [False, pytest.param(True, marks=pytest.mark.long)],
    ids=["before", "after"],
)
async def test_a_run_that_is_killed_between_an_upload_and_its_copy_loses_nothing(
    *, is_after: bool, proxy: S3Proxy, tmp_path: Path
) -> None:
    async with scene_at(tmp_path, proxy) as scene:
        process = scene.controller.start()

        def is_copy(asked: Asked) -> bool:
            return asked.method == "PUT" and "/images/" in asked.path

        def before(asked: Asked) -> Way | None:
            if is_after or not is_copy(asked):
                return None
            process.kill()
            return Way.DROPPED

        def after(asked: Asked) -> None:
            if is_after and is_copy(asked):
                process.kill()

        proxy.before, proxy.after = before, after
        status, said = await ended(process)
        assert status == KILLED, said
        proxy.before, proxy.after = (lambda _: None), (lambda _: None)

        outcome = await scene.run()

        assert outcome.exit_code == ALL_DONE, scene.told()
        assert await scene.broken() == []
