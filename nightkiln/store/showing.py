"""Writes the views beside the data, for whoever reads a store without nightkiln."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from nightkiln.core.errors import StoreUnusable
from nightkiln.ports.blobs import Blobs
from nightkiln.store.layout import facts_of
from nightkiln.store.manifest import newest_manifest, show, shown_since
from nightkiln.store.settled_sql import shown_manifest
from nightkiln.store.sql_files import sql_file
from nightkiln.store.views import Has, views_sql
from nightkiln.temporary import temporary_folder

if TYPE_CHECKING:
    from nightkiln.store.store import Store

VIEWS_SQL = "views.sql"
DATABASE = "nightkiln.duckdb"
REFRESH_TRIES_MAX = 5  # somebody compacted while the views were written, that often


def refresh(store: Store) -> None:
    """Write ``views.sql`` and ``nightkiln.duckdb`` anew if they would differ; see ``Store``."""
    for _ in range(REFRESH_TRIES_MAX):
        before = _written(store.blobs)
        shown, facts = shown_manifest(before), facts_of(store.blobs)
        number = facts.manifest.number
        _write(store, before, facts)
        if number != shown or (number > 0 and number not in shown_since(store.blobs)):
            show(store.blobs, number, shown_before=shown)
        # Somebody may have compacted meanwhile, whose newer views were written over.
        if newest_manifest(store.blobs).number == number:
            return
    raise StoreUnusable(f"{store.uri} is compacted faster than its views can be written")


def _written(blobs: Blobs) -> str:
    try:
        return blobs.get(VIEWS_SQL).decode("utf-8", "replace")
    except KeyError:
        return ""


def _write(store: Store, before: str, facts: Has) -> None:
    catalogs = store.catalogs()
    if store.is_remote:  # DuckDB opens no database in an object store
        how_to = sql_file("how_to_s3", views=json.dumps(store.where(VIEWS_SQL)))
        text = how_to + views_sql(store.uri, catalogs, facts)
        if before != text:
            store.blobs.put(VIEWS_SQL, text.encode())
        return
    # The header names the root, so a store that was moved gets its absolute paths anew.
    text = sql_file("how_to", root=json.dumps(store.uri)) + views_sql("", catalogs, facts)
    if before != text or store.blobs.size(DATABASE) is None:
        _put_database(store.blobs, views_sql(store.uri, catalogs, facts))
        store.blobs.put(VIEWS_SQL, text.encode())


def _put_database(blobs: Blobs, sql: str) -> None:
    import duckdb

    # Not in the store: DuckDB takes what follows a "?" in a folder's name for options.
    with temporary_folder() as folder:
        made = folder / DATABASE
        with duckdb.connect(str(made)) as con:
            con.execute(f"begin; {sql}; commit")  # one by one, each is written out
        blobs.put(DATABASE, made)
