"""``nightkiln gallery``: what it builds, and that the commands on the page do what they say."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from typer.testing import CliRunner, Result

from nightkiln import cli
from nightkiln.core.errors import BadInput, StoreUnusable
from nightkiln.gallery import read_tiles
from nightkiln.gallery.again import render_again
from nightkiln.store.store import Store
from nightkiln.testing.comfyui.process import stand_in_process
from nightkiln.testing.environ import environ
from nightkiln.testing.pictured import Pictured, write_pictured
from nightkiln.testing.s3_server import BUCKET, S3Server
from nightkiln.testing.samples import write_catalog

JOBS = 12


def called(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def told(*arguments: str) -> dict[str, Any]:
    result = called(*arguments, "--json")
    assert result.exit_code == 0, result.output
    [line] = result.stdout.splitlines()
    return dict(json.loads(line))


def details(index: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in sorted(index.parent.glob("page-*/details-*.js")):
        found += json.loads(path.read_text()[len('take("details",0,') : -len(");\n")])
    return found


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    write_pictured(Store.open(str(folder), create=True), Pictured(JOBS))
    return folder


def test_a_gallery_lies_in_the_store_and_moves_with_it(store: Path) -> None:
    result = called("gallery", "nig", "--store", str(store))

    assert result.exit_code == 0, result.output
    address = result.stdout.split()[-1]
    index = Path(unquote(urlsplit(address).path))
    assert index == store / "gallery" / "night" / "index.html"
    moved = store.rename(store.parent / "elsewhere")
    folder = moved / "gallery" / "night"
    links = [one["link"] for one in details(folder / "index.html") if one["link"]]
    assert links
    assert all((folder / link).is_file() for link in links)


def test_programs_are_told_what_was_built_and_a_second_time_is_little_work(
    store: Path, tmp_path: Path
) -> None:
    arguments = ("gallery", "night", "--store", str(store), "--to", str(tmp_path / "page"))

    first, second = told(*arguments), told(*arguments)

    assert Path(first["index"]) == tmp_path / "page" / "index.html"
    assert (first["tiles"], first["thumbnails_made"], first["left_out"]) == (JOBS, JOBS - 1, 0)
    assert (second["thumbnails_made"], second["thumbnails_kept"]) == (0, JOBS - 1)


def test_a_condition_chooses_what_is_shown(store: Path) -> None:
    only = ("gallery", "night", "--store", str(store), "--where")

    assert told(*only, "status = 'failed'")["tiles"] == 1
    assert told(*only, "challenge = 1")["tiles"] == 4


@pytest.mark.parametrize(
    ("where", "shown"),
    [("status = 'FAILED'", 1), ("fault = 'UNKNOWN'", 1), ("status = 'done' -- the good ones", 11)],
)
def test_a_condition_may_be_written_as_for_retry(store: Path, where: str, shown: int) -> None:
    assert told("gallery", "night", "--store", str(store), "--where", where)["tiles"] == shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("noon",), "one of: night"),
        (("night", "--where", "no_such = 1"), "view jobs"),
        (("night", "--where", "false"), "chooses no job"),
        (("night", "--catalog", "/no/such/folder"), "no such folder"),
    ],
)
def test_what_cannot_be_built_is_explained(
    store: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = called("gallery", *arguments, "--store", str(store))

    assert isinstance(result.exception, BadInput)
    assert said in str(result.exception)
    assert not (store / "gallery").exists()


def test_a_place_that_cannot_be_written_is_named(store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    result = called("gallery", "night", "--store", str(store), "--to", str(tmp_path / "file" / "x"))

    assert isinstance(result.exception, StoreUnusable)
    assert "file" in str(result.exception)


@pytest.mark.parametrize("seeds", [pytest.param(1, marks=pytest.mark.nights), 3])
def test_the_command_on_the_page_renders_the_very_same_job_again(
    tmp_path: Path, seeds: int
) -> None:
    rows = [
        {"id": n, "prompt": f'it\'s "{n}"\n$HOME `{n}` \\ \u202e', "seed": 2**62 - 1 - 10 * n}
        for n in range(3)
    ]
    catalog = write_catalog(tmp_path / "catalog", rows, variants={"seeds": seeds})
    place = ("--store", str(tmp_path / "store"))
    with stand_in_process() as worker:
        there = ("--worker-url", worker.url)
        ran = called("run", str(catalog), *place, *there, "--name", "night")
        assert ran.exit_code == 0, ran.output
        index = Path(told("gallery", "night", *place, "--catalog", str(catalog))["index"])
        shown = dict(details(index)[1]["params"])
        command = _as_bash_reads(details(index)[1]["again"])

        again = called(*command[1:], *there, "--name", "again")

    assert again.exit_code == 0, again.output
    with Store.open(str(tmp_path / "store")).connect() as con:
        jobs = "select batch, job_id from jobs where prompt = ? and seed = ? order by batch"
        [second, first] = con.execute(jobs, [shown["prompt"], int(shown["seed"])]).fetchall()
        [rendered] = con.execute("select count(*) from jobs where batch = 'again'").fetchall()
    assert (first[0], second[0]) == ("night", "again")
    assert first[1] == second[1]
    assert rendered == (seeds,)


@pytest.mark.nights
def test_exported_marks_and_the_job_id_of_a_tile_are_what_retry_takes(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "catalog", 3)
    place = ("--store", str(tmp_path / "store"))
    with stand_in_process() as worker:
        there = ("--worker-url", worker.url)
        called("run", str(catalog), *place, *there, "--name", "night")
        with Store.open(str(tmp_path / "store")).connect() as con:
            tiles = list(read_tiles(con, "night", where="true"))
        marks = tmp_path / "marks-night.txt"
        marks.write_text("".join(f"{tile.job_id}\n" for tile in tiles[1:]))  # as the page does
        again = called(
            *("retry", str(catalog), *place, *there, "--name", "night", "--force"),
            *("--jobs", str(marks)),
        )
        unsayable = replace(tiles[0], params={"image": "f" * 64})
        command = render_again(unsayable, catalog=str(catalog), store=place[1], batch="night")
        alone = called(*_as_bash_reads(command)[1:], *there)

    assert (again.exit_code, alone.exit_code) == (0, 0), again.output + alone.output
    with Store.open(str(tmp_path / "store")).connect() as con:
        rendered = con.execute("select epoch, count(*) from jobs group by 1 order by 1").fetchall()
    assert rendered == [(2, 2), (3, 1)]


@pytest.mark.s3
def test_a_store_in_s3_has_a_page_here_with_addresses_that_are_signed_and_end(
    s3: S3Server, tmp_path: Path
) -> None:
    uri = f"s3://{BUCKET}/tests/{uuid.uuid4().hex}"
    store = Store.open(uri, create=True, s3=s3.access, state=tmp_path / "state")
    write_pictured(store, Pictured(JOBS))
    with environ(s3.environment), contextlib.chdir(tmp_path):
        built = told("gallery", "night", "--store", uri, "--links-last", "2")

    assert Path(built["index"]) == tmp_path / "gallery-night" / "index.html"
    assert built["thumbnails_made"] == JOBS - 1
    links = [one["link"] for one in details(Path(built["index"])) if one["link"]]
    assert len(links) == JOBS - 1
    assert all("X-Amz-Expires=7200&" in link for link in links)
    assert f"img-src &#x27;self&#x27; file: {s3.url};" in Path(built["index"]).read_text()
    picture = httpx.get(links[0], trust_env=False)
    digest = hashlib.sha256(picture.content).hexdigest()
    with store.connect() as con:
        known = con.execute("select sha256 from outputs where sha256 = ?", [digest]).fetchall()
    assert known == [(digest,)]
    other = links[0].replace(links[0].split("?")[0], links[1].split("?")[0])
    assert httpx.get(other, trust_env=False).status_code == 403


def _as_bash_reads(command: str) -> list[str]:
    """The words of a command, by asking bash."""
    shown = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True, text=True
    )
    words = shown.stdout.split("\0")[:-1]
    assert words[0] == "nightkiln"
    return words
