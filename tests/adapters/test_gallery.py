"""A gallery's files: what strangers wrote harms nothing, and a stop at any time loses nothing."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nightkiln.core.errors import BadInput, StoreUnusable
from nightkiln.gallery import (
    Built,
    Sources,
    Tile,
    build_gallery,
    origin_of,
    read_facts,
    read_tiles,
    relative_link,
)
from nightkiln.gallery.again import quoted, render_again
from nightkiln.gallery.page import FIELDS, asset, index_html, script
from nightkiln.gallery.thumbnails import SIDE_PX, thumbnail
from nightkiln.store.store import Store
from nightkiln.testing.pictured import SEEDS, Pictured, write_pictured

JOBS = 48
HARM = "</script><script>alert(1)</script>\"'`&<!--\u2028\u2029]]>\\"
TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)
VALUES = st.recursive(TEXTS | st.integers() | st.none(), st.lists, max_leaves=8)


def nothing(_tile: Tile) -> str:
    return ""


def built(
    store: Store, folder: Path, *, where: str = "true", tiles_max: int = 50_000, **sources: Any
) -> Built:
    usual = {"read": store.blobs.get, "link": relative_link(store.root, folder)}
    with store.connect() as con:
        facts = read_facts(con, "night", where=where)
        tiles = read_tiles(con, "night", where=where, tiles_max=tiles_max)
        all_sources = Sources(**{**usual, "again": nothing, "progress": lambda _: None, **sources})
        return build_gallery("night", facts, tiles, folder, all_sources)


def page_folder(folder: Path) -> Path:
    [page] = folder.glob("page-*")
    return page


def handed_over(folder: Path, kind: str) -> list[Any]:
    """What the page's scripts hand over, read as the JSON that it also is."""
    values = []
    for path in sorted(page_folder(folder).glob(f"{kind}*.js")):
        text = path.read_text(encoding="ascii")
        found = re.fullmatch(rf'take\("{kind}",\d+,(.*)\);\n', text)
        assert found is not None
        values.append(json.loads(found[1]))
    return values


def tiles_of(folder: Path) -> list[dict[str, Any]]:
    return [
        dict(zip(FIELDS, row, strict=True)) for part in handed_over(folder, "tiles") for row in part
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store.open(str(tmp_path_factory.mktemp("gallery") / "a #1 store"), create=True)
    write_pictured(made, Pictured(JOBS, stranger=HARM))
    return made


def test_every_job_has_a_tile_and_every_image_a_thumbnail(store: Store, tmp_path: Path) -> None:
    done = built(store, tmp_path)

    tiles = tiles_of(tmp_path)
    failed = [tile for tile in tiles if tile["status"] == "failed"]
    assert (done.tiles, len(tiles), done.thumbnails_made) == (JOBS, JOBS, JOBS - len(failed))
    assert failed
    assert all(tile["thumb"] is None and tile["error"] for tile in failed)
    for tile in tiles:
        if tile["thumb"] is not None:
            name = f"thumbnails/{tile['thumb'][:2]}/{tile['thumb']}.webp"
            with Image.open(tmp_path / name) as small:
                assert max(small.size) <= SIDE_PX


def test_seeds_of_a_prompt_are_together_and_alike_and_exact(store: Store, tmp_path: Path) -> None:
    built(store, tmp_path)

    tiles = tiles_of(tmp_path)
    for first in range(0, JOBS, SEEDS):
        some = tiles[first : first + SEEDS]
        assert len({(tile["prompt"], tile["alike"]) for tile in some}) == 1
        seeds = [int(tile["seed"]) for tile in some]
        assert seeds == sorted(set(seeds))
    assert len({tile["alike"] for tile in tiles}) == JOBS / SEEDS
    assert any(int(tile["seed"]) > 2**63 for tile in tiles)


def test_links_lead_from_the_page_to_the_files_whatever_folders_are_called(
    store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "50% of #2?"

    built(store, folder)

    links = [one["link"] for part in handed_over(folder, "details") for one in part if one["link"]]
    assert links
    for link in links:
        assert "#" not in link
        assert (folder / unquote(link)).is_file()


def test_a_link_can_be_anything_and_the_page_may_load_from_there_alone(
    store: Store, tmp_path: Path
) -> None:
    done = built(store, tmp_path, link=lambda key: f"https://s3.example:9000/b/{key}?X-Amz-S=1")

    text = done.index.read_text()
    assert "img-src &#x27;self&#x27; file: https://s3.example:9000;" in text
    assert origin_of("images/x.png") is None


def test_a_second_build_makes_no_thumbnail_twice_and_changes_nothing(
    store: Store, tmp_path: Path
) -> None:
    first = built(store, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    second = built(store, tmp_path)

    assert (second.thumbnails_made, second.thumbnails_kept) == (0, first.thumbnails_made)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.nights
@pytest.mark.parametrize("reads", [0, 1, 20])
def test_a_build_that_is_stopped_leaves_the_page_of_before_and_its_thumbnails(
    store: Store, tmp_path: Path, reads: int
) -> None:
    built(store, tmp_path, where="status = 'failed'")
    before = (tmp_path / "index.html").read_bytes()
    numbers = count(1)  # of what threads read: handed out one at a time

    def fails(key: str) -> bytes:
        if next(numbers) > reads:
            raise StoreUnusable("no space left on device")
        return store.blobs.get(key)

    with pytest.raises(StoreUnusable):
        built(store, tmp_path, read=fails)

    assert (tmp_path / "index.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".page-")] == []
    again = built(store, tmp_path)
    assert again.thumbnails_kept == reads
    assert page_folder(tmp_path).name.encode() in again.index.read_bytes()


def test_the_page_of_before_is_gone_once_there_is_another(store: Store, tmp_path: Path) -> None:
    built(store, tmp_path, where="status = 'failed'")
    before = page_folder(tmp_path)

    built(store, tmp_path)

    assert page_folder(tmp_path) != before


def test_what_is_no_image_missing_or_damaged_has_no_thumbnail_and_stops_nothing(
    store: Store, tmp_path: Path
) -> None:
    numbers = count(1)

    def reads(key: str) -> bytes:
        number = next(numbers)
        if number == 1:
            raise KeyError(key)
        whole = store.blobs.get(key)
        return {2: b"", 3: whole[: len(whole) // 2], 4: b"GIF89a"}.get(number, whole)

    done = built(store, tmp_path, read=reads)

    assert (done.without_thumbnail, done.tiles) == (4, JOBS)


def test_a_condition_chooses_jobs_and_a_wrong_one_is_explained(
    store: Store, tmp_path: Path
) -> None:
    assert built(store, tmp_path, where="challenge < 2").tiles == 2 * SEEDS
    with pytest.raises(BadInput, match="--where"):
        built(store, tmp_path, where="no_such_column = 1")


def test_what_is_left_out_is_counted(store: Store, tmp_path: Path) -> None:
    assert built(store, tmp_path, tiles_max=10).tiles == 10

    [head] = handed_over(tmp_path, "batch")
    assert (head["tiles"], head["shown"]) == (JOBS, 10)


class Scripts(HTMLParser):
    """What a page runs: elements by name, and attributes that would run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[dict[str, str | None]] = []
        self.events: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.scripts.append(dict(attrs))
        self.events += [name for name, _ in attrs if name.startswith("on") or name == "style"]


@given(title=TEXTS)
def test_no_title_brings_markup_into_the_page(title: str) -> None:
    usual, found = (
        Scripts(index_html(one, "page-0123456789abcdef", "bm9uY2U=", ()))
        for one in ("night", title + HARM)
    )

    assert found.scripts == usual.scripts
    assert found.events == []
    assert all(one["nonce"] == "bm9uY2U=" and "src" in one for one in found.scripts)


@given(value=VALUES)
def test_no_value_ends_a_script_or_a_line_and_all_arrive(value: Any) -> None:
    text = script("tiles", 0, [value, HARM])

    assert text.isascii()
    assert not set("<>&") & set(text)
    assert text.count("\n") == 1
    assert json.loads(text[len('take("tiles",0,') : -len(");\n")]) == [value, HARM]


def test_everything_that_others_wrote_is_a_value_of_an_array_never_a_key(
    store: Store, tmp_path: Path
) -> None:
    built(
        store,
        tmp_path,
        again=lambda tile: render_again(tile, catalog=HARM, store=HARM, batch="night"),
    )

    def keys(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from value
        for one in value.values() if isinstance(value, dict) else value:
            if isinstance(one, dict | list):
                yield from keys(one)

    kinds = ("batch", "tiles", "details")
    found = {key for kind in kinds for key in keys(handed_over(tmp_path, kind))}
    assert found
    assert all(re.fullmatch("[a-z_]+", key) for key in found)
    told = json.dumps(handed_over(tmp_path, "tiles"), ensure_ascii=False)
    assert json.dumps(HARM, ensure_ascii=False)[1:-1] in told


@settings(max_examples=30)
@given(words=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"))))
def test_a_shell_reads_a_command_as_it_was_meant_and_it_shows_no_hidden_letter(
    words: Sequence[str],
) -> None:
    command = " ".join(["printf", r"'%s\0'", "''", *(quoted(word) for word in words)])

    assert all(letter.isprintable() for letter in command)
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[1:-1] == list(words)


@pytest.mark.parametrize(
    "word",
    [
        "'; echo harmed; rm -rf ~ #",
        "a\nb'; echo harmed; 'c",
        "a\n\\'; echo harmed; '\\",
        "$(echo harmed) `echo harmed` !! ${HOME}",
        "\n$(echo harmed)`echo harmed`'\n'; echo harmed",
    ],
)
@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_no_shell_carries_out_what_stands_in_a_prompt(shell: str, word: str) -> None:
    command = ["true", quoted(f"prompt={word}")]

    done = subprocess.run([shell, "-c", " ".join(command)], capture_output=True, check=True)

    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.parametrize("value", ["a\0b", "derived", "f" * 64, "f" * 64 + ".png", None, [1]])
def test_what_no_command_line_can_hold_is_rendered_again_by_its_job_id(
    store: Store, value: Any
) -> None:
    with store.connect() as con:
        tile = next(read_tiles(con, "night", where="true"))

    command = render_again(
        replace(tile, params={"prompt": value}), catalog="c", store="s", batch="b"
    )

    where = f"job_id = '{tile.job_id}'"
    words = ["nightkiln", "retry", "c", "--name", "b", "--store", "s", "--force", "--where", where]
    assert shlex.split(command) == words


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
        *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
        *(("GIF", mode) for mode in ("P", "L")),
    ],
)
def test_pictures_of_all_kinds_become_small(kind: str, mode: str) -> None:
    sink = io.BytesIO()
    Image.new("RGB", (800, 200), "teal").convert("L").convert(mode).save(sink, kind)

    small = thumbnail(sink.getvalue())

    assert small is not None
    with Image.open(io.BytesIO(small)) as found:
        assert (found.format, found.size) == ("WEBP", (256, 64))


def test_a_small_picture_is_not_blown_up_and_one_that_lies_on_its_side_stands_up() -> None:
    sink = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (40, 20)).save(sink, "JPEG", exif=exif)

    small = thumbnail(sink.getvalue())

    assert small is not None
    with Image.open(io.BytesIO(small)) as found:
        assert found.size == (20, 40)


def test_a_relative_link_never_leads_out_of_the_store(tmp_path: Path) -> None:
    link = relative_link(tmp_path / "store", tmp_path / "store" / "gallery" / "night")

    assert link("images/night/x.png") == "../../images/night/x.png"
    with pytest.raises(StoreUnusable):
        link("../secret")


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_colour_of_text_can_be_read_on_every_ground(theme: int) -> None:
    found = re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", asset("gallery.css").decode())
    colours = {name: _luminance(pair[theme]) for name, *pair in found}

    def contrast(one: str, other: str) -> float:
        high, low = sorted((colours[one], colours[other]), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for ground in ("ground", "panel"):
        for text in ("ink", "muted", "accent", "failed", "marked"):
            assert contrast(text, ground) >= 4.5, (text, ground)
        assert contrast("edge", ground) >= 3, ground
