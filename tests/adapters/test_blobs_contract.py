"""What is promised of every place that keeps files, be it a folder or a real S3 server."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nightkiln.blobs import LocalBlobs
from nightkiln.core.errors import StoreUnusable
from nightkiln.ports.blobs import Blobs
from tests.adapters.places import BOTH, Place, place_in


@pytest.fixture(params=BOTH)
def place(request: pytest.FixtureRequest) -> Place:
    return place_in(request.param, request)


@pytest.fixture
def blobs(place: Place) -> Blobs:
    return place()


def test_what_was_put_is_read_back_and_the_last_writer_wins(blobs: Blobs) -> None:
    blobs.put("a/b.txt", b"first")
    blobs.put("a/b.txt", b"second")

    assert blobs.get("a/b.txt") == b"second"
    assert blobs.size("a/b.txt") == 6


def test_what_was_created_is_never_overwritten(blobs: Blobs) -> None:
    assert blobs.create("claims/night/1.json", b"mine")
    assert not blobs.create("claims/night/1.json", b"yours")
    assert not blobs.create("claims/night/1.json", b"mine"), "whoever comes second is told so"
    assert blobs.get("claims/night/1.json") == b"mine"


def test_a_key_that_is_not_there_is_a_key_error(blobs: Blobs) -> None:
    blobs.put("file", b"not a folder")

    for key in ("nothing", "no/thing", "file/below"):
        with pytest.raises(KeyError):
            blobs.get(key)
        assert blobs.size(key) is None


@pytest.mark.parametrize("size", [0, 1, 70_000, 17 * 2**20, 32 * 2**20], ids=str)
def test_a_file_that_was_put_is_all_there_and_no_longer_ours(
    blobs: Blobs, tmp_path: Path, size: int
) -> None:
    content = (uuid.uuid4().bytes * (size // 16 + 1))[:size]
    path = tmp_path / "download"
    path.write_bytes(content)

    blobs.put("images/aa/x.png", path)

    assert blobs.get("images/aa/x.png") == content
    assert blobs.size("images/aa/x.png") == size
    assert [entry.size for entry in blobs.entries("images/")] == [size]


def test_what_was_removed_is_gone_and_may_be_removed_again(blobs: Blobs) -> None:
    blobs.put("a/b", b"1")
    blobs.put("c", b"2")

    for key in ("a/b", "a/b", "never/was", "c/below"):
        blobs.remove(key)

    assert list(blobs.list("")) == ["c"]


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", ".tmp/x", "a\0b", "a b", "x" * 1000]
)
def test_a_key_that_could_lead_elsewhere_is_refused(blobs: Blobs, key: str) -> None:
    with pytest.raises(StoreUnusable, match="cannot be the name"):
        blobs.put(key, b"")


def test_a_link_shows_what_it_links_to(blobs: Blobs) -> None:
    blobs.put("images/a.png", b"pixels")

    link = blobs.link("images/a.png", expires_s=60)

    if link.startswith("file://"):
        assert Path(link.removeprefix("file://")).read_bytes() == b"pixels"
    else:
        answer = httpx.get(link, trust_env=False)
        assert (answer.content, answer.headers["content-type"]) == (b"pixels", "image/png")


def test_of_many_threads_that_create_one_key_one_succeeds(place: Place) -> None:
    # SeaweedFS takes a second or two for each such race.
    threads, keys = 8, 20 if isinstance(place(), LocalBlobs) else 2
    won: list[tuple[int, int]] = []
    barrier = threading.Barrier(threads)

    def race(thread: int) -> None:
        blobs = place()
        for number in range(keys):
            barrier.wait()
            if blobs.create(f"race/{number}", str(thread).encode()):
                won.append((number, thread))

    racers = [threading.Thread(target=race, args=(thread,)) for thread in range(threads)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert sorted(number for number, _ in won) == list(range(keys))
    blobs = place()
    assert all(blobs.get(f"race/{number}") == str(thread).encode() for number, thread in won)


def _of(folder: str, keys: list[str]) -> list[str]:
    return [key for key in keys if key.rpartition("/")[0] == folder]


_PARTS = st.text("ab-.=0", min_size=1, max_size=3).filter(lambda part: part[0] != ".")
_KEYS = st.lists(_PARTS, min_size=1, max_size=3).map("/".join)


@pytest.mark.parametrize("kind", BOTH)
def test_a_listing_is_what_filtering_and_sorting_all_keys_gives(
    kind: str, request: pytest.FixtureRequest
) -> None:
    few = settings(max_examples=15) if kind == "s3" else settings()

    @example(keys={"0"}, prefix="/")
    @few
    @given(keys=st.sets(_KEYS, max_size=8), prefix=st.text("ab-.=0/", max_size=4))
    def holds(keys: set[str], prefix: str) -> None:
        # A file system cannot hold a file and a folder of the same name.
        keys = {key for key in keys if not any(other.startswith(key + "/") for other in keys)}
        blobs = place_in(kind, request)()
        for key in keys:
            blobs.create(key, b"")

        found, wanted = list(blobs.list(prefix)), sorted(k for k in keys if k.startswith(prefix))
        assert sorted(found) == wanted
        for folder in {key.rpartition("/")[0] for key in wanted}:
            assert _of(folder, found) == _of(folder, wanted)
        if kind == "folder":
            assert found == wanted

    holds()


@pytest.mark.s3
def test_a_long_listing_comes_page_by_page(request: pytest.FixtureRequest) -> None:
    blobs = place_in("s3", request)()
    keys = [f"results/{number:04d}" for number in range(1_100)]

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(lambda key: blobs.put(key, b""), keys))

    assert list(blobs.list("results/")) == keys
