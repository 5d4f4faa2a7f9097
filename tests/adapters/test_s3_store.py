"""A store in a bucket: what of it lies where, who may read it, and what is never told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nightkiln.blobs.s3_place import S3Access, S3Place
from nightkiln.core.errors import BadInput, NightkilnError
from nightkiln.core.model import BatchId, LeaseId, Settled
from nightkiln.lease_book import Entry, Owner
from nightkiln.settings import load_settings
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import MARKER, Store, is_store
from nightkiln.sweeping import swept
from nightkiln.testing.market import Night, shipped_market
from nightkiln.testing.market.providers import SimulatedMarket
from nightkiln.testing.market.samples import HOUR_S, NEED, calm
from nightkiln.testing.s3_proxy import s3_proxy
from nightkiln.testing.s3_server import BUCKET, S3Server
from nightkiln.testing.settled import BATCH, done
from nightkiln.wiring import book_of

ASKED = "select count(*) from jobs"
NEVER_TOLD = "s3cr3t-t0-be-kept"


def commit(store: Store, settled: list[Settled], batch: BatchId = BATCH) -> None:
    key = shard_key(batch, 0)
    create_or_same(store.blobs, key, parquet_bytes(rows_table(settled, batch, key)))


def ask(store: Store, sql: str) -> list[tuple[Any, ...]]:
    with store.connect("jobs") as con:
        return con.execute(sql).fetchall()


@pytest.fixture
def uri() -> str:
    return f"s3://{BUCKET}/tests/{uuid.uuid4().hex}"


@pytest.fixture
def store(uri: str, s3: S3Server, tmp_path: Path) -> Store:
    return Store.open(uri, create=True, s3=s3.access, state=tmp_path)


@pytest.mark.s3
def test_a_store_in_a_bucket_is_made_once_and_found_again(
    uri: str, s3: S3Server, tmp_path: Path
) -> None:
    before = is_store(uri, s3=s3.access)
    first = Store.open(uri + "/", create=True, s3=s3.access, state=tmp_path)
    second = Store.open(uri, create=True, s3=s3.access, state=tmp_path / "another computer")

    assert (before, is_store(uri, s3=s3.access)) == (False, True)
    assert first.uri == second.uri == uri
    assert first.where("images/night") == f"{uri}/images/night"
    assert first.blobs.get(MARKER) == second.blobs.get(MARKER)


@pytest.mark.s3
def test_what_another_computer_commits_is_seen_at_once(
    store: Store, uri: str, s3: S3Server, tmp_path: Path
) -> None:
    elsewhere = Store.open(uri, s3=s3.access, state=tmp_path / "another computer")
    commit(store, [done(1), done(2)])
    first = ask(elsewhere, "select count(*) from jobs")
    commit(store, [done(3)], replace(BATCH, epoch=2))

    assert (first, ask(elsewhere, "select count(*) from jobs")) == ([(2,)], [(3,)])
    assert ask(elsewhere, "select distinct dt from jobs where dt >= '2026-01-31'") != []


@pytest.mark.s3
def test_a_query_asks_for_lists_and_for_bytes_and_not_ten_times_for_sizes(
    store: Store, s3: S3Server, tmp_path: Path
) -> None:
    commit(store, [done(1), done(2)])
    with s3_proxy(s3) as proxy:
        seen = replace(s3.access, endpoint_url=proxy.url)
        watched = Store.open(store.uri, s3=seen, state=tmp_path)
        with watched.connect() as con:
            con.execute("select status, count(*) from jobs group by 1").fetchall()
        asked = [one for one in proxy.asked if ".parquet" in one.path]

    assert {one.method for one in asked} == {"GET"}


@pytest.mark.s3
def test_the_views_beside_the_data_answer_in_plain_duckdb_as_their_header_says(
    store: Store, s3: S3Server
) -> None:
    commit(store, [done(1), done(2)])
    store.refresh_views()
    header = store.blobs.get("views.sql").decode().splitlines()
    shown = [line.removeprefix("--   ") for line in header if line.startswith("--   ")]
    asked = shown[-1].replace('con.sql("from jobs limit 10")', "con.sql(ASKED).fetchall()")

    done_there = subprocess.run(
        [sys.executable, "-c", "\n".join([f"ASKED = {ASKED!r}", *shown[:-1], asked])],
        env={"PATH": os.environ["PATH"], **s3.environment},
        check=True,
        capture_output=True,
        text=True,
    )

    assert len(shown) <= 4
    assert done_there.stdout.strip() == "[(2,)]"


@pytest.mark.s3
def test_journals_and_files_on_their_way_lie_on_this_computer(store: Store, tmp_path: Path) -> None:
    store.prepare(now_s=0.0)

    for place in (store.journal_path("night", 1), store.staging, store.story_path(BATCH)):
        assert place.is_relative_to(tmp_path / "stores")
    assert store.staging.is_dir()


@pytest.mark.s3
def test_a_store_that_was_made_anew_does_not_inherit_journals(
    store: Store, uri: str, s3: S3Server, tmp_path: Path
) -> None:
    before = store.here.root
    for key in list(store.blobs.list("")):
        store.blobs.remove(key)

    again = Store.open(uri, create=True, s3=s3.access, state=tmp_path)

    assert again.here.root != before


@pytest.mark.s3
def test_a_folder_that_was_copied_into_a_bucket_is_a_store(
    uri: str, s3: S3Server, tmp_path: Path
) -> None:
    folder = Store.open(str(tmp_path / "folder"), create=True)
    commit(folder, [done(1)])
    folder.blobs.put(MARKER, json.dumps({"schema_version": 1}).encode())  # of before ids
    there = S3Place.parse(uri)
    copied = Store.open(f"{uri}-made", create=True, s3=s3.access, state=tmp_path).blobs
    for key in folder.blobs.list(""):
        copied.put(key, folder.blobs.get(key))

    store = Store.open(f"{uri}-made", s3=s3.access, state=tmp_path)

    assert ask(store, "select count(*) from jobs") == [(1,)]
    assert store.here.root.parent == tmp_path / "stores"
    assert there.bucket == BUCKET


@pytest.mark.s3
def test_stories_are_found_by_whoever_reads_the_store(
    store: Store, uri: str, s3: S3Server, tmp_path: Path
) -> None:
    path = store.story_path(BATCH)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"once upon a night")
    store.keep_story(BATCH)
    elsewhere = Store.open(uri, s3=s3.access, state=tmp_path / "another computer")

    [here], [there] = store.story_paths("night"), elsewhere.story_paths("night")

    assert here.read_bytes() == there.read_bytes() == b"once upon a night"


@pytest.mark.s3
async def test_a_sweep_records_in_the_bucket_what_it_gave_back(
    store: Store, s3: S3Server, tmp_path: Path
) -> None:
    settings = load_settings(
        state=str(tmp_path),
        s3_endpoint_url=s3.url,
        s3_access_key_id=s3.access.access_key_id,
        s3_secret_access_key=s3.access.secret_access_key,
    )
    market = SimulatedMarket(Night(calm(shipped_market()), seed=1, horizon_s=HOUR_S), name="cloud")
    book, lease = book_of(settings), LeaseId("night-1-lease-000")
    async with market:
        [offer] = await market.offers(NEED, limit=1)
        entry = Entry(lease, BATCH.batch, 1, store.uri, offer, 1e9, 1e9 + HOUR_S)
        book.intend(entry)
        await market.rent(offer, lease, NEED, expires_at_s=entry.expires_s)
        book.rented(lease, host="somewhere")
        book.alive(Owner(BATCH.batch, 1, store.uri, 1e9, has_ended=True))

    found = await swept(settings, asks={"cloud": market})

    assert (len(found.ended), found.warnings, book.entries()) == (1, (), [])
    assert ask(store, "select lease_id, host from leases") == [(lease, "somewhere")]


@pytest.mark.s3
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"secret_access_key": NEVER_TOLD}, "the secret key is not the access key's"),
        ({"access_key_id": "nobody"}, "nobody there knows the access key"),
    ],
)
def test_what_is_wrong_with_credentials_is_told_and_they_are_not(
    wrong: dict[str, Any], told: str, uri: str, s3: S3Server
) -> None:
    with pytest.raises(NightkilnError, match=told) as refused:
        Store.open(uri, s3=replace(s3.access, **wrong))

    chain: BaseException | None = refused.value
    while chain is not None:
        assert NEVER_TOLD not in f"{chain!r} {chain}"
        chain = chain.__cause__


def test_credentials_are_in_no_text_that_anybody_could_print() -> None:
    settings = load_settings(
        s3_access_key_id=NEVER_TOLD, s3_secret_access_key=NEVER_TOLD, s3_session_token=NEVER_TOLD
    )
    access = settings.s3_access

    assert access == S3Access(
        access_key_id=NEVER_TOLD, secret_access_key=NEVER_TOLD, session_token=NEVER_TOLD
    )
    for shown in (settings, access, access.file_system(), settings.model_dump_json()):
        assert NEVER_TOLD not in f"{shown} {shown!r}"


@pytest.mark.parametrize("url", ["http://key:secret@host", "ftp://host", "host", "http://h/path"])
def test_an_endpoint_is_an_address_without_credentials(url: str) -> None:
    with pytest.raises(BadInput, match="s3_endpoint_url") as refused:
        load_settings(s3_endpoint_url=url)

    assert "secret" not in str(refused.value)
