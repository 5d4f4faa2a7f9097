"""A gallery of ten thousand images of real weight: how long it takes to build, and to show."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from nightkiln.gallery import Sources, build_gallery, read_facts, read_tiles, relative_link
from nightkiln.gallery.again import render_again
from nightkiln.store.store import Store
from nightkiln.testing.pictured import Pictured, write_pictured
from tests.benchmarks.child import in_child, measured, peak_mb
from tests.benchmarks.figure import Figure, at_most
from tests.ui.chromium import found_chromium

JOBS, JOBS_QUICK = 10_000, 300
SIZE_MB, DRAWN = 1.5, 64  # so many pictures, under ten thousand names: 15 GB would say no more
BUILD_S_MAX = 120.0
PAINT_S_MAX = 1.0
VISITS = 3  # of which the fastest counts: other programs only ever slow one down
# Files have no entries in a browser's list of what it loaded, so pictures are watched.
WATCH = """document.addEventListener("load", (event) => {
  if (event.target.tagName === "IMG") window.pictured = performance.now() / 1000;
}, true);"""
SEEN = """() => ({
  paint_s: performance.getEntriesByName("first-contentful-paint")[0].startTime / 1000,
  pictures_s: window.pictured,
  whole_s: performance.now() / 1000,
})"""
LOADED = "() => isWhole && [...document.querySelectorAll('.tile img')].every((one) => one.complete)"


def figures(*, is_quick: bool) -> Iterator[Figure]:
    """Build, build again, and what a browser says; without a browser that is left out."""
    jobs = JOBS_QUICK if is_quick else JOBS
    with tempfile.TemporaryDirectory() as folder:
        in_child(__name__, "prepare", folder=folder, jobs=jobs)
        first = in_child(__name__, "build", folder=folder)
        yield at_most(f"gallery_build_{jobs}", first["wall_s"], "s", BUILD_S_MAX)
        yield Figure("gallery_thumbnail_cpu", 1000 * first["cpu_s"] / jobs, "ms/image")
        yield Figure("gallery_build_peak", first["peak_mb"], "MB")
        again = in_child(__name__, "build", folder=folder)
        yield Figure("gallery_build_again", again["wall_s"], "s")
        if found_chromium() is not None:
            seen = in_child(__name__, "look", folder=folder)
            yield at_most("gallery_first_paint", seen["paint_s"], "s", PAINT_S_MAX)
            yield at_most("gallery_first_pictures", seen["pictures_s"], "s", PAINT_S_MAX)
            yield Figure("gallery_all_searchable", seen["whole_s"], "s")


def prepare(folder: str, jobs: int) -> None:
    """Write a store with a batch of so many images."""
    store = Store.open(f"{folder}/store", create=True)
    write_pictured(store, Pictured(jobs, size_mb=SIZE_MB, drawn=min(DRAWN, jobs)))


def build(folder: str) -> dict[str, float]:
    """Build its gallery."""
    store = Store.open(f"{folder}/store")
    page = Path(folder) / "page"
    with measured() as spent, store.connect() as con:
        facts = read_facts(con, "night", where="true")
        sources = Sources(
            read=store.blobs.get,
            link=relative_link(store.root, page),
            again=partial(render_again, catalog="CATALOG", store=folder, batch="night"),
            progress=lambda _: None,
        )
        build_gallery("night", facts, read_tiles(con, "night", where="true"), page, sources)
    return {"wall_s": spent.wall_s, "cpu_s": spent.cpu_s, "peak_mb": peak_mb()}


def look(folder: str) -> dict[str, float]:
    """Open it as a file, each time in a browser that has never seen it."""
    from playwright.sync_api import sync_playwright

    index = (Path(folder) / "page" / "index.html").as_uri()
    visits: list[dict[str, float]] = []
    with sync_playwright() as playwright:
        for _ in range(VISITS):
            browser = playwright.chromium.launch(executable_path=found_chromium())
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.add_init_script(WATCH)
            page.goto(index)
            page.wait_for_function(LOADED)
            visits.append(page.evaluate(SEEN))
            browser.close()
    return min(visits, key=lambda one: one["pictures_s"])
