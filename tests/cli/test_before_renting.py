"""What quote, run and doctor say before anything is rented: account, key, models, worst case."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nightkiln.testing.environ import environ
from nightkiln.testing.samples import text_to_image, write_catalog
from tests.cli.desk import Desk

WRONG = "wrong-key-0123456789"
NOBODY = "http://127.0.0.1:9"
QUOTE = ("quote", "--by", "2h", "--budget", "2", "--provider", "vast")
RUN = ("run", "--yes", "--budget", "2", "--provider", "vast")
TOKEN = "hf_0123456789"  # noqa: S105 - of nobody
SHA256 = "ab" * 32
MB = 10**6


@pytest.fixture
def catalog(tmp_path: Path) -> str:
    return str(write_catalog(tmp_path / "catalog", 2, environment={}))


def nothing_was_started(desk: Desk) -> bool:
    return not desk.market.ledger() and not (desk.folder / "store").exists()


@pytest.mark.parametrize("command", [QUOTE, RUN], ids=["quote", "run"])
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"NIGHTKILN_VAST_API_KEY": ""}, "there is no API key (set VAST_API_KEY to a key of"),
        ({"NIGHTKILN_VAST_API_KEY": WRONG}, "the API key is not valid; make a new one"),
        ({"NIGHTKILN_VAST_API_KEY": "two words"}, "is no key: one word of letters"),
        ({}, "the account has no credit; add some in the console (Billing)"),
        ({"NIGHTKILN_VAST_URL": NOBODY}, "cannot be reached; check the network"),
    ],
    ids=["no key", "wrong key", "what is no key", "no credit", "unreachable"],
)
def test_one_line_says_what_to_do_and_nothing_is_started(
    desk: Desk, catalog: str, command: tuple[str, ...], variables: dict[str, str], said: str
) -> None:
    desk.has_credit(0.0)  # of no matter to the others: they do not get that far

    code, output = desk.ended(*command, catalog, **variables)

    assert code == 2, output
    [line] = output.splitlines()
    assert said in line
    assert all(word not in line for word in (WRONG, "two words", "Traceback"))
    assert nothing_was_started(desk)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("run", "--provider", "vast"), "give --budget 4.00"),
        (("quote", "--by", "2h", "--provider", "vast"), "give --budget 4.00"),
        (("quote", "--budget", "2", "--provider", "vast"), "give --by 07:00, or --by 2h"),
        (("run",), "no worker to render on"),
        (("run", "--provider", "moon"), "there is no provider 'moon' (one of local, vast, modal)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_was_not_given_is_one_line_too(
    desk: Desk, catalog: str, command: tuple[str, ...], said: str
) -> None:
    variables = {} if "--provider" in command else {"NIGHTKILN_VAST_API_KEY": ""}

    code, output = desk.ended(*command, catalog, **variables)

    assert code == 2, output
    [line] = output.splitlines()
    assert said in line
    assert nothing_was_started(desk)


def test_programs_are_told_the_same_as_one_object(desk: Desk, catalog: str) -> None:
    code, output = desk.ended(*RUN, catalog, "--json", NIGHTKILN_VAST_API_KEY=WRONG)

    [line] = output.splitlines()
    told = json.loads(line)
    assert (code, told["event"]) == (2, "error")
    assert "the API key is not valid" in told["error"]


@pytest.mark.nights
def test_a_process_ends_the_same_way(desk: Desk, catalog: str) -> None:
    with environ(desk.variables(NIGHTKILN_VAST_API_KEY=WRONG)):
        command = [sys.executable, "-m", "nightkiln", *RUN, catalog]
        done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_figures_are_worth_having_before_there_is_an_account(desk: Desk, catalog: str) -> None:
    said = desk.call(
        "quote", catalog, "--by", "2h", "--budget", "2", NIGHTKILN_VAST_API_KEY=""
    ).stdout

    assert "cost      p50" in said
    assert said.splitlines()[-1].startswith("vast: there is no API key; set VAST_API_KEY")


# Models.


def test_a_model_that_would_need_a_token_on_the_machine_is_refused(
    desk: Desk, tmp_path: Path
) -> None:
    url = "http://huggingface.co/me/mine"
    model = {"path": "checkpoints/mine.safetensors", "url": url, "sha256": SHA256}
    folder = write_catalog(
        tmp_path / "private",
        2,
        graph=text_to_image(checkpoint="mine.safetensors"),
        environment={"models": [model]},
    )

    for command in (QUOTE, RUN):
        code, output = desk.ended(*command, str(folder), HF_TOKEN=TOKEN)

        assert code == 2, output
        [line] = output.splitlines()
        assert "environment.models checkpoints/mine.safetensors: huggingface.co/me/mine" in line
        assert "HF_TOKEN is not sent there" in line
        assert TOKEN not in line
    assert nothing_was_started(desk)


@pytest.mark.nights
def test_what_is_sent_from_here_is_in_the_quote(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "style.safetensors"
    with file.open("wb") as written:
        written.truncate(50 * MB)
    models = [
        {"path": "loras/style.safetensors", "file": str(file)},
        {
            "path": "checkpoints/tiny.safetensors",
            "url": "https://models.example/tiny",
            "sha256": SHA256,
            "gb": 30,
        },
    ]
    folder = str(write_catalog(tmp_path / "heavy", 2, environment={"models": models}))

    [told] = desk.lines(*QUOTE, folder)
    said = desk.call(*QUOTE, folder).stdout

    assert told["models_sent_gb"] == pytest.approx(0.05)
    assert told["models_gb"] == pytest.approx(30.05)
    assert told["network_in_gb"] > 30, "a machine downloads them before it renders"
    assert "30.05 GB to each machine, of which this computer sends 0.05 GB (at most 2 GB" in said


# The worst case.


@pytest.mark.nights
def test_the_worst_case_is_all_credit_and_too_much_of_it_is_a_warning(
    desk: Desk, catalog: str
) -> None:
    said = desk.call(*QUOTE, catalog).stdout

    assert "worst case 25.00 USD: all credit of the vast account" in said
    assert "more than twice the budget of 2.00" in said


def test_doctor_tells_the_worst_case_and_warns_of_too_much_credit(desk: Desk) -> None:
    fitting = desk.doctor("--budget", "20")
    too_much = desk.doctor("--budget", "5")

    vast = f"vast at {desk.market.url}"
    assert fitting[vast]["is_good"] is True
    assert fitting["worst case"] == {
        "what": "worst case",
        "is_good": True,
        "said": "25.00 USD, all prepaid credit of the account",
        "fix": "move credit elsewhere, or use an account of its own for this",
    }
    assert too_much["worst case"]["is_good"] is False
    assert "more than twice the budget of 5.00" in too_much["worst case"]["said"]


def test_doctor_tells_a_key_that_does_not_work_and_what_to_do_without_one(desk: Desk) -> None:
    wrong = desk.doctor(NIGHTKILN_VAST_API_KEY=WRONG)[f"vast at {desk.market.url}"]
    none = desk.doctor(NIGHTKILN_VAST_API_KEY="")

    assert wrong["is_good"] is False
    assert "the API key is not valid" in wrong["said"]
    assert none["vast"]["is_good"] is None, "who does not rent needs no key"
    assert "set VAST_API_KEY" in none["vast"]["said"]
    assert [each["what"] for each in none.values() if each["is_good"] is False] == []


def test_doctor_says_which_permission_a_key_lacks(desk: Desk) -> None:
    narrow = desk.key_with("user_read", "instance_read")

    found = desk.doctor(NIGHTKILN_VAST_API_KEY=narrow)

    assert found["vast permissions"]["is_good"] is False
    assert "the key lacks billing_read" in found["vast permissions"]["said"]
