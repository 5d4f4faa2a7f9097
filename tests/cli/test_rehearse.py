"""``nightkiln rehearse`` and ``nightkiln quote`` as people and programs call them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from nightkiln import cli
from nightkiln.core.errors import BadInput
from nightkiln.testing.environ import environ
from nightkiln.testing.samples import write_catalog

PROMISED = {
    "nights",
    "deadline_met_fraction",
    "usd_per_1000",
    "usd_per_1000_fallback_only",
    "usd_per_1000_by_hand",
    "usd_per_1000_clairvoyant",
    "usd_p50",
    "usd_p90",
    "finish_s_p50",
    "finish_s_p90",
    "waste_fraction",
}


@pytest.fixture
def catalog(tmp_path: Path) -> str:
    """Forty different prompts, one of them twice: forty jobs."""
    rows = [{"id": str(n), "prompt": f"a fox in field {n % 40}"} for n in range(41)]
    return str(write_catalog(tmp_path / "foxes", rows))


def called(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def rehearsed(catalog: str, *more: str) -> dict[str, Any]:
    arguments = ["rehearse", catalog, "--by", "1h", "--budget", "5", "--nights", "2", "--json"]
    result = called(*arguments, *more)
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_a_program_is_told_all_that_is_promised(catalog: str) -> None:
    told = rehearsed(catalog)

    assert told.keys() >= PROMISED
    assert told["nights"] == 2
    assert told["jobs"] == 40, "what is asked for twice is rendered once"
    assert told["deadline_met_fraction"] == 1.0
    assert told["usd_per_1000_clairvoyant"] <= told["usd_per_1000"]
    assert 0 < told["waste_fraction"] < 1


def test_a_rehearsal_that_is_called_again_says_the_same(catalog: str) -> None:
    assert rehearsed(catalog) == rehearsed(catalog)


def test_people_see_the_distribution_and_on_request_the_others(catalog: str) -> None:
    arguments = ["rehearse", catalog, "--by", "1h", "--budget", "5", "--nights", "2"]

    plain, compared = called(*arguments).stdout, called(*arguments, "--compare").stdout

    assert "40 jobs within 1h00m for 5 USD, on 2 nights of market ordinary (" in plain
    assert "p10" in plain
    assert "clairvoyant" not in plain
    assert compared.startswith(plain)
    for other in ("fallback only", "by hand, on demand", "by hand, any kind", "clairvoyant"):
        assert other in compared


def test_a_chart_is_drawn_as_either_kind_of_picture(catalog: str, tmp_path: Path) -> None:
    rehearsed(catalog, "--chart", str(tmp_path / "night.png"))
    rehearsed(catalog, "--chart", str(tmp_path / "night.svg"))

    with Image.open(tmp_path / "night.png") as image:
        assert len(image.convert("RGB").getcolors(10**6) or ()) > 2, "it is not blank"
    drawn = ET.parse(tmp_path / "night.svg").getroot()  # noqa: S314 - our own file
    words = "".join(drawn.itertext())
    assert "40 jobs, 2 rehearsed nights" in words
    assert "deadline 60" in words


def test_a_market_of_ones_own_is_played(catalog: str, tmp_path: Path) -> None:
    shipped = Path(cli.__file__).parents[1] / "data" / "markets" / "scarce.toml"
    mine = tmp_path / "mine.toml"
    mine.write_text(shipped.read_text().replace('name = "scarce"', 'name = "mine"'))

    assert rehearsed(catalog, "--market", str(mine))["market"] == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--by", "0h"), "not in the future"),
        (("--by", "2020-01-01T07:00"), "not in the future"),
        (("--by", "soon"), "is no time"),
        (("--budget", "0"), "not above 0"),
        (("--budget", "-3"), "not above 0"),
        (("--budget", "nan"), "not above 0"),
        (("--budget", "much"), "is no amount"),
        (("--market", "nowhere"), "no such market"),
        (("--lump", "0"), "is no such number"),
        (("--chart", "night.jpeg"), "no kind of picture"),
        (("--chart", "nowhere/night.png"), "not there"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_played(
    catalog: str, arguments: tuple[str, str], said: str
) -> None:
    good = {"--by": "1h", "--budget": "5"} | {arguments[0]: arguments[1]}

    result = called("rehearse", catalog, *(word for pair in good.items() for word in pair))

    assert isinstance(result.exception, BadInput)  # exit code 2, by cli.main
    assert said in str(result.exception)


@pytest.mark.parametrize("missing", ["--by", "--budget"])
def test_deadline_and_budget_have_to_be_named(catalog: str, missing: str) -> None:
    given = {"--by": "1h", "--budget": "5"}
    del given[missing]

    result = called("rehearse", catalog, *(word for pair in given.items() for word in pair))

    assert result.exit_code == 2
    assert missing in result.stderr


def test_no_nights_are_refused(catalog: str) -> None:
    result = called("rehearse", catalog, "--by", "1h", "--budget", "5", "--nights", "0")

    assert result.exit_code == 2
    assert "--nights" in result.stderr


def test_a_quote_says_what_it_is_based_on_and_that_it_fits(catalog: str) -> None:
    said = called("quote", catalog, "--by", "2h", "--budget", "5").stdout

    assert "40 jobs within 2h00m for 5 USD" in said
    assert "nights of market file ordinary (" in said
    assert "25 results a second are its limit: 100 GPUs at 4 s a job" in said
    assert "it fits" in said


def test_a_quote_says_what_is_left_of_the_months_money_and_whether_it_is_enough(
    catalog: str,
) -> None:
    asked = ("quote", catalog, "--by", "2h", "--budget", "5")
    with environ({"NIGHTKILN_BUDGET_PER_MONTH": "40"}):
        enough = called(*asked).stdout
    with environ({"NIGHTKILN_BUDGET_PER_MONTH": "0.01"}):
        less = called(*asked).stdout
        told = json.loads(called(*asked, "--json").stdout)

    assert "0.00 of 40.00 USD are spent in 20" in enough
    assert "would not begin" not in enough
    assert "such a night would not begin: budget_per_month 0.01: 0.00 of 0.01 USD are" in less
    assert told["month"]["left_usd"] == 0.01


def test_a_quote_counts_on_nothing_that_the_run_may_not_have(catalog: str) -> None:
    result = called("quote", catalog, "--by", "2h", "--budget", "5", "--fallback", "never")

    assert "may have  machines at 2 USD an hour at most (vast_usd_per_hour_max)\n" in result.stdout


@pytest.mark.nights
def test_a_quote_under_a_cap_that_nothing_keeps_says_that_nothing_would_be_done(
    catalog: str,
) -> None:
    with environ({"NIGHTKILN_VAST_USD_PER_HOUR_MAX": "0.01"}):
        result = called(
            "quote", catalog, "--by", "1h", "--budget", "5", "--fallback", "never", "--json"
        )

    told = json.loads(result.stdout)
    assert (told["fits"], told["deadline_met_fraction"], told["fallback"]) == (False, 0, "never")


@pytest.mark.nights
def test_a_quote_that_does_not_fit_says_what_would(catalog: str) -> None:
    result = called("quote", catalog, "--by", "1h", "--budget", "0.01", "--json")

    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["usd_p90"] > 0.01
    assert not told["fits"]
    assert 0 <= told["jobs_that_fit"] < 40
    assert told["basis"] == "market file"
