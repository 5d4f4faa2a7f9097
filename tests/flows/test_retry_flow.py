"""Jobs of a batch again, from the form: those that failed, that are named, with new seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.samples import write_catalog
from tests.flows.test_flows import ran, run_of

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


async def again(folder: Path, store: Path, server: StandIn, **given: Any) -> Any:
    """Final state of a retry."""
    from flows.retry import retry
    from tasks.options import LocalOptions
    from tasks.params import RetryParams

    options = LocalOptions(worker_urls=[server.url])
    flow: Any = retry
    return await flow(
        RetryParams(catalog=folder, store=str(store), options=options, name="night", **given),
        return_state=True,
    )


def rows_of(store: Path, query: str) -> list[tuple[Any, ...]]:
    """What the store says."""
    with Store.open(str(store)).connect() as con:
        return con.execute(query).fetchall()


async def test_only_what_failed_is_rendered_again(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 6), tmp_path / "store"
    async with StandIn(faults=("error",)) as broken:
        await ran("adhoc", folder, store, broken, name="night", limit=2)
    async with StandIn() as server:
        await ran("adhoc", folder, store, server, name="night")
        before = len(server.renders)
        state = await again(folder, store, server)
        renders = len(server.renders) - before
        idle = await again(folder, store, server)

    assert state.is_completed(), state.message
    assert (before, renders) == (4, 2)
    assert rows_of(store, "select status, count(*) from jobs group by 1") == [("done", 6)]
    assert (await run_of(state)).name == "retry night"
    assert idle.is_completed()
    assert idle.message == "no job of batch night is to be rendered again"


async def test_a_condition_and_force_choose_among_what_is_done(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 6), tmp_path / "store"
    async with StandIn() as server:
        await ran("adhoc", folder, store, server, name="night")
        forced = await again(folder, store, server, where="row < 2", force=True)
        renders = len(server.renders)
        reseeded = await again(folder, store, server, where="row = 3", reseed=True)

    assert forced.is_completed(), forced.message
    assert renders == 6 + 2
    assert reseeded.is_completed(), reseeded.message
    assert rows_of(
        store, "select batch like 'night-reseed-%', row from jobs where replaces is not null"
    ) == [(True, 3)]


async def test_a_condition_that_is_none_fails_the_run_with_what_to_do(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 1), tmp_path / "store"
    async with StandIn() as server:
        await ran("adhoc", folder, store, server, name="night")
        state = await again(folder, store, server, where="nonsense = 1")
        renders = len(server.renders)

    assert state.is_failed()
    assert "nonsense" in state.message
    assert renders == 1
