"""``nightkiln try`` as people and programs call it, and what a quote then goes by."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from nightkiln import cli
from nightkiln.core.errors import BadInput, StoreUnusable
from nightkiln.testing.comfyui.process import stand_in_process
from nightkiln.testing.samples import write_catalog

GPU = "NVIDIA GeForce RTX 4090"


@pytest.fixture(scope="module")
def worker() -> Iterator[str]:
    with stand_in_process("--gpu-name", GPU, "--render-s", "0.02") as process:
        yield process.url


@pytest.fixture
def catalog(tmp_path: Path) -> str:
    return str(write_catalog(tmp_path / "foxes", 40))


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def called(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments), env=environment)


def told(result: Result) -> dict[str, Any]:
    """The last thing that a program is told."""
    last: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return last


def tried(catalog: str, store: str, worker: str, *more: str) -> dict[str, Any]:
    result = called("try", catalog, "--worker-url", worker, "--store", store, "--json", *more)
    assert result.exit_code == 0, result.output
    return told(result)


def quoted(catalog: str, store: str) -> dict[str, Any]:
    return told(called("quote", catalog, "--by", "1h", "--budget", "5", "--store", store, "--json"))


def rows_of(store: str, batch: object) -> list[int]:
    sql = f"select row from jobs where batch = '{batch}' order by row"  # noqa: S608 - ours
    result = called("query", sql, "--store", store, "--json")
    return [json.loads(line)["row"] for line in result.stdout.splitlines()]


def test_a_spread_of_rows_is_rendered_measured_and_shown(
    catalog: str, store: str, worker: str
) -> None:
    trial = tried(catalog, store, worker, "--rows", "5")

    assert rows_of(store, trial["batch"]) == [0, 9, 19, 29, 39]
    assert (trial["rows"], trial["rows_of"], trial["catalog_jobs"]) == (5, 40, 40)
    assert trial["jobs_measured"] == 5
    assert trial["workers"] == [f"{GPU} at {worker.removeprefix('http://')}"]
    low, high = trial["seconds_per_job_min"], trial["seconds_per_job_max"]
    assert 0 < low <= trial["seconds_per_job_p50"] <= high
    finish_s = trial["catalog_finish_s_by_machines"]
    mean_s, startup_s = trial["seconds_per_job_mean"], trial["startup_s"]
    assert finish_s["1"] == pytest.approx(startup_s + 40 * mean_s)
    assert finish_s["16"] == pytest.approx(startup_s + 3 * mean_s)
    with Image.open(trial["contact_sheet"]) as sheet:
        assert sheet.width > sheet.height > 500


def test_a_run_does_not_render_again_what_was_tried(catalog: str, store: str, worker: str) -> None:
    tried(catalog, store, worker)

    run = told(called("run", catalog, "--worker-url", worker, "--store", store, "--json"))

    assert (run["done"], run["reused"], run["total"]) == (32, 8, 40)


@pytest.mark.nights
def test_a_quote_of_the_same_store_goes_by_what_was_measured(
    catalog: str, store: str, worker: str
) -> None:
    before = quoted(catalog, store)
    tried(catalog, store, worker)
    after = quoted(catalog, store)

    assert (before["basis"], before["measured"]) == ("market file", [])
    assert after["basis"] == "measured"
    [measured] = after["measured"]
    assert (measured["gpu"], measured["jobs"], measured["is_for_rent"]) == ("RTX 4090", 8, True)
    assert measured["measured_at"].startswith("20")
    assert after["seconds_per_job_by_gpu"]["RTX_4090"] < 0.5
    assert after["finish_s_p50"] < before["finish_s_p50"]


@pytest.mark.nights
def test_people_are_told_what_a_quote_and_a_rehearsal_go_by(
    catalog: str, store: str, worker: str
) -> None:
    tried(catalog, store, worker)
    given = ["--by", "1h", "--budget", "5", "--store", store]

    quote = called("quote", catalog, *given).stdout
    rehearsal = called("rehearse", catalog, *given, "--nights", "2").stdout

    for said in (quote, rehearsal):
        assert re.search(r"measured: 0\.\d\d s a job on RTX 4090 \(8 jobs, 20\d\d-", said)
        assert "give or take" in said
    assert "nights of market file ordinary (" in quote


@pytest.mark.nights
def test_a_processor_that_nobody_rents_out_is_named_and_not_used(catalog: str, store: str) -> None:
    with stand_in_process("--render-s", "0.02") as process:
        tried(catalog, store, process.url, "--rows", "2")

    told_to_programs = quoted(catalog, store)
    said = called("quote", catalog, "--by", "1h", "--budget", "5", "--store", store).stdout

    assert told_to_programs["basis"] == "measured elsewhere"
    assert told_to_programs["seconds_per_job_by_gpu"]["RTX_4090"] == 4.4
    assert "on CPU (2 jobs" in said
    assert "not for rent in this market" in said


@pytest.mark.nights
def test_the_same_trial_again_shows_the_same_and_renders_nothing(
    catalog: str, store: str, worker: str
) -> None:
    first, second = (tried(catalog, store, worker, "--rows", "3") for _ in range(2))
    anew = tried(catalog, store, worker, "--rows", "3", "--fresh")

    assert second == first
    assert anew["batch"] != first["batch"]
    assert anew["jobs_measured_earlier"] == 0


def test_what_a_run_has_rendered_is_shown_with_what_it_took_then(
    catalog: str, store: str, worker: str
) -> None:
    called("run", catalog, "--worker-url", worker, "--store", store, "--json")

    trial = tried(catalog, store, worker, "--rows", "4")

    assert (trial["jobs_measured"], trial["jobs_measured_earlier"]) == (4, 4)
    assert trial["seconds_per_job_p50"] > 0
    assert trial["startup_s"] is None


def test_one_worker_renders_also_where_two_are_named(catalog: str, store: str, worker: str) -> None:
    with stand_in_process("--gpu-name", "L4") as other:
        trial = tried(catalog, store, worker, "--worker-url", other.url)

    assert len(trial["workers"]) == 1


@pytest.mark.nights
def test_a_job_that_fails_is_explained_and_another_worker_gets_its_try(
    catalog: str, store: str, worker: str
) -> None:
    with stand_in_process("--fault", "error") as failing:
        arguments = ["try", catalog, "--store", store, "--rows", "2"]
        alone = called(*arguments, "--worker-url", failing.url)
        helped = called(*arguments, "--worker-url", failing.url, "--worker-url", worker, "--fresh")

    assert alone.exit_code == 1
    assert "failed         2: KSampler 5: ValueError: on purpose" in alone.stdout
    assert "nothing was measured" in alone.stdout
    assert "contact sheet  " in alone.stdout
    assert helped.exit_code == 0, helped.output


def test_people_see_seconds_cost_and_what_the_whole_catalog_would_take(
    catalog: str, store: str, worker: str
) -> None:
    said = called("try", catalog, "--worker-url", worker, "--store", store).stdout

    assert "tried 8 of 40 rows on NVIDIA GeForce RTX 4090 at " in said
    assert re.search(r"seconds a job  p50 0\.\d\d, mean 0\.\d\d, from 0\.\d\d to 0\.\d\d\n", said)
    assert "cost           0.00 USD" in said
    assert "whole catalog  40 jobs on machines like this: " in said
    assert f"nightkiln quote {catalog} --store {store}" in said


def test_a_deadline_of_the_settings_is_a_nights_and_no_trials(
    catalog: str, store: str, worker: str
) -> None:
    arguments = ["try", catalog, "--worker-url", worker, "--store", store, "--rows", "1"]

    assert called(*arguments, NIGHTKILN_BY="2020-01-01T07:00").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rows", "41"), "at most --rows 40"),
        (("--rows", "3", "--limit", "2"), "at most --rows 2"),
        (("--budget", "0"), "--budget"),
        (("--worker-url", "http://me:secret@gpu:1"), "without user and password"),
        (("--set", "colour=red"), "no such input"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_started(
    catalog: str, store: str, worker: str, arguments: tuple[str, ...], said: str
) -> None:
    result = called("try", catalog, "--worker-url", worker, "--store", store, *arguments)

    assert isinstance(result.exception, BadInput)  # exit code 2, by cli.main
    assert said in str(result.exception)
    assert not Path(store).exists()


@pytest.mark.parametrize("rows", ["0", "-1", "201", "many"])
def test_a_number_of_rows_that_is_none_is_refused(catalog: str, rows: str) -> None:
    result = called("try", catalog, "--rows", rows)

    assert result.exit_code == 2
    assert "--rows" in result.stderr


def test_without_a_worker_it_says_how_to_name_one(catalog: str, store: str) -> None:
    result = called("try", catalog, "--store", store)

    assert isinstance(result.exception, BadInput)
    assert "--worker-url http://" in str(result.exception)


def test_a_store_that_is_damaged_is_not_taken_for_none(catalog: str, tmp_path: Path) -> None:
    (tmp_path / "nightkiln-store.json").write_text("{")

    result = called("quote", catalog, "--by", "1h", "--budget", "5", "--store", str(tmp_path))

    assert isinstance(result.exception, StoreUnusable)


@pytest.mark.nights
def test_a_signal_ends_a_trial_in_order_and_shows_what_is_made(catalog: str, store: str) -> None:
    command = [sys.executable, "-m", "nightkiln", "try", catalog, "--store", store]
    with (
        stand_in_process("--render-s", "1") as slow,
        subprocess.Popen(
            [*command, "--worker-url", slow.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr is not None
        assert any("is ready" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)

    assert process.returncode == 3
    assert "stopped by SIGINT" in said
    assert "tried 8 of 40 rows on cpu at " in said
    assert list(Path(store).glob("contact-sheet-sample-try-*.png"))
