"""Nights whose containers on Modal post their results into a bucket: real SDK, app and S3."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nightkiln.catalog import load_catalog
from nightkiln.night import ALL_DONE
from nightkiln.places import modal_terms
from nightkiln.providers.modal.deploying import deploy_of
from nightkiln.testing.modal import FakeModal
from nightkiln.testing.modal.service import Service
from nightkiln.testing.s3_proxy import Asked, S3Proxy, Way, s3_proxy
from nightkiln.testing.s3_server import BUCKET, S3Server
from nightkiln.testing.waiting import until
from nightkiln.wiring import open_store
from tests.adapters.modal_world import Behind, a_modal, deployed
from tests.docs.shown import ROOT
from tests.e2e.test_modal_night import Batch

pytestmark = pytest.mark.s3

JOBS = 4
LARGE_BYTES = 2_500  # a form with a picture of the stand-in; one that is only tried has less
APP_S_MAX = 60.0
# A run in a process of its own, to be killed.
CHILD = """
import asyncio, json, sys
from pathlib import Path
from tests.e2e.test_modal_night import Batch
asyncio.run(Batch(Path(sys.argv[1])).run(**json.loads(sys.argv[2])))
"""


@dataclass
class Night:
    """A batch whose results go into a bucket, by way of the proxy."""

    modal: FakeModal
    proxy: S3Proxy
    batch: Batch
    more: dict[str, Any]

    @property
    def posts(self) -> list[Asked]:
        return [one for one in self.proxy.asked if one.method == "POST" and one.size > LARGE_BYTES]

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with open_store(self.batch.settings(**self.more)).connect() as con:
            return con.execute(sql).fetchall()

    @property
    def incoming(self) -> list[str]:
        return list(open_store(self.batch.settings(**self.more)).blobs.list("incoming/"))

    def left(self) -> bytes:
        """Everything that was written down on this computer, or told."""
        files = [path for path in self.batch.folder.rglob("*") if path.is_file()]
        return b"".join(path.read_bytes() for path in files) + self.batch.heard.getvalue().encode()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeModal]:
    first = Batch(tmp_path_factory.mktemp("first"))
    first.write()
    with a_modal(behind=Behind()) as modal:
        environment = load_catalog(first.folder / "catalog").environment
        deployed(modal, environment, modal_terms(first.settings()))
        yield modal


@pytest.fixture
def night(served: FakeModal, s3: S3Server, tmp_path: Path) -> Iterator[Night]:
    batch = Batch(tmp_path, JOBS)
    batch.write()
    with s3_proxy(s3) as proxy:
        more = {
            "store": f"s3://{BUCKET}/nights/{uuid.uuid4().hex}",
            "upload": "direct",
            "s3_endpoint_url": proxy.url,
            "s3_region": "us-east-1",
            "s3_access_key_id": s3.access.access_key_id,
            "s3_secret_access_key": s3.access.secret_access_key,
        }
        yield Night(served, proxy, batch, more)


def take_containers_away(service: Service) -> int:
    """As Modal does when it needs them: those that work on something; how many."""
    working = [one for one in service.pools.containers if one.item is not None]
    for container in working:
        container.end()
    return len(working)


async def test_a_night_whose_containers_post_their_results_is_whole_and_none_passes_here(
    night: Night,
) -> None:
    outcome = await night.batch.run(**night.more)

    assert outcome.exit_code == ALL_DONE, night.batch.heard.getvalue()
    assert night.ask("select count(*), count(distinct job_id) from outputs") == [(JOBS, JOBS)]
    assert len(night.posts) == JOBS
    sent = [one for one in night.proxy.asked if one.method == "PUT" and "/images/" in one.path]
    assert {one.size for one in sent} == {0}, "the store has copied them by itself"
    assert night.batch.events("warning") == []
    await until(lambda: night.incoming == [])
    everything = night.left()
    for secret in (b"x-amz-signature", b"X-Amz-Signature", b"eyJleHBpcmF0aW9uIj"):
        assert secret not in everything, "a form was written down"


async def test_a_container_that_is_taken_away_when_it_has_posted_posts_again_and_it_counts_once(
    night: Night,
) -> None:
    taken: list[int] = []

    def after(asked: Asked) -> None:
        if not taken and asked.method == "POST" and asked.size > LARGE_BYTES:
            taken.append(night.modal._ask(take_containers_away))  # before it hears the answer

    night.proxy.after = after
    outcome = await night.batch.run(**night.more)

    assert outcome.exit_code == ALL_DONE, night.batch.heard.getvalue()
    assert taken
    assert taken[0] > 0
    assert len(night.posts) > JOBS
    assert night.ask("select count(*), count(distinct job_id) from outputs") == [(JOBS, JOBS)]
    assert night.ask("select count(*) from attempts") == [(JOBS,)]
    await until(lambda: night.incoming == [])


async def test_what_was_posted_when_a_run_is_killed_is_taken_by_the_next_one_and_not_rendered_again(
    night: Night,
) -> None:
    started = asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, str(night.batch.folder), json.dumps(night.more))
    )
    child = await started

    def before(asked: Asked) -> Way | None:
        is_set_aside = asked.method == "PUT" and asked.path.endswith("/0")
        if not is_set_aside or child.returncode is not None:
            return None
        child.kill()
        return Way.DROPPED

    night.proxy.before = before
    await child.wait()
    night.proxy.before = lambda _: None

    outcome = await night.batch.run(**night.more)

    assert outcome.exit_code == ALL_DONE, night.batch.heard.getvalue()
    [told] = night.batch.events("planned")
    assert told["recalled"] > 0
    assert len(night.posts) == JOBS, "each was rendered and posted once"
    assert night.ask("select count(*), count(distinct job_id) from outputs") == [(JOBS, JOBS)]
    await until(lambda: night.incoming == [])


async def test_the_results_of_an_app_of_an_older_version_come_through_here_and_that_is_said_once(
    night: Night, tmp_path: Path
) -> None:
    """It is today's app with yesterday's number: what it is not told to do it does not do."""
    old = tmp_path / "old"
    shutil.copytree(ROOT / "workers", old / "workers")
    plan = old / "workers" / "modal_plan.py"
    today = plan.read_text()
    plan.write_text(today.replace("CONTRACT = 2 ", "CONTRACT = 1 "))
    assert plan.read_text() != today
    with a_modal(behind=Behind()) as modal:
        environment = load_catalog(night.batch.folder / "catalog").environment
        terms = modal_terms(night.batch.settings())
        deploy = deploy_of(environment, terms, commit="c0ffee")
        words = ["deploy", "-m", "workers.modal_app", "--name", terms.app]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "modal", *words),
            env={**environ_of(modal), "NK_PLAN": json.dumps(deploy.plan), "PYTHONPATH": str(old)},
            cwd=old,
        )
        async with asyncio.timeout(APP_S_MAX):
            assert await process.wait() == 0

        outcome = await night.batch.run(**night.more)

    assert outcome.exit_code == ALL_DONE, night.batch.heard.getvalue()
    assert night.posts == []
    assert night.ask("select distinct verified from outputs") == [("decoded",)]
    [told] = night.batch.events("warning")
    assert "nightkiln modal deploy" in told["message"]


def environ_of(modal: FakeModal) -> dict[str, str]:
    """For a command that speaks to that fake."""
    return {**os.environ, **modal.env()}
