"""Maintenance as a flow: the store is compacted, and what came of it is in the flow run's state."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.manifest import newest_manifest
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import MARKER, Store
from nightkiln.testing.settled import BATCH, done, picture
from tests.flows.test_flows import artifacts, task_runs

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def settle(store: Store, count: int) -> None:
    """So many jobs, each with its image and its row."""
    for number in range(count):
        one, key = done(number), shard_key(BATCH, number)
        create_or_same(store.blobs, key, parquet_bytes(rows_table([one], BATCH, key)))
        store.blobs.put(one.outputs[0].uri, picture(number))


async def maintained(folder: Path, **params: Any) -> Any:
    """State of a flow run that looks after the store in ``folder``."""
    from flows.maintain import maintain
    from tasks.maintain import MaintainParams

    flow: Any = maintain
    return await flow(MaintainParams(store=str(folder), **params), return_state=True)


async def test_a_store_is_compacted_and_the_state_says_so(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    settle(store, 2)

    state = await maintained(tmp_path / "store", verify_nights=1)

    assert state.is_completed(), state.message
    assert state.message == (
        "2 small files folded into 1, 2 rows; 0 replaced files removed; "
        "2 results held against 2 files, 2 of them read; no file belongs to nobody; "
        "0 old flow runs deleted"
    )
    assert newest_manifest(store.blobs).number == 1
    assert set(await task_runs(state, 3)) == {"compact", "verify", "gc, dry run"}


async def test_a_damaged_image_fails_the_flow_with_what_repairs_it(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    settle(store, 3)
    hurt = done(1).outputs[0]
    (tmp_path / "store" / hurt.uri).write_bytes(bytes(hurt.facts.size))

    state = await maintained(tmp_path / "store", verify_nights=1)

    assert state.is_failed()
    assert "1 wrong sha256: as for missing files" in state.message
    assert "3 small files folded into 1" in state.message
    [row] = json.loads((await artifacts(state))["nightkiln-maintain"].data)
    assert (row["kind"], row["file"]) == ("wrong sha256", hurt.uri)


async def test_files_that_belong_to_nobody_are_told_and_left(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    settle(store, 1)
    nobodys = tmp_path / "store" / "images" / "gone" / "ab" / f"{'ab' * 32}-0-{'c' * 8}.png"
    nobodys.parent.mkdir(parents=True)
    nobodys.write_bytes(b"a picture")
    os.utime(nobodys, (0, 0))

    state = await maintained(tmp_path / "store")

    assert state.is_completed(), state.message
    assert "1 files, 0.0 MB, belong to nobody: nightkiln store gc" in state.message
    assert nobodys.exists()


async def test_runs_that_ended_long_ago_are_forgotten_and_others_are_not() -> None:
    from prefect import flow, get_client, tags
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

    from tasks.results import RESULTS
    from tasks.retention import forget_runs

    @flow(name="ended", retries=0, persist_result=False, result_storage=RESULTS)
    async def ended() -> None:
        return None

    for named in (("nightkiln", "reap"), ("nightkiln",), ("others",)):
        with tags("retention", *named):
            await ended()
    ours = FlowRunFilter(tags=FlowRunFilterTags(all_=["retention"]))
    today, kept = datetime.now(UTC), []
    for days in (1, 3, 31):
        await forget_runs(30, now=today + timedelta(days=days))
        async with get_client() as client:
            left = await client.read_flow_runs(flow_run_filter=ours)
        kept.append(sorted(tag for run in left for tag in run.tags if tag != "retention"))

    assert kept == [
        ["nightkiln", "nightkiln", "others", "reap"],
        ["nightkiln", "others"],
        ["others"],
    ]


async def test_a_store_that_is_damaged_fails_the_flow_with_what_to_do(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    store.blobs.put(MARKER, b"nothing")

    state = await maintained(tmp_path / "store")

    assert state.is_failed()
    assert "is damaged" in state.message


async def test_credentials_that_are_not_there_fail_the_flow_with_what_to_do(tmp_path: Path) -> None:
    state = await maintained(tmp_path / "store", s3_block="no-such-block")

    assert state.is_failed()
    assert "there is no such block" in state.message


async def test_before_the_first_night_the_schedule_disturbs_nobody(tmp_path: Path) -> None:
    state = await maintained(tmp_path / "store")

    assert state.is_completed()
    assert "no store yet" in state.message
    assert not (tmp_path / "store").exists()
