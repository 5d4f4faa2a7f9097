"""Preflight of a run: its catalog against what its workers can do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path

import duckdb

from nightkiln.catalog import Catalog
from nightkiln.catalog.checks import check
from nightkiln.catalog.definitions import SAVED_FILE, definitions_for
from nightkiln.catalog.files import count_of_store
from nightkiln.core.errors import BadInput
from nightkiln.core.specs import Definitions
from nightkiln.dispatch import tell
from nightkiln.ports.observer import Observer
from nightkiln.ports.provider import Provider
from nightkiln.settings import Settings


def preflight(
    con: duckdb.DuckDBPyConnection, catalog: Catalog, settings: Settings, saved: Path | None
) -> None:
    """Check a catalog against what its workers can do; its rows stay loaded in ``con``.

    Against the saved definitions if there are any, else the first worker that answers, else
    the stock ones.

    Raises:
        BadInput: with every problem found.
    """
    problems = check(catalog, _definitions(catalog, settings, saved), con)
    if problems:
        raise BadInput(problems)


async def tell_what_leaves(
    con: duckdb.DuckDBPyConnection,
    catalog: Catalog,
    providers: Iterable[Provider],
    observer: Observer,
) -> None:
    """Say that pictures of the store go to machines of others, before any is rented."""
    if not any(provider.bills for provider in providers):
        return
    if count := await asyncio.to_thread(count_of_store, con, catalog):
        await tell(observer, "warning", {"message": leaving(count)})


def leaving(count: int) -> str:
    """That so many pictures of the store are input files."""
    what = (
        "1 picture of this store is an input file"
        if count == 1
        else (f"{count} pictures of this store are input files")
    )
    return f"{what}: whoever runs a rented machine can see it (docs/why/security.md)"


def _definitions(catalog: Catalog, settings: Settings, saved: Path | None) -> Definitions:
    if saved is None and not (catalog.folder / SAVED_FILE).is_file():
        for url in settings.worker_urls:
            # A worker that is still starting is no reason to stop: the stock nodes will do.
            with contextlib.suppress(BadInput):
                return definitions_for(catalog, worker_url=url)
    return definitions_for(catalog, saved=saved)
