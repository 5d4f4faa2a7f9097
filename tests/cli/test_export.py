"""``nightkiln export`` as people and programs call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nightkiln import cli
from nightkiln.core.errors import BadInput
from nightkiln.store.store import Store
from nightkiln.testing.settled import done
from tests.adapters.export_world import PICTURES, a_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return a_store(tmp_path / "store")


def called(store: Store, to: Path, *arguments: str) -> Result:
    words = ["export", "--store", str(store.root), "--to", str(to), *arguments]
    return CliRunner().invoke(cli.app, words)


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_person_is_told_what_there_is_now_and_that_it_was_there(
    store: Store, tmp_path: Path
) -> None:
    arguments = ["--format", "files", "--name", "{category}-{seed}.png"]

    first, second = (called(store, tmp_path / "out", *arguments) for _ in range(2))

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout == f"3 outputs (600 bytes) in 7 files in {tmp_path}/out\n"
    assert second.stdout.startswith("nothing to do: ")
    assert (tmp_path / "out" / "Animals-2.png").is_file()


def test_a_program_gets_a_line_per_part_and_one_at_the_end(store: Store, tmp_path: Path) -> None:
    result = called(store, tmp_path / "out", "--format", "csv", "--shard-rows", "1", "--json")

    told = lines(result)
    assert [line["event"] for line in told] == ["progress"] * (PICTURES + 1) + ["exported"]
    assert told[-1] == {
        "event": "exported", "folder": str(tmp_path / "out"), "format": "csv", "was_there": False,
        "samples": 3, "bytes": 600, "files": 3, "problems": 0,
    }  # fmt: skip


@pytest.mark.parametrize("as_json", [False, True])
def test_damage_is_named_and_the_exit_code_says_so(
    store: Store, tmp_path: Path, *, as_json: bool
) -> None:
    uri = done(1).outputs[0].uri
    (store.root / uri).write_bytes(b"damaged")
    more = ["--json"] if as_json else []

    result = called(store, tmp_path / "out", "--format", "webdataset", *more)

    assert result.exit_code == 1
    assert uri in result.stdout
    assert "7 bytes" in result.stdout


def test_bad_input_is_told_as_everywhere(store: Store, tmp_path: Path) -> None:
    result = called(store, tmp_path / "out", "--format", "csv", "--where", "sede = 1")

    assert isinstance(result.exception, BadInput)
    assert '"sede"' in str(result.exception)


def test_columns_are_chosen_by_name(store: Store, tmp_path: Path) -> None:
    called(store, tmp_path / "out", "--format", "csv", "--columns", "seed, category")

    header = (tmp_path / "out" / "rows-00000.csv").read_text().splitlines()[0]
    assert header == '"text","seed","category"'
