"""Results that were posted with a form before anybody asked: what counts of them, what does not.

The container's half is the app's own, ``workers/modal_bringing``; the server is a real one.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from nightkiln.blobs.s3 import S3Blobs
from nightkiln.blobs.s3_client import S3Limits
from nightkiln.blobs.s3_place import S3Place
from nightkiln.cli.doctor import _store
from nightkiln.core.errors import BadOutput, RenderFailed, StoreUnusable
from nightkiln.core.model import AttemptId, BoundJob, JobId, Output, Ticket, Timings
from nightkiln.dispatch.landing import UPLOADS_FAILED_MAX, Fetched, Landing, Trust, VerifyRules
from nightkiln.ports.uploads import INCOMING, Form, Forms, Posted, Weighed
from nightkiln.ports.worker import Rendered, Worker
from nightkiln.providers.modal.worker import Delivered
from nightkiln.settings import load_settings
from nightkiln.testing.s3_proxy import Fault, S3Proxy, Way, s3_proxy
from nightkiln.testing.s3_server import BUCKET, S3Server
from nightkiln.testing.waiting import until
from tests.adapters.test_direct import picture
from workers.modal_bringing import bring

pytestmark = pytest.mark.s3

JOB = BoundJob(JobId("a" * 64), {}, outputs_expected=1)
ID = AttemptId("night-1-1")
HURRIED = S3Limits(pause_s=0.01, pause_s_max=0.05, answer_s=5.0, tries=5)
PICTURE, OTHER = picture(), picture(seed=2)


@dataclass
class Container:
    """A worker that posts what it has made before its call is over, as the app does, or lies."""

    content: bytes = PICTURE
    posts: bytes | None = None  # something else
    says: Weighed | None = None  # something else
    no_forms: str = ""
    is_late: bool = False  # it posts when nobody waits any more
    forms: list[Form] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    gpu: str = "L40S"
    loading_s: float = 0.0

    async def submit(self, job: BoundJob, attempt_id: AttemptId) -> Ticket:
        async def none(expires_s: float) -> Sequence[Form]:
            del expires_s
            return ()

        return await self.submit_with(job, attempt_id, none)

    async def submit_with(self, job: BoundJob, attempt_id: AttemptId, forms: Forms) -> Ticket:
        del job
        self.forms = list(await forms(60.0))
        content = self.posts if self.posts is not None else self.content
        told = [{"url": form.url, "fields": dict(form.fields)} for form in self.forms]
        until_s = time.time() + (-1.0 if self.is_late else 60.0)
        made = [{"content": content, "filename": "a.png"}]
        self.files = await asyncio.to_thread(bring, made, told, until_s=until_s)
        return Ticket(attempt_id)

    async def result(self, ticket: Ticket) -> Rendered:
        del ticket
        [file] = self.files
        if "posted" in file:
            told = file["posted"]
            weighed = Weighed(told["size"], told["sha256"])
            posted: Posted | str = Posted(
                told["number"], self.says if self.says is not None else weighed
            )
        else:
            posted = file.get("not_posted", "it had no form")
        return Rendered([Delivered("9", posted, file["content"])], Timings(0.0, 1.0, 1.0))

    async def cancel(self, ticket: Ticket) -> None:
        """It is over."""

    async def forget(self, ticket: Ticket) -> None:
        """It has."""


@dataclass
class Harbour:
    """A landing, and what it told people."""

    blobs: S3Blobs
    landing: Landing
    told: list[str] = field(default_factory=list)

    async def warn(self, message: str) -> None:
        self.told.append(message)

    async def fetch(self, container: Container, trust: Trust) -> list[Fetched]:
        worker: Worker = container
        ticket = await self.landing.submit(worker, JOB, ID, trust)
        return await self.landing.fetch(JOB, await worker.result(ticket), ID, trust)

    async def keep(self, container: Container, trust: Trust) -> Output:
        [output] = await self.landing.keep(JOB.id, await self.fetch(container, trust))
        return output

    @property
    def incoming(self) -> list[str]:
        return list(self.blobs.list(INCOMING))


@pytest.fixture(scope="module")
def proxies(s3: S3Server) -> Iterator[S3Proxy]:
    with s3_proxy(s3) as running:
        yield running


@pytest.fixture
def proxy(proxies: S3Proxy) -> Iterator[S3Proxy]:
    proxies.asked.clear()
    yield proxies
    proxies.faults.clear()


@pytest.fixture
def harbour(s3: S3Server, proxy: S3Proxy, tmp_path: Path) -> Iterator[Harbour]:
    place = S3Place(BUCKET, f"forms/{uuid.uuid4().hex}")
    blobs = S3Blobs(place, replace(s3.access, endpoint_url=proxy.url), limits=HURRIED)
    landing = Landing(blobs, tmp_path, "night", VerifyRules())
    landing.let_bring(blobs.uploads)
    assert landing.direct is not None
    landing.direct.secret = b"draws nothing 0"
    harbour = Harbour(blobs, landing)
    landing.warn = harbour.warn
    yield harbour
    proxy.faults.clear()
    landing.direct._askers.shutdown()  # what is dropped is dropped by now


def trusted() -> Trust:
    """A lease whose next results are not among those that are decoded."""
    return Trust(close_looks=0)


async def test_what_was_posted_is_kept_and_never_passes_here(
    harbour: Harbour, proxy: S3Proxy
) -> None:
    container = Container()

    output = await harbour.keep(container, trusted())

    assert container.files[0]["content"] is None, "nor does it come with the reply"
    assert harbour.blobs.get(output.uri) == PICTURE
    assert (output.facts.width, output.facts.verified) == (256, "checksum")
    large = [one.method for one in proxy.asked if one.size > len(PICTURE) / 2]
    assert large == ["POST"], "the container's own"
    await until(lambda: harbour.incoming == [])
    assert harbour.told == []


async def test_of_a_fresh_lease_it_is_decoded_as_it_lies_in_the_store(harbour: Harbour) -> None:
    output = await harbour.keep(Container(), Trust())

    assert output.facts.verified == "decoded"


async def test_who_posts_other_bytes_than_he_says_has_made_nothing(harbour: Harbour) -> None:
    said = Weighed(len(PICTURE), hashlib.sha256(PICTURE).hexdigest())

    with pytest.raises(RenderFailed) as refused:
        await harbour.fetch(Container(posts=OTHER, says=said), trusted())

    assert refused.value.kind == "not_posted"
    await until(lambda: harbour.incoming == [])
    assert len(harbour.told) == 1


async def test_what_was_posted_and_is_no_picture_is_refused_and_removed(harbour: Harbour) -> None:
    with pytest.raises(BadOutput) as refused:
        await harbour.fetch(Container(b"MZ this is a program" * 1000), trusted())

    assert refused.value.kind == "type"
    await until(lambda: harbour.incoming == [])


async def test_a_form_that_is_used_again_changes_nothing_that_was_looked_at(
    harbour: Harbour,
) -> None:
    container = Container()
    fetched = await harbour.fetch(container, trusted())
    again = [{"url": form.url, "fields": dict(form.fields)} for form in container.forms]

    [file] = bring([{"content": OTHER}], again, until_s=time.time() + 60.0)
    assert "posted" in file, "its life is not over yet"
    [output] = await harbour.landing.keep(JOB.id, fetched)

    assert harbour.blobs.get(output.uri) == PICTURE


@pytest.mark.parametrize("is_late", [False, True], ids=["expired form", "expired call"])
async def test_what_comes_too_late_comes_through_here_and_is_looked_at_whole(
    *, is_late: bool, harbour: Harbour
) -> None:
    assert harbour.landing.direct is not None
    [form] = await harbour.landing.direct.forms([f"{INCOMING}{ID}/0"], expires_s=1)
    old = [{"url": form.url, "fields": dict(form.fields)}]
    now_s = time.time()

    def brought() -> dict[str, Any]:
        [file] = bring([{"content": PICTURE}], old, until_s=now_s + (-1.0 if is_late else 60.0))
        return file

    await until(lambda: "not_posted" in brought())
    container = Container(files=[brought()])
    [kept] = await harbour.landing.fetch(JOB, await container.result(Ticket("")), ID, trusted())

    assert kept.facts.verified == "decoded"
    assert kept.path.read_bytes() == PICTURE


async def test_a_lease_whose_containers_cannot_post_is_soon_given_no_more_forms(
    harbour: Harbour,
) -> None:
    trust, container = trusted(), Container(is_late=True)

    for _ in range(UPLOADS_FAILED_MAX):
        assert (await harbour.keep(container, trust)).facts.verified == "decoded"
        assert container.forms != []
    await harbour.landing.submit(container, JOB, ID, trust)

    assert container.forms == []
    assert len(harbour.told) == 1


async def test_a_worker_that_takes_no_forms_gets_none_and_that_is_said_once(
    harbour: Harbour,
) -> None:
    container = Container(no_forms="it is too old")

    for _ in range(2):
        await harbour.landing.submit(container, JOB, ID, trusted())

    assert container.forms == []
    [told] = harbour.told
    assert "it is too old" in told


@pytest.mark.parametrize(
    ("way", "says"),
    [
        (Way.BELIEVES, "takes other bytes"),
        (Way.FORBIDDEN, "takes nothing that is posted"),
    ],
)
async def test_for_a_store_that_is_not_fit_for_forms_none_are_given_and_that_is_said_once(
    way: Way, says: str, harbour: Harbour, proxy: S3Proxy
) -> None:
    proxy.faults.append(Fault(way, "POST", times=1_000))
    container = Container()

    for _ in range(2):
        await harbour.landing.submit(container, JOB, ID, trusted())

    assert container.forms == []
    [told] = harbour.told
    assert says in told


async def test_where_the_store_does_not_say_what_has_come_it_waits_there(
    harbour: Harbour, proxy: S3Proxy
) -> None:
    container = Container()
    ticket = await harbour.landing.submit(container, JOB, ID, trusted())
    proxy.faults.append(Fault(Way.BUSY, "HEAD", times=1_000))

    with pytest.raises(StoreUnusable):
        await harbour.landing.fetch(JOB, await container.result(ticket), ID, trusted())

    proxy.faults.clear()
    [kept] = await harbour.landing.fetch(JOB, await container.result(ticket), ID, trusted())
    assert kept.facts.verified == "checksum"


@pytest.mark.parametrize("way", [Way.REFUSED, Way.DROPPED, Way.LOST])
async def test_a_store_that_does_not_take_it_once_gets_it_through_here(
    way: Way, harbour: Harbour, proxy: S3Proxy
) -> None:
    assert harbour.landing.direct is not None
    assert await harbour.landing.direct.form_objection() is None
    proxy.faults.append(Fault(way, "POST"))

    output = await harbour.keep(Container(), trusted())

    assert output.facts.verified == "decoded"
    assert harbour.blobs.get(output.uri) == PICTURE
    assert "http" not in harbour.told[0].partition("(")[0]


async def test_who_posts_no_sha256_is_believed_no_more(harbour: Harbour) -> None:
    """Whether the service takes that does not matter: it has computed another one, or none."""
    assert harbour.landing.direct is not None
    [form] = await harbour.landing.direct.forms([f"{INCOMING}{ID}/0"], expires_s=60)
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.post(form.url, data=dict(form.fields), files={"file": OTHER})
    said = Posted(0, Weighed(len(PICTURE), hashlib.sha256(PICTURE).hexdigest()))
    rendered = Rendered([Delivered("9", said, None)], Timings(0.0, 1.0, 1.0))

    with pytest.raises(RenderFailed):
        await harbour.landing.fetch(JOB, rendered, ID, trusted())


@pytest.mark.parametrize(("way", "is_good"), [(None, True), (Way.FORBIDDEN, None)])
def test_doctor_says_whether_containers_can_post(
    way: Way | None,
    is_good: bool | None,  # noqa: FBT001
    proxy: S3Proxy,
    tmp_path: Path,
) -> None:
    if way is not None:
        proxy.faults.append(Fault(way, "POST", times=1_000))
    settings = load_settings(
        store=f"s3://{BUCKET}/forms/{uuid.uuid4().hex}",
        state=str(tmp_path),
        upload="direct",
        s3_endpoint_url=proxy.url,
        s3_access_key_id=proxy.server.access.access_key_id,
        s3_secret_access_key=proxy.server.access.secret_access_key,
        modal_token_id="ak-1",  # noqa: S106 - of nobody
        modal_token_secret="as-1",  # noqa: S106 - of nobody
    )

    found = {one.what: one for one in _store(settings, None)}

    assert found["direct upload from Modal"].is_good is is_good


def test_a_form_is_in_no_text_that_anybody_could_print() -> None:
    assert "secret" not in repr(Form("http://bucket/secret", {"policy": "secret"}))
