"""Rows by a query: of the catalog, of the store, and of last night's pictures."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from nightkiln import cli
from nightkiln.catalog import load_rows, scratch
from nightkiln.core.errors import BadInput
from nightkiln.observers import JsonLines
from nightkiln.preflight import tell_what_leaves
from nightkiln.providers.local import LocalProvider
from nightkiln.settings import load_settings
from nightkiln.store.store import Store
from nightkiln.testing.comfyui.process import stand_in_process
from nightkiln.testing.priced import PricedWorkers
from nightkiln.testing.samples import text_to_image, write_catalog
from nightkiln.wiring import chosen_catalog
from tests.asking import ask as asked

CATALOGS = Path(__file__).parents[2] / "catalogs"
PICKED = "FROM prompts WHERE from_job IN (FROM read_csv('{marks}', header = false))"


@pytest.fixture(scope="module")
def worker() -> Iterator[str]:
    with stand_in_process() as process:
        yield process.url


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    kinds = ("even", "odd")
    rows = [{"id": n, "prompt": f"prompt {n}", "kind": kinds[n % 2]} for n in range(4)]
    return write_catalog(tmp_path / "catalog", rows)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def call(command: str, catalog: Path, store: Path, *more: str) -> Result:
    arguments = [command, str(catalog), "--store", str(store), "--json"]
    return CliRunner().invoke(cli.app, [*arguments, *more])


def run(catalog: Path, store: Path, worker: str, *more: str) -> dict[str, Any]:
    result = call("run", catalog, store, "--worker-url", worker, *more)
    assert result.exit_code == 0, (result.output, result.exception)
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def ask(store: Path, sql: str) -> list[tuple[Any, ...]]:
    return asked(Store.open(str(store)), sql)


def test_a_query_chooses_rows_and_the_same_command_resumes(
    catalog: Path, store: Path, worker: str
) -> None:
    odd = ("--select", "FROM prompts WHERE kind = 'odd' -- the odd ones")

    first, again = run(catalog, store, worker, *odd), run(catalog, store, worker, *odd)
    whole = run(catalog, store, worker)

    assert (first["total"], first["done"]) == (2, 2)
    assert (again["batch"], again["outputs"]) == (first["batch"], 0)
    assert (whole["total"], whole["reused"]) == (4, 2)
    assert whole["batch"] != first["batch"]
    where = f"batch = '{first['batch']}'"
    assert ask(store, f"select id, kind from jobs where {where} order by id") == [  # noqa: S608
        (1, "odd"),
        (3, "odd"),
    ]


def test_a_query_may_ask_the_store_and_make_up_columns(
    catalog: Path, store: Path, worker: str
) -> None:
    run(catalog, store, worker, "--name", "night")
    sql = (
        "SELECT prompt || ', in fog' AS prompt, seed, j.job_id AS origin "
        "FROM jobs j JOIN store.batches USING (batch) WHERE batch = 'night' AND id < 2 ORDER BY id"
    )

    made = run(catalog, store, worker, "--select", sql, "--name", "fog")

    assert made["total"] == 2
    assert ask(
        store,
        "select a.prompt, a.seed = b.seed, a.kind is null from jobs a join jobs b "
        "on a.origin = b.job_id where a.batch = 'fog' order by 1",
    ) == [("prompt 0, in fog", True, True), ("prompt 1, in fog", True, True)]


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("DROP TABLE prompts", "not one SELECT"),
        ("SELECT 1 AS x; SELECT 2 AS x", "not one SELECT"),
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELECT 1 AS x", "has no column 'prompt'"),
        ("FROM prompts WHERE false", "holds no rows"),
    ],
)
def test_a_query_that_gives_no_rows_to_render_is_refused_at_once(
    catalog: Path, store: Path, sql: str, told: str
) -> None:
    refused = call("run", catalog, store, "--worker-url", "http://127.0.0.1:9", "--select", sql)

    assert isinstance(refused.exception, BadInput)
    assert told in str(refused.exception)
    assert not store.exists()


def test_a_store_is_asked_by_a_check_too(catalog: Path, store: Path, worker: str) -> None:
    run(catalog, store, worker)

    checked = call("check", catalog, store, "--select", "SELECT prompt FROM jobs")

    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["rows"] == 4


# Pictures of the store.


def small(store: Path, worker: str, *more: str) -> dict[str, Any]:
    """Upscale with a checkpoint that the stand-in has."""
    return run(CATALOGS / "upscale", store, worker, "--set", "steps=1", *more)


@pytest.mark.nights
def test_last_nights_pictures_are_made_larger_from_their_files_prompts_and_seeds(
    catalog: Path, store: Path, worker: str
) -> None:
    run(catalog, store, worker, "--name", "night")

    made = small(store, worker)
    checked = json.loads(call("check", CATALOGS / "upscale", store).stdout)

    assert checked["pictures_of_store"] == 4
    assert (made["total"], made["done"]) == (4, 4)
    found = ask(
        store,
        "select b.image, a.uri, a.prompt = b.prompt, a.seed = b.seed, b.from_batch, b.from_width "
        "from jobs a join jobs_upscale b on a.job_id = b.from_job",
    )
    assert len(found) == 4
    for digest, uri, *rest in found:
        assert digest == hashlib.sha256((store / uri).read_bytes()).hexdigest()
        assert rest == [True, True, "night", 64]
    again = small(store, worker)  # its own results are none of last night's
    assert (again["batch"], again["outputs"], again["total"]) == (made["batch"], 0, 4)


@pytest.mark.nights
def test_the_best_seeds_only_by_marks(
    catalog: Path, store: Path, worker: str, tmp_path: Path
) -> None:
    run(catalog, store, worker, "--name", "night")
    [(best,)] = ask(store, "select job_id from jobs where id = 2")
    (tmp_path / "marks.txt").write_text(f"{best}\n")

    made = small(store, worker, "--select", PICKED.format(marks=tmp_path / "marks.txt"))
    whole = small(store, worker)

    assert (made["total"], made["done"]) == (1, 1)
    assert (whole["total"], whole["reused"]) == (4, 1)


@pytest.mark.nights
@pytest.mark.parametrize(
    ("kind", "said"), [(PricedWorkers, ["4 pictures of this store"]), (LocalProvider, [])]
)
def test_pictures_that_go_to_machines_of_others_are_told_before_any_is_rented(
    catalog: Path, store: Path, worker: str, kind: type[LocalProvider], said: list[str]
) -> None:
    run(catalog, store, worker, "--name", "night")
    settings = load_settings(store=str(store))
    upscale = chosen_catalog(CATALOGS / "upscale", settings=settings)
    screen = io.StringIO()

    with scratch() as con:
        load_rows(con, upscale)
        asyncio.run(tell_what_leaves(con, upscale, [kind([worker])], JsonLines(screen)))

    told = [json.loads(line)["message"] for line in screen.getvalue().splitlines()]
    assert [message.partition(" are")[0] for message in told] == said


def test_without_a_store_there_is_nothing_to_upscale(store: Path) -> None:
    refused = call("check", CATALOGS / "upscale", store)

    assert refused.exit_code == 2
    assert "outputs" in refused.stdout


@pytest.mark.nights
@pytest.mark.parametrize(
    "key",
    ["results/dt=2026-01-31/x.parquet", "images/../nightkiln-store.json", "images/night/00/no.png"],
)
def test_nothing_but_images_that_are_there_can_be_taken_out_of_a_store(
    catalog: Path, store: Path, worker: str, tmp_path: Path, key: str
) -> None:
    run(catalog, store, worker)
    graph = text_to_image()
    graph["8"] = {"class_type": "LoadImage", "inputs": {"image": ""}, "_meta": {"title": "In"}}
    curious = write_catalog(
        tmp_path / "curious",
        [{"prompt": "mine now", "image": f"store://{key}"}],
        graph=graph,
        inputs={"prompt": "Positive Prompt.text", "image": {"to": "In.image", "kind": "file"}},
    )

    checked = call("check", curious, store)

    assert checked.exit_code == 2
    assert "is not in the store" in checked.stdout
