"""The page of a gallery in a real browser, opened as a file."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from nightkiln.core.model import Output
from nightkiln.gallery import Sources, build_gallery, read_facts, read_tiles, relative_link
from nightkiln.gallery.again import render_again
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import Store
from nightkiln.testing.pictured import (
    ERRORS,
    FAILS_AT,
    FAILS_EVERY,
    SEEDS,
    Pictured,
    write_pictured,
)
from nightkiln.testing.settled import BATCH, done, job

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.ui

JOBS, MANY = 60, 10_000
FAILED = [number for number in range(JOBS) if number % FAILS_EVERY == FAILS_AT]
HARM = (
    "</script><script>window.harmed=1</script><img src=x onerror=window.harmed=1>"
    "\"'`);window.harmed=1//\u2028window.harmed=1\u2029<!--]]>${window.harmed=1}"
)
LOADED = "() => isWhole && [...document.querySelectorAll('.tile img')].every((one) => one.complete)"

INSIDE = """document.activeElement === document.body
    || document.activeElement.closest('dialog') !== null"""
SMUGGLE = """async () => {
  const refused = [];
  const elsewhere = "https://example.com/x.js";
  try { document.body.innerHTML = "<b>x</b>"; } catch { refused.push("markup"); }
  try { policy.createScriptURL(elsewhere); } catch { refused.push("script"); }
  try { window.trustedTypes.createPolicy("other", {}); } catch { refused.push("policy"); }
  try { await fetch(elsewhere); } catch { refused.push("request"); }
  try { window.setTimeout("1"); } catch { refused.push("text"); }
  return refused;
}"""
NAMELESS = """() => {
  const named = "button, input, select, img, dialog, [role=grid]";
  const text = (one) => (one === null ? "" : one.textContent.trim());
  return [...document.querySelectorAll(named)].filter((one) => {
    const by = one.getAttribute("aria-labelledby");
    const labels = [...(one.labels ?? [])].map(text).join("");
    return !(one.getAttribute("aria-label") || one.alt || labels || text(one)
      || (by !== null && text(document.getElementById(by))));
  }).map((one) => one.outerHTML);
}"""


def built(
    store: Store, folder: Path, *, where: str = "true", **other: Callable[[str], Any]
) -> Path:
    usual = {"read": store.blobs.get, "link": relative_link(store.root, folder), **other}
    with store.connect() as con:
        sources = Sources(
            **usual,
            again=partial(render_again, catalog="catalogs/demo", store="results", batch="night"),
            progress=lambda _: None,
        )
        facts = read_facts(con, "night", where=where)
        return build_gallery(
            "night", facts, read_tiles(con, "night", where=where), folder, sources
        ).index


def pictured(folder: Path, wanted: Pictured) -> Path:
    """The index of a gallery in a store in ``folder``."""
    store = Store.open(str(folder), create=True)
    write_pictured(store, wanted)
    return built(store, folder / "gallery" / "night")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictured(tmp_path_factory.mktemp("ui") / "store", Pictured(JOBS))


@dataclass
class Opened:
    """A page, and what it was told off for."""

    page: Page
    troubles: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)  # addresses

    def places(self) -> list[str]:
        """Jobs of the tiles that the filter lets through, in order."""
        found: list[str] = self.page.evaluate("grid.shown.map((tile) => tile.job)")
        return found

    def shown(self) -> str:
        return str(self.page.text_content("#count"))

    def shows(self, count: int) -> None:
        """Wait until so many tiles are let through."""
        self.page.wait_for_function("(count) => grid.shown.length === count", arg=count)

    def text(self, selector: str) -> str:
        return str(self.page.text_content(selector))


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """Opens a page and waits for it; whatever it is told off for fails the test."""
    contexts: list[Any] = []
    all_opened: list[Opened] = []

    def opens(index: Path | str, **options: Any) -> Opened:
        context = browser.new_context(viewport={"width": 1000, "height": 700}, **options)
        contexts.append(context)
        opened = Opened(context.new_page())
        all_opened.append(opened)
        opened.page.set_default_timeout(20_000)
        opened.page.on("pageerror", lambda error: opened.troubles.append(str(error)))
        opened.page.on("console", lambda said: opened.troubles.append(said.text))
        opened.page.on("dialog", lambda dialog: opened.troubles.append(dialog.message))
        opened.page.on("request", lambda request: opened.asked.append(request.url))
        opened.page.goto(index if isinstance(index, str) else index.as_uri())
        opened.page.wait_for_function(LOADED)
        return opened

    yield opens
    for context in contexts:
        context.close()
    assert [one.troubles for one in all_opened if one.troubles] == []


@pytest.fixture
def opened(visit: Callable[..., Opened], index: Path) -> Opened:
    return visit(index)


def test_the_pages_scripts_pass_the_linter() -> None:
    linter = f"{sys.prefix}/bin/oxlint"
    folder = resources.files("nightkiln") / "data" / "gallery"
    # Each of the scripts uses what another one declares.
    command = [linter, "--deny-warnings", "-A", "no-unused-vars", str(folder)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_a_page_opened_as_a_file_shows_everything_and_asks_nobody_else(opened: Opened) -> None:
    assert opened.shown() == f"{JOBS} shown"
    assert f"{len(FAILED)} failed" in opened.text("#facts")
    assert all(address.startswith("file://") for address in opened.asked)
    drawn = opened.page.eval_on_selector_all(".tile img", "all => all.map(one => one.naturalWidth)")
    assert drawn
    assert all(width > 0 for width in drawn)


def test_of_ten_thousand_only_what_is_in_sight_is_made(
    visit: Callable[..., Opened], tmp_path: Path
) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    write_pictured(store, Pictured(MANY, drawn=1))

    def reads(key: str) -> bytes:
        raise KeyError(key)  # thumbnails are not what this is about

    opened = visit(built(store, tmp_path / "page", read=reads))

    assert opened.shown() == "10,000 shown"
    assert opened.page.locator(".tile").count() < 100
    opened.page.keyboard.press("ArrowDown")
    opened.page.keyboard.press("End")
    assert opened.page.evaluate("document.activeElement.dataset.place") == str(MANY - 1)
    assert opened.page.locator(".tile").count() < 100
    opened.page.fill("#search", '"no. 2499"')
    opened.shows(SEEDS)


def test_nothing_that_others_wrote_runs_and_all_of_it_is_shown(
    visit: Callable[..., Opened], tmp_path: Path
) -> None:
    opened = visit(pictured(tmp_path / "store", Pictured(8, stranger=HARM)))

    opened.page.keyboard.press("f")
    opened.page.keyboard.press("Escape")
    opened.page.click("#reasons summary")
    for place in (0, FAILS_AT):
        opened.page.click(f'[data-place="{place}"]')
        opened.page.wait_for_selector("#again, #viewer-details p")
        told = opened.text("#viewer-details")
        assert told.count(HARM) >= 5
        opened.page.keyboard.press("c")
        opened.page.wait_for_selector("#side-by-side figure")
        assert HARM in opened.text("#seeds-title")
        opened.page.keyboard.press("Escape")
        opened.page.keyboard.press("Escape")

    assert HARM in opened.text("#reasons")
    assert HARM in opened.text("#filters")
    assert HARM in opened.text("#grid")
    assert opened.page.evaluate("window.harmed") is None
    assert opened.page.locator("img[src=x]").count() == 0


def test_the_page_runs_and_loads_nothing_that_was_smuggled_in(
    visit: Callable[..., Opened], index: Path
) -> None:
    opened = visit(index)

    refused = opened.page.evaluate(SMUGGLE)

    assert refused == ["markup", "script", "policy", "request", "text"]
    assert opened.troubles, "each is told off"
    opened.troubles.clear()


def test_words_are_searched_in_prompts_columns_ids_and_errors(opened: Opened) -> None:
    for words, count in (
        ("LEMONS", 3 * SEEDS),
        ("lemons dusk", SEEDS),
        ('"lemons dusk"', 0),
        ("row-00002", SEEDS),
        (job(7).id[:20], 1),
        ("cfg range", sum(number % len(ERRORS) == 0 for number in FAILED)),
    ):
        opened.page.fill("#search", words)
        opened.shows(count)
    opened.page.fill("#search", "no such thing")
    opened.page.wait_for_selector("#nothing")
    opened.page.click("#clear")
    opened.shows(JOBS)


def test_columns_seed_machine_cost_and_status_can_be_filtered(opened: Opened) -> None:
    page = opened.page
    page.keyboard.press("f")

    page.select_option('[name="status"]', label="failed")
    opened.shows(len(FAILED))
    page.click("#clear")
    page.select_option('[name="provider"]', label="vast")
    page.fill('[name="usd-from"]', "0.01")
    vast = page.evaluate("grid.shown.every((tile) => tile.provider === 'vast')")
    assert vast
    page.click("#clear")
    page.fill('[name="usd-to"]', "0.0001")
    page.wait_for_function(
        "() => grid.shown.length > 0 && grid.shown.every((tile) => tile.usd <= 0.0001)"
    )
    page.click("#clear")
    page.fill('[name="seed"]', str(7919 * 14 + 2**63))
    opened.shows(1)
    assert opened.places() == [job(14).id]
    page.click("#clear")
    page.fill('label:has-text("challenge") input >> nth=0', "3")
    page.fill('label:has-text("challenge") input >> nth=1', "4")
    opened.shows(2 * SEEDS)


def test_tiles_are_sorted_by_what_is_asked_for_both_ways(opened: Opened) -> None:
    seeds = "grid.shown.map((tile) => tile.seed)"
    opened.page.select_option("#sort", label="Seed")
    up = [int(seed) for seed in opened.page.evaluate(seeds)]
    opened.page.click("#direction")
    down = [int(seed) for seed in opened.page.evaluate(seeds)]

    assert up == sorted(up)
    assert down == up[::-1]
    opened.page.select_option("#sort", label="Cost, USD")
    costs = opened.page.evaluate("grid.shown.map((tile) => tile.usd)")
    assert costs == sorted(costs, reverse=True)


def test_marks_are_set_by_keyboard_kept_and_exported_one_job_a_line(opened: Opened) -> None:
    page = opened.page
    for key in ("ArrowRight", "m", "ArrowRight", "ArrowRight", "m", "ArrowLeft", "m", "m"):
        page.keyboard.press(key)
    order = opened.places()
    marked = [order[0], order[2]]
    page.reload()
    page.wait_for_function(LOADED)
    assert opened.text("#marks") == "2"

    with page.expect_download() as saved:
        page.keyboard.press("e")

    assert saved.value.suggested_filename == "marks-night.txt"
    assert Path(saved.value.path()).read_text() == "".join(f"{one}\n" for one in marked)
    page.click("#marked-only")
    opened.shows(2)


def test_marks_of_jobs_that_a_smaller_page_lacks_are_kept(
    visit: Callable[..., Opened], tmp_path: Path
) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    write_pictured(store, Pictured(2 * SEEDS))
    page = visit(built(store, tmp_path / "page")).page
    for key in ("ArrowRight", "m", "End", "m"):
        page.keyboard.press(key)

    for where, marks in (("challenge = 0", "1"), ("true", "2")):
        built(store, tmp_path / "page", where=where)
        page.reload()
        page.wait_for_function(LOADED)
        assert page.text_content("#marks") == marks
        for key in ("ArrowRight", "ArrowRight", "m", "m"):
            page.keyboard.press(key)


def test_a_picture_is_shown_in_full_with_its_parameters_and_its_command(opened: Opened) -> None:
    page = opened.page
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("#again")

    [picture] = page.locator("#full img").all()
    assert picture.evaluate("(one) => one.decode().then(() => one.naturalWidth)") == 256
    assert picture.get_attribute("alt") == opened.text("#viewer-title")
    told = opened.text("#viewer-details")
    for said in ("blurry, watermark", "steps", "challenge", "kiln-", opened.places()[1]):
        assert said in told
    command = opened.text("#again")
    assert command.startswith("nightkiln run catalogs/demo --store results --fresh --limit 1 --set")
    seed = page.evaluate("grid.current.seed")
    assert f"--set seed={seed}" in command


def test_the_viewer_goes_on_by_keyboard_and_gives_the_focus_back(opened: Opened) -> None:
    page = opened.page
    page.click('[data-place="0"]')
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "m"):
        page.keyboard.press(key)
    assert page.get_attribute("#viewer-mark", "aria-pressed") == "true"
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate(INSIDE)

    page.keyboard.press("Escape")

    page.wait_for_function("() => document.activeElement.dataset.place === '1'")
    assert page.get_attribute('[data-place="1"]', "aria-selected") == "true"


def test_the_seeds_of_a_prompt_stand_side_by_side(opened: Opened) -> None:
    page = opened.page
    page.keyboard.press("ArrowRight")
    page.keyboard.press("c")
    page.wait_for_selector("#side-by-side figure")

    assert page.locator("#side-by-side figure").count() == SEEDS
    first = opened.text("#seeds-title")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("(first) => byId('seeds-title').textContent !== first", arg=first)
    page.wait_for_selector("#side-by-side .is-failed")
    page.click("#side-by-side figure >> nth=3 >> button")
    page.keyboard.press("2")
    assert page.locator("#side-by-side .is-marked").count() == 2
    page.keyboard.press("Escape")
    assert opened.text("#marks") == "2"


def test_every_file_of_a_job_has_a_tile_and_a_mark_is_the_jobs(
    visit: Callable[..., Opened], tmp_path: Path
) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    write_pictured(store, Pictured(1))
    both = replace(done(9), outputs=(image_of(store, 9), video_of(store, 9)))
    key = shard_key(BATCH, 1)
    create_or_same(store.blobs, key, parquet_bytes(rows_table([both], BATCH, key)))
    opened = visit(built(store, tmp_path / "page"))
    page = opened.page

    opened.shows(3)
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    assert opened.text('[data-place="2"] .instead') == "video/mp4"
    page.keyboard.press("m")
    assert page.locator('.tile[aria-selected="true"]').count() == 2
    assert opened.text("#marks") == "1"
    page.keyboard.press("Enter")
    page.wait_for_selector("#full video[controls]")
    assert str(page.get_attribute("#full video", "src")).endswith(".mp4")


def image_of(store: Store, number: int) -> Output:
    output = done(number).outputs[0]
    sink = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(sink, "PNG")
    store.blobs.put(output.uri, sink.getvalue())
    return output


def video_of(store: Store, number: int) -> Output:
    [output] = done(number).outputs
    facts = replace(output.facts, media="video/mp4", ext="mp4", width=None, height=None)
    uri = output.uri.replace(".png", ".mp4")
    store.blobs.put(uri, b"a film")
    return replace(output, index=1, uri=uri, facts=facts)


def test_failures_are_shown_with_their_reasons_and_found_by_them(opened: Opened) -> None:
    page = opened.page
    assert f"{len(FAILED)} failed" in opened.text("#reasons summary")
    page.click("#reasons summary")
    fault, error = ERRORS[FAILED[0] % len(ERRORS)]
    page.click(f'#reasons button:has-text("{error[:20]}")')
    opened.shows(1)
    assert error in opened.text(".is-failed .instead")

    page.click(".is-failed")

    page.wait_for_selector("#viewer-details .error")
    assert opened.text("#viewer-details .error") == f"{fault}: {error}"
    assert page.locator("#viewer-details ol li").count() == 2


def test_the_page_is_dark_or_light_as_the_system_has_it_or_as_one_likes(
    visit: Callable[..., Opened], index: Path
) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    dark, light = (
        visit(index, color_scheme=scheme).page.evaluate(ground) for scheme in ("dark", "light")
    )
    assert dark != light

    page = visit(index, color_scheme="dark").page
    page.click("#theme")
    assert page.evaluate(ground) == light
    page.reload()
    assert page.evaluate(ground) == light
    page.keyboard.press("t")
    assert page.evaluate(ground) == dark


def test_a_missing_file_and_a_missing_thumbnail_are_explained(
    visit: Callable[..., Opened], tmp_path: Path
) -> None:
    index = pictured(tmp_path / "store", Pictured(1))
    [thumbnail] = index.parent.rglob("*.webp")
    [picture] = (tmp_path / "store" / "images").rglob("*.png")
    thumbnail.unlink()
    picture.unlink()
    opened = visit(index)

    assert opened.text(".instead") == "the thumbnail is missing"
    opened.page.click(".tile")
    opened.page.wait_for_selector("#full .error")
    assert "Build the gallery anew" in opened.text("#full .error")
    assert all("ERR_FILE_NOT_FOUND" in trouble for trouble in opened.troubles)
    opened.troubles.clear()


def test_a_page_that_was_built_anew_meanwhile_says_so(
    visit: Callable[..., Opened], tmp_path: Path
) -> None:
    index = pictured(tmp_path / "store", Pictured(1))
    opened = visit(index)
    for path in index.parent.glob("page-*/details-*.js"):
        path.unlink()

    opened.page.click(".tile")

    opened.page.wait_for_selector("#viewer-details .error")
    assert "Reload" in opened.text("#viewer-details .error")
    opened.troubles.clear()


def test_everything_has_a_name_for_those_who_do_not_see_it(opened: Opened) -> None:
    opened.page.click(".tile")
    opened.page.wait_for_selector("#again")

    nameless = opened.page.evaluate(NAMELESS)

    assert nameless == []
    assert re.search(r"lang=.en", opened.page.content()[:200])
    assert opened.page.locator('.tile[tabindex="0"]').count() == 1


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """A web server over what there is in a folder; its address."""
    handler = partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Nobody reads it."""


def test_images_come_from_where_their_links_lead_and_from_no_other_place(
    visit: Callable[..., Opened], tmp_path: Path, served: str
) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    write_pictured(store, Pictured(2))
    index = built(store, tmp_path / "page", link=lambda key: f"{served}/store/{key}?signed=1")

    opened = visit(index)
    opened.page.click(".tile")
    opened.page.wait_for_selector("#full img")

    [picture] = opened.page.locator("#full img").all()
    assert picture.evaluate("(one) => one.decode().then(() => one.naturalWidth)") == 256
    elsewhere = f"{served.replace('127.0.0.1', 'localhost')}/store/nightkiln-store.json"
    loads = "(one, to) => new Promise((done) => { one.onerror = done; one.src = to; })"
    picture.evaluate(loads, elsewhere)
    assert "violates" in "".join(opened.troubles)
    opened.troubles.clear()


def test_a_web_server_can_hand_out_the_same_page(
    visit: Callable[..., Opened], tmp_path: Path, served: str
) -> None:
    index = pictured(tmp_path / "store", Pictured(2))
    address = f"{served}/{index.relative_to(tmp_path)}"

    opened = visit(address)

    assert opened.shown() == "2 shown"
    assert {urlsplit(one).netloc for one in opened.asked} == {urlsplit(served).netloc}
    opened.troubles = [one for one in opened.troubles if "404" not in one]  # a favicon


@pytest.mark.parametrize("width", [360, 1000])
def test_nothing_is_wider_than_the_window(
    visit: Callable[..., Opened], index: Path, width: int
) -> None:
    page = visit(index).page
    page.set_viewport_size({"width": width, "height": 640})
    page.keyboard.press("f")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("grid.columns") >= 2
