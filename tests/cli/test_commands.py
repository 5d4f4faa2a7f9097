"""The commands as people and programs call them."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from nightkiln import cli
from nightkiln.cli import query
from nightkiln.core.errors import BadInput, ClaimHeld, StoreUnusable
from nightkiln.testing.comfyui.process import stand_in_process
from nightkiln.testing.samples import write_catalog

KEY = "not-a-real-key-a9f3"


@pytest.fixture(scope="module")
def worker() -> Iterator[str]:
    with stand_in_process() as process:
        yield process.url


@pytest.fixture(scope="module")
def store(worker: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store in which one batch has run."""
    folder = tmp_path_factory.mktemp("cli")
    rows = [{"id": n, "prompt": f"a {n}", "category": n[0]} for n in ("ape", "ant", "bee")]
    catalog = write_catalog(folder / "catalog", rows)
    arguments = ["run", str(catalog), "--worker-url", worker, "--store", str(folder / "store")]
    result = called(*arguments, "--name", "night", "--json")
    assert result.exit_code == 0, result.output
    return str(folder / "store")


def called(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def every_command(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands that do something, by the words that call them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(every_command(typer.main.get_group(cli.app)))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_teaches_in_its_help(words: tuple[str, ...]) -> None:
    """By an example, and unless it cannot fail by what its exit codes mean."""
    said = " ".join(called(*words, "--help").stdout.split())

    assert f"Example: nightkiln {' '.join(words)}" in said
    assert "Exit codes: " in said or words[0] == "schema"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_option_is_explained_and_what_is_typed_has_a_name(words: tuple[str, ...]) -> None:
    for parameter in COMMANDS[words].params:
        assert parameter.help, parameter.name
        assert parameter.is_flag if parameter.metavar is None else True, parameter.name


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_can_answer_a_program(words: tuple[str, ...]) -> None:
    spelled = {name for parameter in COMMANDS[words].params for name in parameter.opts}

    assert "--json" in spelled or words[0] == "schema", "which prints nothing but JSON"


def test_help_names_the_settings_behind_the_options() -> None:
    """Square brackets would be taken for colours, and not be shown."""
    said = " ".join(called("run", "--help").stdout.split())

    assert "NIGHTKILN_STORE" in said
    assert "NIGHTKILN_WORKER_URLS" in said


def test_run_tells_programs_what_came_of_it(worker: str, tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "catalog", 4)

    result = called(
        "run", str(catalog), "--worker-url", worker, "--store", str(tmp_path / "s"), "--json",
        "--limit", "3", "--set", "negative=blurry",
    )  # fmt: skip

    outcome = lines(result)[-1]
    assert result.exit_code == 0
    assert (outcome["event"], outcome["total"], outcome["done"]) == ("outcome", 3, 3)
    rows = lines(
        called("query", "select negative from jobs", "--store", str(tmp_path / "s"), "--json")
    )
    assert rows == [{"negative": "blurry"}] * 3


def test_the_same_run_again_has_the_same_batch_and_does_nothing(
    worker: str, tmp_path: Path
) -> None:
    catalog = write_catalog(tmp_path / "catalog", 2)
    arguments = ["run", str(catalog), "--worker-url", worker, "--store", str(tmp_path / "s")]

    first, second = (lines(called(*arguments, "--json"))[-1] for _ in range(2))

    assert first["batch"] == second["batch"]
    assert str(first["batch"]).startswith("sample-")
    assert (first["outputs"], second["outputs"], second["done"]) == (2, 0, 2)


def test_run_without_a_worker_says_how_to_name_one(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "catalog", 1)

    result = called("run", str(catalog), "--store", str(tmp_path / "s"))

    assert isinstance(result.exception, BadInput)
    assert "--worker-url http://" in str(result.exception)
    assert not (tmp_path / "s").exists()


def test_an_address_with_a_password_is_refused_and_not_repeated(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "catalog", 1)

    result = called("run", str(catalog), "--worker-url", "http://me:secret@gpu:8188")

    assert isinstance(result.exception, BadInput)
    assert "secret" not in str(result.exception) + result.output


def test_to_a_folder_no_machine_can_bring_results_by_itself(worker: str, tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "catalog", 1)
    store = ("--store", str(tmp_path / "store"), "--upload", "direct")

    ran = called("run", str(catalog), "--worker-url", worker, *store)
    looked = called("doctor", *store, "--json")

    assert isinstance(ran.exception, BadInput)
    assert "to an object store only" in str(ran.exception)
    assert (looked.exit_code, "leave --upload out" in looked.stdout) == (2, True)


def test_query_shows_a_table(store: str) -> None:
    result = called(
        "query", "select status, count(*) as jobs from jobs group by 1", "--store", store
    )

    assert "done" in result.stdout
    assert "jobs" in result.stdout


def test_query_answers_by_the_catalogs_own_columns(store: str) -> None:
    sql = (
        "select category, count(*) as jobs, avg(gpu_seconds) >= 0 as timed "
        "from jobs group by 1 order by 1"
    )

    assert lines(called("query", sql, "--store", store, "--json")) == [
        {"category": "a", "jobs": 2, "timed": True},
        {"category": "b", "jobs": 1, "timed": True},
    ]


def test_query_writes_csv_with_a_header(store: str) -> None:
    result = called(
        "query", "select id, finished_at from jobs order by 1", "--store", store, "--csv"
    )

    header, *rows = csv.reader(io.StringIO(result.stdout))
    assert header == ["id", "finished_at"]
    assert [row[0] for row in rows] == ["ant", "ape", "bee"]


def test_the_examples_of_query_are_answered(store: str) -> None:
    examples = re.findall(r"Example: nightkiln (query .*)", query.query.__doc__ or "")

    assert len(examples) == 2
    for example in examples:
        result = called(*shlex.split(example.replace("--store results", f"--store {store}")))
        assert result.exit_code == 0, result.exception


def test_a_wrong_query_is_answered_with_what_there_is(store: str) -> None:
    result = called("query", "select * from images", "--store", store)

    assert isinstance(result.exception, BadInput)
    assert "outputs" in str(result.exception)


@pytest.mark.parametrize(
    "disguise", ["", "explain analyze ", "/* only looking */ explain analyze "]
)
def test_a_query_cannot_change_the_store(store: str, disguise: str) -> None:
    evil = f"{disguise}copy (select 1) to '{store}/results/evil.parquet'"

    result = called("query", evil, "--store", store)

    assert isinstance(result.exception, BadInput)
    assert not (Path(store) / "results" / "evil.parquet").exists()


def test_status_shows_how_a_batch_ended(store: str) -> None:
    [row] = lines(called("status", "night", "--store", store, "--json"))

    assert (row["state"], row["exit_code"], row["done"], row["left"]) == ("ended", 0, 3, 0)
    assert "night" in called("status", "--store", store).stdout


def test_status_of_a_store_that_is_not_there_says_so(tmp_path: Path) -> None:
    result = called("status", "--store", str(tmp_path / "nowhere"))

    assert isinstance(result.exception, StoreUnusable)


def test_stop_says_when_nobody_works_on_a_batch(store: str) -> None:
    result = called("stop", "night", "--store", store)

    assert result.exit_code == 2
    assert "nobody works on this batch" in result.stderr


def test_doctor_looks_at_everything_and_shows_no_key(
    worker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODAL_TOKEN_SECRET", KEY)

    result = called("doctor", "--store", str(tmp_path / "s"), "--worker-url", worker)

    assert result.exit_code == 0
    assert "is writable" in result.stdout
    assert "MODAL_TOKEN_SECRET: present" in result.stdout
    assert KEY not in result.output


def test_doctor_says_what_of_the_months_money_is_left(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = called("doctor", "--store", store)
    monkeypatch.setenv("NIGHTKILN_BUDGET_PER_MONTH", "150")
    limited = called("doctor", "--store", store)

    assert "month:" not in without.stdout
    assert "month: 0.00 of 150.00 USD are spent in " in limited.stdout
    assert "150.00 USD are left" in limited.stdout


def test_doctor_finds_a_worker_that_is_not_there(tmp_path: Path) -> None:
    with stand_in_process() as gone:
        url = gone.url

    result = called("doctor", "--store", str(tmp_path / "s"), "--worker-url", url)

    assert result.exit_code == 2
    assert "is ComfyUI running there?" in result.stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ClaimHeld("somebody has it", batch="night", owner="gpu:1", since_s=0.0), 2),
        (StoreUnusable("no space"), 3),
    ],
)
def test_errors_become_exit_codes(error: Exception, code: int) -> None:
    assert isinstance(error, ClaimHeld | StoreUnusable)
    assert cli._told(error, as_json=False) == code
