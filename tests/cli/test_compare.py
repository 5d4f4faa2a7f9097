"""``nightkiln compare`` as people and programs call it, with and without anybody to ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from nightkiln import cli
from nightkiln.core.errors import BadInput
from nightkiln.testing.comfyui.process import stand_in_process
from nightkiln.testing.samples import write_catalog
from tests.cli.desk import Desk

GPU = "NVIDIA GeForce RTX 4090"
MODAL_L40S_USD_H = 3600 * (0.000542 + 2 * 0.0000131 + 16 * 0.00000222)


@pytest.fixture(scope="module")
def worker() -> Iterator[str]:
    with stand_in_process("--gpu-name", GPU, "--render-s", "0.02") as process:
        yield process.url


@pytest.fixture
def catalog(tmp_path: Path) -> str:
    return str(write_catalog(tmp_path / "foxes", 400, needs={"vram_gb": 24}))


def called(*arguments: str, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(cli.app, ["compare", *arguments])


def told(catalog: str, *more: str) -> dict[str, Any]:
    result = called(catalog, "--json", *more)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def rows(found: dict[str, Any], provider: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["gpu"], row["kind"]): row for row in found["rows"] if row["provider"] == provider}


def test_without_keys_vast_is_a_market_file_and_modal_its_price_list(catalog: str) -> None:
    found = told(catalog)

    assert {(row["provider"], row["basis_price"]) for row in found["rows"]} == {
        ("vast", "market"),
        ("modal", "listed"),
    }
    assert {row["basis_seconds"] for row in found["rows"]} == {"table"}
    assert found["prices"]["vast"].startswith("market file ordinary (")
    assert found["prices"]["modal"].startswith("prices of 2026-")
    assert (found["jobs"], found["notes"]) == (400, [])


def test_a_container_pays_for_its_start_its_work_and_its_idle_window(catalog: str) -> None:
    row = rows(told(catalog), "modal")["L40S", "serverless"]

    assert row["machines"] == 1
    assert row["finish_s"] == pytest.approx(60 + 400 * 4.8)
    per_1000 = (60 + 400 * 4.8 + 15) * MODAL_L40S_USD_H / 3600 / 400 * 1000
    assert row["usd_per_1000"] == pytest.approx(per_1000, rel=1e-4)
    assert row["startup_fraction"] == pytest.approx(60 / (60 + 400 * 4.8 + 15))


def test_what_has_too_little_memory_is_not_compared(catalog: str) -> None:
    vast = {gpu for gpu, _ in rows(told(catalog), "vast")}

    assert "RTX 4090" in vast
    assert "RTX 4080" not in vast


def test_the_same_question_has_the_same_answer(catalog: str) -> None:
    assert told(catalog, "--by", "2h") == told(catalog, "--by", "2h")


def test_people_see_lines_under_what_they_rest_on_and_what_would_be_better(catalog: str) -> None:
    said = called(catalog, "--by", "2h", "--own-hour", "0.5").stdout

    assert "400 jobs within 2h00m" in said
    assert (
        "seconds: the table of 2026-11-21, of another workflow; prices: a dated price list" in said
    )
    for column in ("USD/1k", "finish", "start-up", "storage", "network", "idle", "your time"):
        assert column in said
    lines = [line for line in said.splitlines() if line.lstrip().startswith("1 ")]
    assert [line.split()[1] for line in lines] == ["modal", "vast"], "one first place a basis"
    assert all("table, " in line for line in lines), "a line says what it rests on"
    assert "nightkiln try CATALOG" in said
    assert "with VAST_API_KEY set" in said
    assert "modal B300" in said


def test_a_chart_is_drawn(catalog: str, tmp_path: Path) -> None:
    told(catalog, "--chart", str(tmp_path / "compared.png"))

    with Image.open(tmp_path / "compared.png") as image:
        assert len(image.convert("RGB").getcolors(10**6) or ()) > 4, "bars of several parts"


def test_own_workers_go_by_what_was_measured_and_by_their_electricity(
    catalog: str, worker: str, tmp_path: Path
) -> None:
    store = str(tmp_path / "store")
    arguments = ["try", catalog, "--rows", "4", "--worker-url", worker, "--store", store]
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0

    found = told(
        catalog, "--worker-url", worker, "--store", store, "--kwh", "0.30", "--watts", "500"
    )

    own = rows(found, "local")["RTX 4090", "local"]
    assert (own["basis_seconds"], own["basis_price"]) == ("measured", "own")
    usd_per_s = 0.30 * 0.5 / 3600
    assert own["usd_per_1000"] == pytest.approx(own["finish_s"] * usd_per_s / 0.4)
    basis = {row["gpu"]: row["basis_seconds"] for row in found["rows"]}
    assert (basis["RTX 3090"], basis["L40S"]) == ("carried", "carried")
    assert found["measured"][0]["jobs"] == 4


def test_a_worker_says_which_gpu_it_has(catalog: str, worker: str) -> None:
    own = rows(told(catalog, "--worker-url", worker, "--provider", "local"), "local")

    assert own["RTX 4090", "local"]["basis_seconds"] == "table"
    assert own["RTX 4090", "local"]["startup_fraction"] is None, "nothing is billed"


def test_nobody_is_asked_offline(catalog: str, desk: Desk) -> None:
    found = desk.lines("compare", catalog, "--offline", "--provider", "vast")[0]

    assert {row["basis_price"] for row in found["rows"]} == {"market"}
    assert not desk.market.requests


def test_with_a_key_offers_are_todays_and_nothing_is_rented(catalog: str, desk: Desk) -> None:
    found = desk.lines("compare", catalog)[0]

    vast = rows(found, "vast")
    assert {row["basis_price"] for row in vast.values()} == {"live"}
    assert {kind for _, kind in vast} == {"on_demand", "interruptible"}
    assert {row["basis_price"] for row in rows(found, "modal").values()} == {"listed"}
    assert " offers at 20" in found["prices"]["vast"]
    assert not desk.market.machines()
    assert {request.endpoint for request in desk.market.requests} == {"search"}


def test_where_the_service_refuses_the_market_file_stands_in_and_that_is_said(
    catalog: str, desk: Desk
) -> None:
    found = desk.lines("compare", catalog, NIGHTKILN_VAST_API_KEY="a-wrong-key")[0]

    assert {row["basis_price"] for row in rows(found, "vast").values()} == {"market"}
    [note] = found["notes"]
    assert "key" in note


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--provider", "nowhere"), "there is no provider 'nowhere'"),
        (("--own-hour", "-1"), "makes no sense"),
        (("--kwh", "nan"), "makes no sense"),
        (("--watts", "1e9"), "makes no sense"),
        (("--by", "soon"), "is no time"),
        (("--market", "nowhere"), "no such market"),
        (("--chart", "compared.jpeg"), "no kind of picture"),
        (("--by", "10s"), "not up in time"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    catalog: str, arguments: tuple[str, str], said: str
) -> None:
    result = called(catalog, *arguments)

    assert isinstance(result.exception, BadInput)  # exit code 2, by cli.main
    assert said in str(result.exception)
