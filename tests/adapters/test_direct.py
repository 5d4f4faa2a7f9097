"""Results that machines bring into the store by themselves: what counts of them, what does not."""

from __future__ import annotations

import hashlib
import io
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nightkiln.blobs import LocalBlobs
from nightkiln.blobs.s3 import S3Blobs
from nightkiln.blobs.s3_client import S3Limits
from nightkiln.blobs.s3_place import S3Place
from nightkiln.core.errors import BadInput, BadOutput, StoreUnusable
from nightkiln.core.model import AttemptId, BoundJob, JobId, Output, Timings
from nightkiln.dispatch.direct import DECODED_EVERY, Direct
from nightkiln.dispatch.landing import (
    UPLOADS_FAILED_MAX,
    Fetched,
    Landing,
    Trust,
    VerifyRules,
)
from nightkiln.glimpse import BEGINNING_BYTES, glimpse
from nightkiln.ports.uploads import INCOMING, Signed, Weighed
from nightkiln.ports.worker import Rendered
from nightkiln.store.collecting import OLDER_THAN_S_MIN, collect, collectable
from nightkiln.store.store import Store
from nightkiln.store.verifying import verify
from nightkiln.testing.s3_proxy import Fault, S3Proxy, Way, s3_proxy
from nightkiln.testing.s3_server import BUCKET, S3Server
from nightkiln.testing.waiting import until
from nightkiln.verify import BYTES_MAX

JOB = BoundJob(JobId("a" * 64), {})
HURRIED = S3Limits(pause_s=0.01, pause_s_max=0.05, answer_s=5.0, tries=5)


def picture(*, seed: int = 1, kind: str = "PNG") -> bytes:
    """One that does not pack well, so that it is larger than anything that is said about it."""
    noise = random.Random(seed).randbytes(3 * 256 * 256)  # noqa: S311
    file = io.BytesIO()
    Image.frombytes("RGB", (256, 256), noise).save(file, kind)
    return file.getvalue()


BLANK = io.BytesIO()
Image.new("RGB", (256, 256)).save(BLANK, "PNG")
DAMAGED = picture()[:100_000] + bytes(100) + picture()[100_100:]
OTHER = picture(seed=2)
FLIPPED = picture()[:-1] + b"?"  # as long as the first one


@dataclass
class Made:
    """A file at a machine that may lie about it."""

    content: bytes  # what whoever fetches it gets
    brings: bytes | None = None  # something else, to the store; b"": nothing
    is_silent: bool = False  # about what it has made
    node: str = "9"
    saved: int = 0
    signed: list[Signed] = field(default_factory=list)

    async def save(self, path: Path) -> None:
        self.saved += 1
        path.write_bytes(self.content)

    async def weighed(self) -> Weighed | None:
        if self.is_silent:
            return None
        return Weighed(len(self.content), hashlib.sha256(self.content).hexdigest())

    async def upload(self, signed: Signed, *, within_s: float) -> str:
        assert within_s > 0
        self.signed.append(signed)
        brings = self.content if self.brings is None else self.brings
        return "" if not brings or put(signed, brings) == httpx.codes.OK else "HTTP"


def put(signed: Signed, content: bytes) -> int:
    """What a machine's curl would be answered."""
    headers = {**signed.headers, "content-type": ""}
    return httpx.put(signed.url, content=content, headers=headers, trust_env=False).status_code


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[S3Proxy]:
    with s3_proxy(s3) as running:
        yield running


@pytest.fixture
def store(s3: S3Server, proxy: S3Proxy, tmp_path: Path) -> Store:
    """One that is ready for a run, seen through the proxy, like its signed addresses."""
    access = replace(s3.access, endpoint_url=proxy.url)
    uri = f"s3://{BUCKET}/direct/{uuid.uuid4().hex}"
    made = Store.open(uri, create=True, s3=access, state=tmp_path)
    made.prepare(now_s=0.0, is_direct=True)
    proxy.asked.clear()
    return made


@dataclass
class Harbour:
    """A landing, and what it told people."""

    landing: Landing
    told: list[str] = field(default_factory=list)

    async def warn(self, message: str) -> None:
        self.told.append(message)

    async def fetch(self, made: Made, trust: Trust, *, number: int = 1) -> list[Fetched]:
        rendered = Rendered([made], Timings(0.0, 1.0, 1.0))
        return await self.landing.fetch(JOB, rendered, AttemptId(f"night-1-{number}"), trust)

    async def keep(self, made: Made, trust: Trust, *, number: int = 1) -> Output:
        [output] = await self.landing.keep(JOB.id, await self.fetch(made, trust, number=number))
        return output


@pytest.fixture
def harbour(store: Store) -> Harbour:
    landing = Landing(store.blobs, store.staging, "night", VerifyRules())
    landing.let_bring(store.uploads)
    assert landing.direct is not None
    landing.direct.secret = b"draws nothing 0"  # of the first seven
    harbour = Harbour(landing)
    landing.warn = harbour.warn
    return harbour


def trusted() -> Trust:
    """A machine whose next results are not among those that are decoded."""
    return Trust(close_looks=0)


def incoming(store: Store) -> list[str]:
    return list(store.blobs.list(INCOMING))


@pytest.mark.s3
async def test_what_a_machine_brings_is_kept_and_never_passes_here(
    store: Store, harbour: Harbour, proxy: S3Proxy
) -> None:
    made = Made(picture())

    output = await harbour.keep(made, trusted())

    large = [one.method for one in proxy.asked if one.size > BEGINNING_BYTES]
    assert (made.saved, large) == (0, ["PUT"]), "the machine's own"
    assert proxy.bytes_out < len(made.content)
    assert store.blobs.get(output.uri) == made.content
    assert output.uri == f"images/night/aa/{JOB.id}-0-{output.facts.sha256[:8]}.png"
    assert (output.facts.width, output.facts.verified) == (256, "checksum")
    assert (incoming(store), list(store.staging.iterdir()), harbour.told) == ([], [], [])


@pytest.mark.s3
async def test_the_first_of_a_machine_and_those_drawn_are_decoded_as_they_lie_in_the_store(
    harbour: Harbour, store: Store
) -> None:
    assert harbour.landing.direct is not None
    harbour.landing.direct.secret = b"told to no machine"
    trust, numbers = Trust(close_looks=1), range(1, 100)
    drawn = [n for n in numbers if harbour.landing.direct.samples(f"{INCOMING}night-1-{n}/0")]
    others = [n for n in numbers if n not in drawn]

    seen = [
        (await harbour.keep(Made(picture()), trust, number=number)).facts.verified
        for number in (others[0], others[1], drawn[0], others[2])
    ]

    assert seen == ["decoded", "checksum", "decoded", "checksum"]
    assert list(store.staging.iterdir()) == []


@pytest.mark.s3
def test_what_is_drawn_is_one_in_so_many_and_others_in_every_run(store: Store) -> None:
    assert store.uploads is not None
    runs = [Direct(store.uploads, store.blobs) for _ in range(2)]
    keys = [f"{INCOMING}night-1-{number:07d}/0" for number in range(10_000)]

    first, second = ({key for key in keys if run.samples(key)} for run in runs)

    for drawn in (first, second):
        assert 0.8 < len(drawn) * DECODED_EVERY / len(keys) < 1.2
    assert len(first & second) < len(first) / 2


@pytest.mark.s3
@pytest.mark.parametrize(
    "lie",
    [{"brings": FLIPPED}, {"brings": picture()[:-1]}, {"brings": b""}, {"is_silent": True}],
    ids=["other bytes", "fewer bytes", "nothing", "says nothing"],
)
async def test_what_does_not_come_as_it_was_weighed_comes_through_here_and_is_looked_at_whole(
    lie: dict[str, object], store: Store, harbour: Harbour
) -> None:
    made = Made(picture(), **lie)  # type: ignore[arg-type]

    output = await harbour.keep(made, trusted())

    assert (made.saved, output.facts.verified) == (1, "decoded")
    assert store.blobs.get(output.uri) == made.content
    assert incoming(store) == []
    assert len(harbour.told) == 1


@pytest.mark.s3
async def test_a_machine_that_cannot_bring_anything_is_soon_not_asked_any_more(
    harbour: Harbour,
) -> None:
    trust, made = trusted(), Made(picture(), brings=b"")

    for number in range(UPLOADS_FAILED_MAX + 2):
        await harbour.keep(made, trust, number=number)

    assert len(made.signed) == UPLOADS_FAILED_MAX
    assert len(harbour.told) == 1


@pytest.mark.s3
@pytest.mark.parametrize(
    ("content", "trust", "kind"),
    [
        (BLANK.getvalue(), Trust(), "blank"),
        (DAMAGED, Trust(), "checksum"),
        (b"MZ this is a program" * 1000, trusted(), "type"),
        (picture()[:16] + bytes(10_000), trusted(), "header"),
    ],
    ids=["blank", "damaged", "a program", "no header"],
)
async def test_what_came_and_is_no_picture_is_the_machines_fault_and_is_removed(
    content: bytes, trust: Trust, kind: str, store: Store, harbour: Harbour
) -> None:
    with pytest.raises(BadOutput) as refused:
        await harbour.fetch(Made(content), trust)

    assert refused.value.kind == kind
    await until(lambda: incoming(store) == [])
    assert list(store.blobs.list("images/")) == []


@pytest.mark.s3
async def test_an_address_that_is_used_again_changes_nothing_that_is_kept(
    store: Store, harbour: Harbour
) -> None:
    made = Made(picture())
    output = await harbour.keep(made, trusted())
    [signed] = made.signed

    assert put(signed, FLIPPED) != httpx.codes.OK
    assert put(signed, made.content) == httpx.codes.OK  # its life is not over yet

    assert store.blobs.get(output.uri) == made.content
    assert incoming(store) == [f"{INCOMING}night-1-1/0"]
    store.blobs.remove(output.uri)  # no row names it here, which is another matter
    assert verify(store, is_quick=False, tell=_nobody).problems == 0
    later_s = max(one.modified_s for one in store.blobs.entries(INCOMING)) + 2 * OLDER_THAN_S_MIN
    found = collectable(store, older_than_s=OLDER_THAN_S_MIN, now_s=later_s, tell=_nobody)
    collect(store, found, clock=lambda: later_s, tell=_nobody)
    assert incoming(store) == []


def _nobody(_what: str, _so_far: int, _of: int) -> None:
    """Is told."""


@pytest.mark.s3
async def test_the_loser_of_a_race_changes_nothing(store: Store, harbour: Harbour) -> None:
    lost = await harbour.fetch(Made(OTHER), trusted(), number=2)
    output = await harbour.keep(Made(picture()), trusted())

    harbour.landing.discard(lost)

    await until(lambda: incoming(store) == [])
    assert list(store.blobs.list("images/")) == [output.uri]


@pytest.mark.s3
async def test_an_address_is_worth_nothing_once_its_time_is_over(store: Store) -> None:
    assert store.uploads is not None
    content = picture()
    weighed = Weighed(len(content), hashlib.sha256(content).hexdigest())
    signed = store.uploads.sign(f"{INCOMING}night-1-1/0", weighed, expires_s=1)

    # Until then they are refused for another reason.
    await until(lambda: put(signed, FLIPPED) == httpx.codes.FORBIDDEN)

    assert put(signed, content) == httpx.codes.FORBIDDEN
    assert store.uploads.arrived(f"{INCOMING}night-1-1/0") is None


@pytest.mark.s3
@pytest.mark.parametrize("way", [Way.REFUSED, Way.BUSY, Way.DROPPED, Way.LOST])
async def test_trouble_of_the_store_while_something_is_brought_is_waited_out(
    way: Way, s3: S3Server, proxy: S3Proxy, tmp_path: Path
) -> None:
    place = S3Place(BUCKET, f"direct/{uuid.uuid4().hex}")
    blobs = S3Blobs(place, replace(s3.access, endpoint_url=proxy.url), limits=HURRIED)
    landing = Landing(blobs, tmp_path, "night", VerifyRules())
    landing.let_bring(blobs.uploads)
    proxy.faults += [Fault(way, "HEAD"), Fault(way, "GET"), Fault(way, "PUT", key="images/")]
    made = Made(picture())

    output = await Harbour(landing).keep(made, Trust())

    assert blobs.get(output.uri) == made.content
    assert (made.saved, list(blobs.list(INCOMING))) == (0, [])


@pytest.mark.s3
async def test_a_store_that_does_not_say_what_has_come_is_no_fault_of_the_machine(
    s3: S3Server, proxy: S3Proxy, tmp_path: Path
) -> None:
    place = S3Place(BUCKET, f"direct/{uuid.uuid4().hex}")
    blobs = S3Blobs(place, replace(s3.access, endpoint_url=proxy.url), limits=HURRIED)
    landing = Landing(blobs, tmp_path, "night", VerifyRules())
    landing.let_bring(blobs.uploads)
    proxy.faults += [Fault(Way.BUSY, "HEAD", times=1_000)]
    harbour, made, trust = Harbour(landing), Made(picture()), trusted()

    output = await harbour.keep(made, trust)

    assert (made.saved, output.facts.verified) == (1, "decoded")
    assert (trust.uploads_failed, harbour.told) == (0, [])


@pytest.mark.s3
def test_a_server_that_does_not_check_what_is_brought_is_refused_with_the_reason(
    store: Store, proxy: S3Proxy
) -> None:
    proxy.faults.append(Fault(Way.BELIEVES, "PUT", key=INCOMING, times=1_000))

    with pytest.raises(BadInput, match="it takes other bytes than those whose SHA-256 was signed"):
        store.prepare(now_s=0.0, is_direct=True)

    store.prepare(now_s=0.0)
    assert store.uploads is None


@pytest.mark.s3
def test_a_server_that_has_nothing_of_what_it_took_is_refused_too(
    store: Store, proxy: S3Proxy
) -> None:
    trials = 0

    def before(asked: object) -> Way | None:
        nonlocal trials
        is_trial = getattr(asked, "method", "") == "PUT" and INCOMING in getattr(asked, "path", "")
        trials += is_trial
        return Way.BELIEVES if is_trial and trials > 1 else None

    proxy.before = before

    with pytest.raises(BadInput, match="does not have what it took"):
        store.prepare(now_s=0.0, is_direct=True)


@pytest.mark.s3
def test_a_trial_that_is_not_answered_is_told_without_its_address(
    store: Store, proxy: S3Proxy
) -> None:
    proxy.faults.append(Fault(Way.BUSY, "PUT", key=INCOMING, times=1_000))

    with pytest.raises(StoreUnusable, match="could not be tried: HTTP 503") as told:
        store.prepare(now_s=0.0, is_direct=True)

    error: BaseException | None = told.value
    while error is not None:
        assert "X-Amz-Signature" not in f"{error!r}"
        error = error.__cause__


def test_to_a_folder_no_machine_can_bring_anything(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)

    with pytest.raises(BadInput, match="to an object store only"):
        store.prepare(now_s=0.0, is_direct=True)


def test_a_signed_address_is_in_no_text_that_anybody_could_print() -> None:
    assert "secret" not in repr(Signed("http://bucket/secret", {}))


SIGNATURES = [picture(kind=kind)[:16] for kind in ("PNG", "JPEG", "GIF", "WEBP")]


@given(
    st.sampled_from([b"", b"\x1aE\xdf\xa3", *SIGNATURES]),
    st.binary(max_size=200),
    st.integers(1, BYTES_MAX),
)
def test_whatever_a_file_begins_with_it_is_a_kind_of_ours_or_refused(
    first: bytes, then: bytes, size: int
) -> None:
    try:
        facts = glimpse(first + then, size=size, sha256="0" * 64)
    except BadOutput:
        return
    assert (facts.size, facts.verified) == (size, "checksum")
    assert (facts.width is None) == (facts.height is None)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_the_beginning_of_a_picture_tells_what_it_is(kind: str) -> None:
    content = picture(kind=kind)

    facts = glimpse(content[:BEGINNING_BYTES], size=len(content), sha256="0" * 64)

    assert facts.media == f"image/{kind.lower()}"
    assert facts.width in {256, None}
    assert facts.verified == "checksum"


async def test_without_a_store_that_takes_it_everything_comes_through_here(tmp_path: Path) -> None:
    made = Made(picture())
    harbour = Harbour(Landing(LocalBlobs(tmp_path), tmp_path, "night", VerifyRules()))

    output = await harbour.keep(made, trusted())

    assert (made.saved, made.signed, output.facts.verified) == (1, [], "decoded")
