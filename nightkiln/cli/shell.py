"""``nightkiln sql``: a shell over a store, for people and for scripts on its standard input."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import duckdb
import typer
from rich.console import Console

from nightkiln.cli.options import JsonOption, StoreOption
from nightkiln.cli.printing import print_table, write_lines
from nightkiln.cli.query import views_in
from nightkiln.core.errors import BadInput, Problem
from nightkiln.outcome import ALL_DONE, BAD_INPUT
from nightkiln.settings import Settings, load_settings
from nightkiln.wiring import open_store

HISTORY_FILE, HISTORY_LINES_MAX = "sql_history", 1000
SCRIPT_CHARS_MAX = 2**24
PROMPT, MORE = "nightkiln> ", "      ...> "
TABLE, CSV, JSON = MODES = ("table", "csv", "json")
HELP = """\
A statement ends with a semicolon and may take several lines. What you make here (tables, macros) is
gone when the shell ends; nothing of it goes into the store. COPY (...) TO 'FILE' writes a file.

.views              views to ask
.columns VIEW       columns of a view, and their types
.mode table|csv|json  how answers are shown
.help               this
.quit               end, like Ctrl-D"""


def sql(
    context: typer.Context,
    *,
    store: StoreOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated, with a header.")] = False,
) -> None:
    """Open a SQL shell over a store, with all its views; `nightkiln query` asks one question.

    It is DuckDB: any statement that DuckDB takes, ended by a semicolon. Lines can be edited and are
    remembered, the tab key completes views and columns, `.help` says what else there is. A script
    on standard input is carried out up to its first mistake.

    Example: nightkiln sql --store results

    Example: nightkiln sql --store results --csv < morning.sql

    Exit codes: 0, or 2 if a statement of a script is refused, 3 if there is no such store.
    """
    if context.args:
        what = "it is a shell and takes no statement here"
        fix = 'nightkiln query "..." asks one question; or write it to standard input'
        raise BadInput([Problem(f"sql {context.args[0][:60]}", what, fix)])
    settings = load_settings(store=store)
    with open_store(settings).connect() as con:
        mode = JSON if as_json else CSV if as_csv else TABLE
        shell = Shell(con, Console(), mode=mode)
        if sys.stdin.isatty():
            with _line_editing(shell, settings):
                shell.talk(input)
            raise typer.Exit(ALL_DONE)
        is_whole = shell.carry_out(_script())
    raise typer.Exit(ALL_DONE if is_whole else BAD_INPUT)


def _script() -> str:
    script = sys.stdin.read(SCRIPT_CHARS_MAX + 1)
    if len(script) > SCRIPT_CHARS_MAX:
        what = f"is longer than {SCRIPT_CHARS_MAX} letters"
        raise BadInput([Problem("standard input", what, "split it")])
    return script


@dataclass(slots=True)
class Shell:
    """What is said to each line; it reads nothing by itself."""

    con: duckdb.DuckDBPyConnection
    console: Console
    mode: str = TABLE
    is_over: bool = False
    _lines: list[str] = field(default_factory=list)

    def talk(self, read: Callable[[str], str]) -> None:
        """Ask for lines until somebody has had enough; mistakes are told, and forgiven."""
        self.console.print("DuckDB over the store; .help says more, .quit ends")
        while not self.is_over:
            try:
                self.hear(read(MORE if self._lines else PROMPT))
            except EOFError:
                break
            except KeyboardInterrupt:
                self._lines.clear()
                self.console.print("(given up; .quit ends)")

    def carry_out(self, script: str) -> bool:
        """Hear every line of a script, up to the first mistake; whether there was none."""
        for line in script.splitlines():
            if not self.hear(line):
                return False
            if self.is_over:
                return True
        rest = "\n".join(self._lines)  # a last semicolon may be left out
        self._lines.clear()
        return not rest.strip() or self._ask(rest)

    def hear(self, line: str) -> bool:
        """One more line; False if it ended in a mistake, which was told."""
        if not self._lines and line.lstrip().startswith("."):
            return self._command(line.split())
        if not self._lines and not line.strip():
            return True
        self._lines.append(line)
        # SQLite's rules for where a statement ends are DuckDB's, but for dollar quotes.
        if not sqlite3.complete_statement(said := "\n".join(self._lines)):
            return True
        self._lines.clear()
        return self._ask(said)

    def _ask(self, said: str) -> bool:
        try:
            for statement in self.con.extract_statements(said):
                answer = self.con.execute(statement)
                names = [column[0] for column in answer.description or ()]
                if not names:
                    continue
                if self.mode == TABLE:
                    print_table(names, answer, self.console, for_all=".mode csv gives all")
                else:
                    write_lines(names, answer, self.console.file, as_json=self.mode == JSON)
        except duckdb.Error as error:
            self.console.print(str(error).strip(), style="red", markup=False, highlight=False)
            return False
        return True

    def _command(self, words: list[str]) -> bool:
        match words:
            case [".quit" | ".exit"]:
                self.is_over = True
            case [".help"]:
                self.console.print(HELP, markup=False, highlight=False)
            case [".views" | ".tables"]:
                self.console.print("\n".join(views_in(self.con)), markup=False, highlight=False)
            case [".columns" | ".schema", view]:
                return self._ask(f"describe {_quoted(view)}")
            case [".mode", mode] if mode in MODES:
                self.mode = mode
            case _:
                said = f"{' '.join(words)[:60]}: there is no such command; .help lists them"
                self.console.print(said, style="red", markup=False, highlight=False)
                return False
        return True

    def completions(self, text: str) -> list[str]:
        """What a word that begins so may become: views, their columns, commands."""
        if text.startswith("."):
            known = [".views", ".columns", ".mode", ".help", ".quit"]
        else:
            known = views_in(self.con) + [name for (name,) in self.con.execute(_COLUMNS).fetchall()]
        return sorted({name for name in known if name.lower().startswith(text.lower())})


_COLUMNS = "select distinct column_name from duckdb_columns() where not internal"


def _quoted(name: str) -> str:
    return '"' + name.strip('";').replace('"', '""') + '"'


@contextmanager
def _line_editing(shell: Shell, settings: Settings) -> Iterator[None]:
    """Editing, completion, and lines of before; without, where Python came without readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    found: Mapping[str, list[str]] = {}

    def complete(text: str, number: int) -> str | None:
        nonlocal found
        if text not in found:
            found = {text: shell.completions(text)}
        return found[text][number] if number < len(found[text]) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n,;()=<>+*/'\"")
    readline.parse_and_bind("tab: complete")
    readline.set_history_length(HISTORY_LINES_MAX)
    history: Path = settings.state_folder / HISTORY_FILE
    with contextlib.suppress(OSError):  # there is none yet, or it is not ours to read
        readline.read_history_file(history)
    try:
        yield
    finally:
        readline.set_completer(None)
        with contextlib.suppress(OSError):  # a shell without a memory is still a shell
            history.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(history)
            history.chmod(0o600)  # prompts may be in it
