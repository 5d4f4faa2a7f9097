"""Preflight of a run: its catalog against what its workers can do."""

from __future__ import annotations

import contextlib
from pathlib import Path

import duckdb

from nightkiln.catalog import Catalog
from nightkiln.catalog.checks import check
from nightkiln.catalog.definitions import SAVED_FILE, definitions_for
from nightkiln.core.errors import BadInput
from nightkiln.core.specs import Definitions
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


def _definitions(catalog: Catalog, settings: Settings, saved: Path | None) -> Definitions:
    if saved is None and not (catalog.folder / SAVED_FILE).is_file():
        for url in settings.worker_urls:
            # A worker that is still starting is no reason to stop: the stock nodes will do.
            with contextlib.suppress(BadInput):
                return definitions_for(catalog, worker_url=url)
    return definitions_for(catalog, saved=saved)
