"""Maintenance as a flow: the store is compacted, and what came of it is in the flow run's state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.manifest import newest_manifest
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import MARKER, Store
from nightkiln.testing.settled import BATCH, done

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


async def maintained(folder: Path, **params: Any) -> Any:
    """State of a flow run that looks after the store in ``folder``."""
    from flows.maintain import maintain
    from tasks.maintain import MaintainParams

    flow: Any = maintain
    return await flow(MaintainParams(store=str(folder), **params), return_state=True)


async def test_a_store_is_compacted_and_the_state_says_so(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    for number in range(2):
        key = shard_key(BATCH, number)
        create_or_same(store.blobs, key, parquet_bytes(rows_table([done(number)], BATCH, key)))

    state = await maintained(tmp_path / "store")

    assert state.is_completed(), state.message
    assert state.message == "2 small files folded into 1, 2 rows; 0 replaced files removed"
    assert newest_manifest(store.blobs).number == 1


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
