"""A machine that brings its pictures into an object store: real SSH, real curl, a real server."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from nightkiln.blobs.s3 import S3Blobs
from nightkiln.blobs.s3_place import S3Place
from nightkiln.dispatch.landing import Landing, Trust, VerifyRules
from nightkiln.machine.rendering import rendering
from nightkiln.machine.uploading import Uploadable
from nightkiln.ports.uploads import Arrived, CanUpload, Signed, Weighed
from nightkiln.ports.worker import Worker
from nightkiln.testing.s3_server import BUCKET, S3Server
from nightkiln.verify import inspect
from tests.machine.place import attempt, job, place

KEY = "incoming/night-1-0000001/0"
HIDDEN = ("X-Amz-Signature", "X-Amz-Credential")


@pytest.fixture
def blobs(s3: S3Server) -> S3Blobs:
    return S3Blobs(S3Place(BUCKET, f"machines/{uuid.uuid4().hex}"), s3.access)


async def asked_for(worker: Worker, blobs: S3Blobs) -> tuple[CanUpload, Weighed, Signed]:
    """A picture at its machine, what that says of it, and an address signed for just that."""
    [output] = (await worker.result(await worker.submit(job(), attempt()))).outputs
    assert isinstance(output, CanUpload)
    weighed = await output.weighed()
    assert weighed is not None
    return output, weighed, blobs.uploads.sign(KEY, weighed, expires_s=60)


@pytest.mark.s3
async def test_a_machine_weighs_its_picture_and_brings_it(blobs: S3Blobs, tmp_path: Path) -> None:
    async with place(tmp_path) as here, rendering(here.stay()) as worker:
        output, weighed, signed = await asked_for(worker, blobs)
        assert await output.upload(signed, within_s=60) == ""

        assert blobs.uploads.arrived(KEY) == Arrived(weighed.size, weighed.sha256)
        (tmp_path / "brought").write_bytes(blobs.get(KEY))
        assert inspect(tmp_path / "brought").media == "image/png"
        assert list((here.ours / "outgoing").iterdir()) == [], "it keeps no copy"
        log = b"".join(each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
        assert not any(word.encode() in log for word in HIDDEN)


@pytest.mark.s3
async def test_an_upload_that_is_cut_off_counts_if_it_has_come(
    blobs: S3Blobs, tmp_path: Path
) -> None:
    async with place(tmp_path) as here, rendering(here.stay()) as worker:
        output, weighed, signed = await asked_for(worker, blobs)

        assert await output.upload(signed, within_s=60) == ""
        again = await output.upload(signed, within_s=60)  # as after a cut: its copy is gone

        assert "curl ended with" in again
        assert blobs.uploads.arrived(KEY) == Arrived(weighed.size, weighed.sha256)


@pytest.mark.s3
async def test_a_connection_that_is_cut_meanwhile_is_mended_and_it_is_brought(
    blobs: S3Blobs, tmp_path: Path
) -> None:
    async with place(tmp_path) as here, rendering(here.stay()) as worker:
        rendered = await worker.result(await worker.submit(job(), attempt()))
        landing = Landing(blobs, tmp_path, "night", VerifyRules())
        landing.let_bring(blobs.uploads)

        here.road.cut_after_bytes = 100
        [fetched] = await landing.fetch(job(), rendered, attempt(), Trust(close_looks=0))

        assert ("connection", {"state": "cut"}) in here.told
        assert fetched.brought == KEY


@pytest.mark.s3
async def test_a_machine_without_a_way_to_the_store_says_how_its_curl_ended(
    blobs: S3Blobs, tmp_path: Path
) -> None:
    async with place(tmp_path) as here, rendering(here.stay()) as worker:
        output, _, signed = await asked_for(worker, blobs)

        nowhere = replace(signed, url="http://127.0.0.1:9/" + signed.url.partition("9/")[2])
        said = await output.upload(nowhere, within_s=60)

        assert said.startswith("its curl ended with ")


async def test_a_file_that_is_gone_is_not_weighed(tmp_path: Path) -> None:
    async with place(tmp_path) as here, rendering(here.stay()) as worker:
        [output] = (await worker.result(await worker.submit(job(), attempt()))).outputs
        assert isinstance(output, Uploadable)
        strange = replace(output.file.name, filename="$(touch ~/owned)'\";`touch ~/owned` \n.png")

        gone = replace(output, file=replace(output.file, name=strange))

        assert await gone.weighed() is None
        assert not (here.body.home / "owned").exists()
