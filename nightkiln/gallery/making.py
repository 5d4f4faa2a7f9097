"""A batch's gallery out of its store: where it usually lies, and what it shows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from nightkiln.core.errors import BadInput, Problem
from nightkiln.gallery.again import render_again
from nightkiln.gallery.build import Built, Sources, build_gallery
from nightkiln.gallery.links import Link, relative_link
from nightkiln.gallery.tiles import Facts, read_facts, read_tiles
from nightkiln.store.store import Store

FOLDER = "gallery"  # of the store, with one folder per batch
HOURS_MAX = 168  # what the signature of an address in S3 allows
EVERYTHING = "true"
CATALOG_UNSAID = "CATALOG"


def usual_folder(store: Store, batch: str, *, here: Path | None = None) -> Path:
    """Where the gallery of a batch is put: in the store, beside its images.

    Of a store in S3 that is no folder: ``gallery-<batch>`` in ``here``, or in the current one.
    """
    if not store.is_remote:
        return store.root / FOLDER / batch
    return (here if here is not None else Path()) / f"{FOLDER}-{batch}"


def usual_link(store: Store, folder: Path, *, hours: int = HOURS_MAX) -> Link:
    """Where the page finds full-size images: beside it, else at signed addresses that end."""
    if store.is_remote:
        return partial(store.blobs.link, expires_s=3600.0 * hours)
    return relative_link(store.root, folder)


def make_gallery(
    store: Store,
    batch: str,
    folder: Path,
    *,
    link: Link,
    where: str = EVERYTHING,
    catalog: Path | None = None,
    begin: Callable[[Facts], Callable[[int], None]] = lambda _: lambda _: None,
) -> tuple[Facts, Built]:
    """Build, or build anew, the gallery of a batch in ``folder``; blocking.

    ``begin`` hears what there is to show, before anything is made, and gives who hears of each so
    many tiles that are done; what either raises ends the building.

    Raises:
        BadInput: there is nothing to show.
        StoreUnusable: the store cannot be read, or ``folder`` cannot be written.
    """
    shown = str(catalog.absolute()) if catalog is not None else CATALOG_UNSAID
    with store.connect("jobs", "outputs", "attempts") as con:
        facts = read_facts(con, batch, where=where)
        if facts.tiles == 0:
            raise BadInput([Problem("--where", "chooses no job", "leave it out for all of them")])
        sources = Sources(
            read=store.blobs.get,
            link=link,
            again=partial(render_again, catalog=shown, store=store.uri, batch=batch),
            progress=begin(facts),
        )
        tiles = read_tiles(con, batch, where=where)
        return facts, build_gallery(batch, facts, tiles, folder.absolute(), sources)
