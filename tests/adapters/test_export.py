"""An export is whole and verified, or says what is missing; and it is the same every time."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nightkiln.blobs import LocalBlobs
from nightkiln.core.errors import BadInput, StoreUnusable
from nightkiln.disk import OsDisk
from nightkiln.export.copying import AHEAD_BYTES_MAX, AHEAD_MAX, Damaged, copies
from nightkiln.export.exporting import Progress, export
from nightkiln.export.place import WORK, opened
from nightkiln.export.plan import Row
from nightkiln.export.records import MANIFEST, PROBLEMS, SUMS
from nightkiln.export.request import OUTPUT_BYTES_MAX, Format, Request
from nightkiln.store.store import Store
from nightkiln.testing.disk import SteppedDisk
from nightkiln.testing.settled import done, picture
from tests.adapters.export_world import PICTURES, a_store, broken_sums, commit, on_disk, quick, tree

STEP_FULL = 22  # within the second part of each format: see the sweep in test_export_stopped.py


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_store(tmp_path_factory.mktemp("export") / "store").root


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Store:
    """One of its own for every test: some damage it."""
    shutil.copytree(made, tmp_path / "store")
    return Store.open(str(tmp_path / "store"), disk=quick())


@pytest.fixture
def loose(tmp_path: Path) -> Request:
    """Loose files, in two parts."""
    return Request(tmp_path / "out", Format.FILES, shard_rows=2)


def test_an_output_that_memory_has_no_room_for_is_refused_and_can_be_left_out(
    tmp_path: Path,
) -> None:
    small, film = done(1), done(2)
    facts = replace(film.outputs[0].facts, size=OUTPUT_BYTES_MAX + 1)
    film = replace(film, outputs=(replace(film.outputs[0], facts=facts),))
    store = a_store(tmp_path / "store", [small, film])
    without = Request(tmp_path / "out", Format.FILES, where=f"bytes <= {OUTPUT_BYTES_MAX}")

    with pytest.raises(BadInput, match="more than is held in memory"):
        export(store, Request(tmp_path / "none", Format.FILES))

    assert not (tmp_path / "none").exists()
    assert export(store, without).totals.samples == 1
    assert export(store, Request(tmp_path / "sheet", Format.CSV)).totals.samples == 2


@pytest.mark.parametrize("where", ["status = 'DONE' -- all of them", "STATUS in ('Done')"])
def test_a_condition_may_be_written_as_for_retry(store: Store, tmp_path: Path, where: str) -> None:
    found = export(store, Request(tmp_path / "out", Format.CSV, where=where))
    every = export(store, Request(tmp_path / "every", Format.CSV))

    assert found.totals == every.totals


@pytest.mark.parametrize("form", Format)
def test_the_same_store_gives_the_same_bytes(store: Store, tmp_path: Path, form: Format) -> None:
    request = Request(tmp_path / "out", form, shard_rows=2)

    export(store, request)
    export(on_disk(store, quick()), Request(tmp_path / "again", form, shard_rows=2))

    assert tree(request.folder) == tree(tmp_path / "again")
    assert broken_sums(request.folder) == []
    assert not (request.folder / WORK).exists()


def test_an_export_that_is_whole_is_left_as_it_is(store: Store, loose: Request) -> None:
    first = export(store, loose)
    before = tree(loose.folder)

    second = export(store, loose)

    assert (first.was_there, second.was_there) == (False, True)
    assert first.totals == second.totals
    assert tree(loose.folder) == before


def test_failed_jobs_are_not_taken_and_all_others_are(store: Store, loose: Request) -> None:
    totals = export(store, loose).totals

    assert (totals.samples, totals.bytes, totals.problems) == (PICTURES, 200 * PICTURES, 0)


@pytest.mark.parametrize("form", [Format.FILES, Format.HF])
def test_a_damaged_file_is_named_and_left_out_until_it_is_whole_again(
    store: Store, tmp_path: Path, form: Format
) -> None:
    request = Request(tmp_path / "out", form, shard_rows=2)
    flipped, missing = (store.root / done(number).outputs[0].uri for number in (0, 2))
    flipped.write_bytes(picture(0)[:-1] + b"!")
    missing.unlink()

    result = export(store, request)

    assert (result.totals.samples, result.totals.problems) == (1, 2)
    assert [one.uri for one in result.troubles] == [done(0).outputs[0].uri, done(2).outputs[0].uri]
    assert "sha256" in result.troubles[0].what
    assert "not in the store" in result.troubles[1].what
    told = [json.loads(line) for line in (request.folder / PROBLEMS).read_text().splitlines()]
    assert [one["uri"] for one in told] == [one.uri for one in result.troubles]
    assert broken_sums(request.folder) == []

    flipped.write_bytes(picture(0))
    missing.write_bytes(picture(2))
    assert export(store, request).totals.problems == 0
    export(store, Request(tmp_path / "fresh", form, shard_rows=2))
    assert tree(request.folder) == tree(tmp_path / "fresh")


def test_a_file_of_another_length_is_damaged_whatever_it_holds(store: Store) -> None:
    uri = done(0).outputs[0].uri
    row = Row("x", "png", None, uri, done(0).outputs[0].facts.sha256, 199, "image/png", {})

    assert list(copies([row], store.blobs)) == [
        (row, Damaged("it has 200 bytes, its row says 199"))
    ]


def test_a_condition_chooses_over_jobs_outputs_and_the_catalogs_columns(
    store: Store, tmp_path: Path
) -> None:
    where = "challenge >= 1 and category = 'Animals' and media = 'image/png' -- and so on"

    totals = export(store, Request(tmp_path / "out", Format.FILES, where=where)).totals

    assert totals.samples == 2


def test_a_condition_may_ask_other_views(store: Store, tmp_path: Path) -> None:
    where = "job_id in (select job_id from attempts where gpu_seconds > 1) and seed = 1"

    assert export(store, Request(tmp_path / "out", Format.CSV, where=where)).totals.samples == 1


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("categroy = 'Animals'", r'"categroy".*columns: .*job_id.*category'),
        ("seed = 'abc'", "abc.*columns: "),
        ("cast(prompt as integer) = 1", "a fox, number 0.*columns: "),
        ("seed >", "Parser Error"),
        ("seed = 1; drop view jobs", "Parser Error"),
        ("1 = 1) or (1 = 1", "Parser Error"),
        ("seed > 100", "no finished output matches"),
    ],
)
def test_a_condition_that_makes_no_sense_is_told_with_what_there_is(
    store: Store, tmp_path: Path, where: str, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        export(store, Request(tmp_path / "out", Format.CSV, where=where))

    assert not (tmp_path / "out").exists(), "nothing was begun"


@pytest.mark.parametrize("option", ["caption", "columns"])
def test_columns_that_are_not_there_are_told_with_those_that_are(
    store: Store, tmp_path: Path, option: str
) -> None:
    request = {
        "caption": Request(tmp_path / "out", Format.CSV, caption="promt"),
        "columns": Request(tmp_path / "out", Format.CSV, columns=("seed", "promt")),
    }[option]

    with pytest.raises(BadInput, match=rf"--{option}.*'promt'.*columns: .*prompt"):
        export(store, request)


def test_a_folder_that_holds_something_else_is_not_touched(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    (tmp_path / "out" / MANIFEST).write_text('{"kind": "of another tool"}')
    before = tree(tmp_path / "out")

    with pytest.raises(BadInput, match="not empty"):
        export(store, Request(tmp_path / "out", Format.CSV))

    assert tree(tmp_path / "out") == before


def test_a_folder_in_a_store_is_refused_for_the_store_would_sweep_it(store: Store) -> None:
    with pytest.raises(BadInput, match="lies in the store"):
        export(store, Request(store.root / "images" / "mine", Format.FILES))


def test_a_file_and_an_address_are_no_folders(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for to, said in ((tmp_path / "file", "is a file"), (Path("s3://bucket/x"), "no local folder")):
        with pytest.raises(BadInput, match=said):
            export(store, Request(to, Format.CSV))


def test_no_other_export_goes_on_with_what_was_begun(store: Store, tmp_path: Path) -> None:
    export(store, Request(tmp_path / "out", Format.CSV))

    with pytest.raises(BadInput, match="holds another export"):
        export(store, Request(tmp_path / "out", Format.CSV, where="seed = 1"))


def test_a_store_that_has_grown_is_told_and_the_export_left_as_it_is(
    store: Store, loose: Request
) -> None:
    export(store, loose)
    before = tree(loose.folder)
    commit(store, [done(5)], 1)

    with pytest.raises(BadInput, match="earlier state of the store"):
        export(store, loose)

    assert tree(loose.folder) == before


def test_one_export_at_a_time_writes_to_a_folder(store: Store, tmp_path: Path) -> None:
    with (
        opened(tmp_path / "out", OsDisk()),
        pytest.raises(BadInput, match="another export is writing"),
    ):
        export(store, Request(tmp_path / "out", Format.CSV))


def test_a_full_disk_is_told_and_its_room_given_back_and_the_same_call_goes_on(
    store: Store, loose: Request
) -> None:
    def full(step: int, _name: str) -> None:
        if step >= STEP_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StoreUnusable, match=r"No space left.*free some space.*same command"):
        export(on_disk(store, SteppedDisk(quick(), full)), loose)

    export(store, loose)
    export(store, Request(loose.folder.with_name("fresh"), loose.format, shard_rows=2))
    assert tree(loose.folder) == tree(loose.folder.with_name("fresh"))


def test_shards_are_cut_by_bytes_as_well(store: Store, tmp_path: Path) -> None:
    export(store, Request(tmp_path / "out", Format.PARQUET, shard_bytes=400))

    shards = sorted(path.name for path in (tmp_path / "out").glob("*.parquet"))
    assert shards == ["part-00000.parquet", "part-00001.parquet"]


def test_an_output_larger_than_a_shard_has_one_of_its_own(store: Store, tmp_path: Path) -> None:
    export(store, Request(tmp_path / "out", Format.PARQUET, shard_bytes=1))

    assert len(list((tmp_path / "out").glob("*.parquet"))) == PICTURES


def test_progress_comes_to_its_end(store: Store, loose: Request) -> None:
    seen: list[Progress] = []

    export(store, loose, tell=seen.append)

    assert seen[0].rows_done == 0
    assert seen[-1] == Progress(2, 2, PICTURES, PICTURES, 200 * PICTURES, 200 * PICTURES)
    assert [one.rows_done for one in seen] == sorted(one.rows_done for one in seen)


def test_the_manifest_holds_the_checksum_of_the_checksums(store: Store, loose: Request) -> None:
    export(store, loose)

    manifest = json.loads((loose.folder / MANIFEST).read_text())
    sums = (loose.folder / SUMS).read_bytes()
    assert manifest["sha256sums_sha256"] == hashlib.sha256(sums).hexdigest()
    assert manifest["samples"] == PICTURES
    assert "/" not in json.dumps({**manifest, "name": ""}), "it says nothing of this computer"


class Counted(LocalBlobs):
    """A store's files, that says how much was fetched."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fetched = 0
        self._counting = threading.Lock()

    def get(self, key: str) -> bytes:
        data = super().get(key)
        with self._counting:
            self.fetched += 1
        return data


def test_what_is_fetched_ahead_is_bounded_in_number_and_in_bytes(
    store: Store,
) -> None:
    output = done(0).outputs[0]
    for size, ahead in ((200, AHEAD_MAX), (AHEAD_BYTES_MAX // 3, 3), (AHEAD_BYTES_MAX + 1, 1)):
        row = Row("x", "png", None, output.uri, output.facts.sha256, size, "image/png", {})
        blobs = Counted(store.root)
        fetched: Iterator[object] = copies([row] * 100, blobs)

        for taken in range(1, 50):
            next(fetched)
            assert blobs.fetched <= taken + ahead

        del fetched
