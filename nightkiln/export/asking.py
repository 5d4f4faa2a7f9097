"""Which outputs an export takes, in which order, with which columns: one question to DuckDB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from nightkiln.core.errors import BadInput, Problem, StoreUnusable
from nightkiln.export.naming import Template, listed, template
from nightkiln.export.request import Request
from nightkiln.export.slicing import BUCKET_ROWS, Count, slices
from nightkiln.store.sql_files import sql_file
from nightkiln.store.views import identifier

if TYPE_CHECKING:
    import duckdb

MEMORY_MAX = "512MB"  # of DuckDB, which puts the rest of a large sort on disk
BATCH_ROWS = 4096
# The catalog's rows in their order, so that neighbours stay neighbours; unique, so that it is one.
ORDER = "batch, row nulls last, job_id, index"

FILE_COLUMNS = ("index", "node", "uri", "sha256", "bytes", "media", "width", "height")
# Bookkeeping that means nothing outside of the store, and what finished outputs do not have;
# ``--columns`` can name them all the same.
BOOKKEEPING = frozenset(
    ["epoch", "fault", "error", "rows", "columns", "commit_key", "schema_version"]
)
MACHINES = frozenset(["host", "lease_id"])  # a data set that is given away tells of pictures


def views_of(request: Request) -> tuple[str, ...]:
    """The views that a connection needs; none: all, as a condition may ask others of them."""
    return () if "select" in request.where.lower() else ("jobs", "outputs")


class Question:
    """The outputs that a request means, asked over one connection."""

    def __init__(self, con: duckdb.DuckDBPyConnection, request: Request, scratch: Path) -> None:
        con.execute(f"set memory_limit = '{MEMORY_MAX}'")
        con.execute("set temp_directory = ?", [str(scratch)])
        self._con = con
        self._where = request.where
        there = _exportable(con)
        self.name: Template = template(request.name, there)
        self.caption = _found(request.caption, there, "--caption")
        usual = [name for name in there if name not in BOOKKEEPING | MACHINES]
        asked = [_found(name, there, "--columns") for name in request.columns]
        self.columns = tuple(dict.fromkeys(asked)) if asked else tuple(usual)
        self._there = there

    @property
    def needed(self) -> set[str]:
        """The columns that the export itself needs of every output."""
        return {*self.name.columns, self.caption, "uri", "sha256", "bytes", "media"}

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Everything asked for and what names need, in the fixed order; streamed.

        Raises:
            BadInput: the condition makes no sense; the message names what there is.
            StoreUnusable: the store, or the disk that a large sort needs, fails.
        """
        wanted = {*self.columns, *self.needed}
        names = ", ".join(identifier(name) for name in self._there if name in wanted)
        with _translated(self._there):
            found = self._matching("exportable")
            for part in slices(self._counts()):
                answer = found.filter(part).order(ORDER).project(names)
                # Not execute(): that would hold the whole answer in memory.
                yield from answer.to_arrow_reader(BATCH_ROWS)

    def _matching(self, view: str) -> duckdb.DuckDBPyRelation:
        found = self._con.view(view)
        return found.filter(self._where) if self._where.strip() else found

    def _counts(self) -> list[Count]:
        """How many outputs there are where; more than match if the condition is about files."""
        import duckdb

        what = f"batch, row // {BUCKET_ROWS} as bucket, sum(output_count) as outputs"
        group, order = f"batch, row // {BUCKET_ROWS}", "batch, bucket nulls last"
        try:
            jobs = self._matching("exportable_jobs").aggregate(what, group).order(order).fetchall()
        except duckdb.BinderException:
            every = self._con.view("exportable_jobs")
            jobs = every.aggregate(what, group).order(order).fetchall()
        return [Count(batch, bucket, int(outputs)) for batch, bucket, outputs in jobs]


def _exportable(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Make the views and say which columns there are; a file's own win over a catalog's."""
    taken = set(FILE_COLUMNS)
    columns: list[str] = []
    for name, *_ in con.execute("describe jobs").fetchall():
        if name in {"uri", "sha256", "width", "height"}:
            continue  # the first output's; every output brings its own
        shown = name
        while shown.lower() in taken:
            shown = f"catalog_{shown}"
        taken.add(shown.lower())
        # Whatever the case of their words, as for ``nightkiln retry``.
        case = " collate nocase" if name in {"status", "fault"} else ""
        columns.append(f"j.{identifier(name)}{case} as {identifier(shown)}")
    for view in ("exportable", "exportable_jobs"):
        con.execute(sql_file(view, columns=",\n    ".join(columns)))
    return [str(name) for name, *_ in con.execute("describe exportable").fetchall()]


def _found(name: str, there: Sequence[str], option: str) -> str:
    by_name = {column.lower(): column for column in there}
    if name.lower() not in by_name:
        raise BadInput([Problem(option, f"there is no column {name!r}", listed(there))])
    return by_name[name.lower()]


@contextmanager
def _translated(there: Sequence[str]) -> Iterator[None]:
    import duckdb

    try:
        yield
    except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
        raise _bad_condition(str(error), there) from error
    except duckdb.Error as error:
        raise StoreUnusable(f"the store cannot be asked: {error}") from error


def _bad_condition(said: str, there: Sequence[str]) -> BadInput:
    return BadInput([Problem("--where", said.strip().partition("\n")[0], listed(there))])
