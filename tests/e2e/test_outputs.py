"""Nights whose jobs give, or take, more than one small picture."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from nightkiln.dispatch.landing import FIRST_DECODED, SAMPLE_EVERY, Trust
from nightkiln.night import Outcome
from nightkiln.observers import JsonLines
from nightkiln.settings import Settings
from nightkiln.store.claims import request_stop
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.samples import INPUTS, text_to_image, write_catalog
from nightkiln.testing.waiting import until
from nightkiln.wiring import Request, chosen_catalog, run_batch
from tests.asking import ask as asked


async def night(folder: Path, store: Path, server: StandIn) -> Outcome:
    settings = Settings(store=str(store), worker_urls=(server.url,))
    with (folder / "events").open("w") as events:
        request = Request(chosen_catalog(folder), name="night")
        return await run_batch(request, settings, JsonLines(events))


def ask(store: Path, sql: str) -> list[tuple[Any, ...]]:
    return asked(Store.open(str(store)), sql)


def saver(kind: str, **inputs: Any) -> dict[str, Any]:
    made = {"images": ["6", 0], "filename_prefix": "x", **inputs}
    return {"class_type": kind, "inputs": made, "_meta": {"title": kind}}


async def test_every_image_of_every_output_node_is_kept(tmp_path: Path) -> None:
    graph = text_to_image()
    graph["4"]["inputs"]["batch_size"] = 3
    graph["8"] = saver("SaveImage")
    folder, store = write_catalog(tmp_path / "c", 2, graph=graph), tmp_path / "store"
    async with StandIn() as server:
        outcome = await night(folder, store, server)

    assert (outcome.done, outcome.outputs) == (2, 12)
    nodes = ask(store, "select node, count(*) from outputs group by 1 order by 1")
    assert nodes == [("7", 6), ("8", 6)]
    assert ask(store, "select count(distinct uri) from outputs") == [(12,)]


async def test_videos_and_animations_are_carried_as_files(tmp_path: Path) -> None:
    graph = text_to_image()
    graph["7"] = saver("SaveWEBM", codec="vp9", fps=24.0, crf=32.0)
    graph["8"] = saver("SaveAnimatedWEBP", fps=6.0, lossless=True, quality=80, method="default")
    folder, store = write_catalog(tmp_path / "c", 1, graph=graph), tmp_path / "store"
    async with StandIn() as server:
        outcome = await night(folder, store, server)

    assert outcome.exit_code == 0
    found = ask(
        store, "select media, uri like '%.webm' or uri like '%.webp' from outputs order by 1"
    )
    assert found == [("image/webp", True), ("video/webm", True)]


async def test_input_files_are_uploaded_and_decide_the_job(tmp_path: Path) -> None:
    for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200)), ("copy", (200, 0, 0))):
        picture = Image.new("RGB", (16, 16), colour)
        picture.putpixel((3, 3), (255, 255, 255))
        (tmp_path / "c").mkdir(exist_ok=True)
        picture.save(tmp_path / "c" / f"{name}.png")
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": ""}, "_meta": {"title": "Load Image"}},
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "x"},
            "_meta": {"title": "Save"},
        },
    }
    inputs: Mapping[str, Any] = {"image": {"to": "Load Image.image", "kind": "file"}}
    rows = [{"id": name, "image": f"{name}.png"} for name in ("red", "blue", "copy")]
    folder = write_catalog(tmp_path / "c", rows, graph=graph, inputs=dict(inputs))
    store = tmp_path / "store"
    async with StandIn() as server:
        outcome = await night(folder, store, server)

    assert (outcome.exit_code, outcome.total, outcome.done) == (0, 2, 2)
    [(rows_of_red,)] = ask(store, "select rows from jobs where len(rows) > 1")
    assert rows_of_red == [0, 2]
    digests = {
        hashlib.sha256((tmp_path / "c" / f"{n}.png").read_bytes()).hexdigest()
        for n in ("red", "blue")
    }
    assert {value for (value,) in ask(store, "select image from jobs")} == digests


async def test_a_stop_request_in_the_store_reaches_the_run(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "c", 60), tmp_path / "store"
    async with StandIn(render_s=0.1) as server:
        running = asyncio.create_task(night(folder, store, server))
        await until(lambda: len(server.renders) >= 3)
        asked = request_stop(
            Store.open(str(store)).blobs, "night", now=False, requested_s=time.time()
        )
        outcome = await running

    assert asked is not None
    assert outcome.exit_code == 3
    assert 3 <= outcome.done < 60
    assert "nightkiln stop" in str(outcome.stop_reason)


async def test_variants_are_jobs_with_seeds_of_their_own(tmp_path: Path) -> None:
    folder = write_catalog(tmp_path / "c", 3, variants={"seeds": 2}, inputs=dict(INPUTS))
    store = tmp_path / "store"
    async with StandIn() as server:
        outcome = await night(folder, store, server)

    assert outcome.done == 6
    assert ask(store, "select count(distinct seed) from jobs") == [(6,)]


async def test_a_sampled_batch_still_decodes_the_first_images(tmp_path: Path) -> None:
    folder = write_catalog(tmp_path / "c", 12, verify={"decode": "sample"})
    store = tmp_path / "store"
    async with StandIn(faults=("blank@2",)) as server:
        outcome = await night(folder, store, server)

    assert outcome.exit_code == 0
    [(errors,)] = ask(store, "select count(*) from attempts where error like '%one colour%'")
    assert errors == 1


def test_trust_looks_closely_at_first_then_now_and_then_and_again_after_a_fault() -> None:
    trust = Trust()

    first = [trust.looks_closely() for _ in range(FIRST_DECODED)]
    later = [trust.looks_closely() for _ in range(SAMPLE_EVERY)]
    trust.shaken()
    again = [trust.looks_closely() for _ in range(FIRST_DECODED)]

    assert all(first)
    assert later.count(True) == 1
    assert all(again)
