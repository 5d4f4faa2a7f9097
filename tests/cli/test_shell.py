"""``nightkiln sql``: what a person types, what a script says, and what is left of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from nightkiln import cli
from nightkiln.cli.shell import MORE, PROMPT, Shell
from nightkiln.core.errors import BadInput
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import Store
from nightkiln.store.views import VIEWS
from nightkiln.testing.settled import BATCH, done

COUNT = "select count(*) as jobs from jobs;"
TALK_S_MAX = 30.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.open(str(tmp_path / "store"), create=True)
    key = shard_key(BATCH, 0)
    data = parquet_bytes(rows_table([done(1), done(2)], BATCH, key))
    create_or_same(made.blobs, key, data)
    return made


def typed(*lines: str | type[BaseException]) -> tuple[Callable[[str], str], list[str]]:
    """Somebody who types these lines and goes; the prompts that were seen."""
    prompts: list[str] = []
    left = list(lines)

    def read(prompt: str) -> str:
        prompts.append(prompt)
        if not left:
            raise EOFError
        line = left.pop(0)
        if isinstance(line, str):
            return line
        raise line

    return read, prompts


def talked(store: Store, lines: Sequence[str | type[BaseException]], *, mode: str = "csv") -> str:
    said = io.StringIO()
    with store.connect() as con:
        Shell(con, Console(file=said, width=200), mode=mode).talk(typed(*lines)[0])
    return said.getvalue()


def script(store: Store, text: str, *options: str) -> Result:
    return CliRunner().invoke(cli.app, ["sql", "--store", str(store.root), *options], input=text)


def test_a_statement_may_take_several_lines_and_ends_with_a_semicolon(store: Store) -> None:
    read, prompts = typed("select ';' as sign,", "  count(*) as jobs", "from jobs;", COUNT)
    said = io.StringIO()
    with store.connect() as con:
        Shell(con, Console(file=said), mode="csv").talk(read)

    assert prompts == [PROMPT, MORE, MORE, PROMPT, PROMPT]
    assert said.getvalue().splitlines()[1:] == ["sign,jobs", ";,2", "jobs", "2"]


def test_a_mistake_is_told_and_forgiven(store: Store) -> None:
    said = talked(store, ["select nothing from nowhere;", ".nonsense", COUNT])

    assert "nowhere does not exist" in said
    assert "there is no such command" in said
    assert said.splitlines()[-2:] == ["jobs", "2"]


def test_ctrl_c_gives_up_what_was_typed_and_nothing_else(store: Store) -> None:
    said = talked(store, ["select wrong,", KeyboardInterrupt, COUNT])

    assert said.splitlines()[-2:] == ["jobs", "2"]


def test_what_is_made_in_a_shell_is_not_in_the_store(store: Store) -> None:
    before = sorted(store.blobs.list(""))

    said = talked(store, ["create table mine as from jobs;", "select count(*) as n from mine;"])

    assert said.splitlines()[-2:] == ["n", "2"]
    assert sorted(store.blobs.list("")) == before


def test_commands_say_what_there_is_to_ask(store: Store) -> None:
    said = talked(
        store, [".help", ".views", ".columns progress", ".mode json", COUNT, ".quit", "x"]
    )

    assert "Ctrl-D" in said
    assert set(VIEWS) <= set(said.split())
    assert "eta_s,DOUBLE" in said
    assert said.endswith('{"jobs": 2}\n')


def test_views_columns_and_commands_can_be_completed(store: Store) -> None:
    with store.connect() as con:
        shell = Shell(con, Console(file=io.StringIO()))

        assert shell.completions("cost_") == ["cost_per_1000"]
        assert shell.completions("SECONDS_V") == ["seconds_vs_class"]
        assert shell.completions(".m") == [".mode"]
        assert shell.completions("zzz") == []


def test_a_script_is_carried_out_and_answers_for_programs(store: Store) -> None:
    result = script(store, f"{COUNT}\nselect max(seed) as seed from jobs", "--json")

    assert result.exit_code == 0
    assert [json.loads(line) for line in result.stdout.splitlines()] == [{"jobs": 2}, {"seed": 2}]


def test_a_script_ends_at_its_first_mistake(store: Store) -> None:
    result = script(store, f"{COUNT}\nselect wrong from jobs;\n{COUNT}", "--csv")

    assert result.exit_code == 2
    assert result.stdout.startswith("jobs\n2\nBinder Error")
    assert result.stdout.count("jobs\n2") == 1


def test_sql_and_query_send_each_others_guests_along(store: Store) -> None:
    def refused(*arguments: str) -> str:
        result = CliRunner().invoke(cli.app, [*arguments, "--store", str(store.root)])
        assert isinstance(result.exception, BadInput)
        return str(result.exception)

    assert "nightkiln query" in refused("sql", "select 1")
    assert "nightkiln sql" in refused("query")
    assert "nightkiln sql" in refused("query", "select 1; select 2")
    assert "nightkiln sql" in refused("query", "create table mine as from jobs")


def test_on_a_terminal_lines_can_be_edited_and_are_remembered(store: Store, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    arguments = ["sql", "--csv", "--store", str(store.root)]
    with subprocess.Popen(
        [sys.executable, "-m", "nightkiln", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "NIGHTKILN_STATE": str(tmp_path / "state"), "TERM": "dumb"},
    ) as process:
        os.close(theirs)
        os.write(ours, f"{COUNT[:-1]}x\b;\n.quit\n".encode())  # a slip, taken back
        said = b"".join(until_closed(ours)).decode()
        process.wait(TALK_S_MAX)
    os.close(ours)

    assert process.returncode == 0, said
    assert [line.strip() for line in said.splitlines() if line.strip()][-3:-1] == ["jobs", "2"]
    assert COUNT in (tmp_path / "state" / "sql_history").read_text()


def until_closed(terminal: int) -> Iterator[bytes]:
    """What is written to the other side of a terminal, as long as that is open."""
    with contextlib.suppress(OSError):
        while said := os.read(terminal, 4096):
            yield said
