"""Brings a catalog's rows into DuckDB, once: what is checked, planned and rendered is the same.

The table ``catalog_rows`` holds the columns of the prompts as they are, and before them
``nightkiln_row``, the 0-based number of the row in the order of the catalog.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any

import duckdb

from nightkiln.catalog.catalog import CATALOG_FILE, Catalog
from nightkiln.catalog.queries import beside
from nightkiln.core.errors import BadInput, Problem
from nightkiln.temporary import temporary_folder

ROWS = "catalog_rows"
ROW = "nightkiln_row"
QUERY = f"{CATALOG_FILE}: prompts.sql"  # as messages name it
PROMPTS = "prompts"  # what ``--select`` calls the catalog's own rows
PAST = "store"  # what queries may call the store, whose views also go without it
STORE_SCHEME = "store"  # of files that are results: store://images/...
FILES_MAX = 100_000  # files behind one glob
MAGIC = b"PAR1"  # a Parquet file begins and ends with it
SMALLEST_PARQUET = 12  # bytes: magic, footer length, magic
GIVEN_BACK = "64MB"  # freed at once: so much goes back to the operating system without delay
CLOSE_S_MAX, CLOSE_AGAIN_S = 10.0, 0.01  # for a query that was interrupted to end

URI = re.compile(r"([a-z][a-z0-9+.-]*)://")
_CAUSE = re.compile(r"[A-Za-z_.]+: ")  # "NoCredentialsError: ..."


@contextmanager
def scratch(*, memory_limit: str = "460MB") -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB on a temporary file, which spills to disk rather than taking more memory."""
    with temporary_folder() as folder:
        settings: dict[str, Any] = {"memory_limit": memory_limit, "temp_directory": str(folder)}
        con = duckdb.connect(folder / "scratch.duckdb", config=settings)
        try:
            con.execute("SET enable_progress_bar = false")  # it writes to stdout, even to a pipe
            # What is asked once or twice is not worth compressing: that took half of a plan's time.
            con.execute("SET force_compression = 'uncompressed'")
            # What makes room for a large join goes back at once: else both are held for a moment,
            # 130 MB above the limit.
            con.execute(f"SET allocator_bulk_deallocation_flush_threshold = '{GIVEN_BACK}'")
            yield con
        finally:
            _close(con)


def _close(con: duckdb.DuckDBPyConnection) -> None:
    """Close a connection, also where a run was ended while one of its threads still asks it."""
    until_s = time.monotonic() + CLOSE_S_MAX
    while True:
        con.interrupt()
        try:
            con.close()
        except duckdb.Error:
            if time.monotonic() >= until_s:
                raise
            time.sleep(CLOSE_AGAIN_S)
        else:
            return


def load_rows(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> Mapping[str, str]:
    """Fill ``catalog_rows``, unless it holds these rows already; column name -> DuckDB type.

    Raises:
        BadInput: the prompts cannot be read, or there are none.
    """
    key = repr((catalog.folder, catalog.prompts, catalog.limit, catalog.rows, catalog.select))
    if not _is_loaded(con, key):
        _load(con, catalog)
        con.execute("CREATE OR REPLACE TABLE catalog_source AS SELECT ? AS key", [key])
    columns = con.execute(f"DESCRIBE {ROWS}").fetchall()
    return {name: kind for name, kind, *_ in columns if name != ROW}


def count_rows(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> int:
    """How many rows a catalog has, without bringing them in: Parquet says so by itself.

    Raises:
        BadInput: as ``load_rows``.
    """
    if catalog.rows is not None:
        return len(catalog.rows)
    with _asking(con, catalog):
        source = _source(con, catalog)
        count = f"SELECT count(*) FROM {source}"  # noqa: S608 - the user's own query
        ((rows,),) = con.execute(count).fetchall()
    if rows == 0:
        raise _empty(catalog)
    return int(rows if catalog.limit is None else min(rows, catalog.limit))


def _unreadable(catalog: Catalog, error: Exception) -> BadInput:
    what = f"cannot be read: {gist(error)}"
    fix = "see that the file is there and whole, or the query is right"
    return BadInput([Problem(prompts_label(catalog), what, fix)])


def _empty(catalog: Catalog) -> BadInput:
    return BadInput(
        [Problem(prompts_label(catalog), "holds no rows", "there is nothing to render")]
    )


def _is_loaded(con: duckdb.DuckDBPyConnection, key: str) -> bool:
    tables = {name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "catalog_source" not in tables:
        return False
    return con.execute("SELECT key FROM catalog_source").fetchall() == [(key,)]


def _load(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
    limit = "" if catalog.limit is None else f" LIMIT {catalog.limit:d}"
    with _asking(con, catalog):
        con.execute("SET TimeZone = 'UTC'")
        source = _source(con, catalog)
        con.execute(
            f"CREATE OR REPLACE TABLE {ROWS} AS "  # noqa: S608 - the user's own query
            f"FROM (SELECT row_number() OVER () - 1 AS {ROW}, * FROM {source}{limit})"
            + ("" if catalog.rows is None else f" WHERE {ROW} IN (SELECT unnest(?::BIGINT[]))"),
            [] if catalog.rows is None else [list(catalog.rows)],
        )
        ((rows,),) = con.execute(f"SELECT count(*) FROM {ROWS}").fetchall()  # noqa: S608
    if rows == 0:
        raise _empty(catalog)


def prompts_label(catalog: Catalog) -> str:
    """The prompts as messages name them."""
    if catalog.select is not None:
        return "--select"
    path = catalog.prompts.path
    return path if path is not None else QUERY


@contextmanager
def _asking(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> Iterator[None]:
    """Files are looked for where the catalog is, and the store's views go by their names.

    Raises:
        BadInput: something in it cannot be read.
    """
    folders = [catalog.folder] if catalog.select is None else [catalog.folder, Path.cwd()]
    ((ours,),) = con.execute("SELECT current_database()").fetchall()
    try:
        con.execute("SET file_search_path = ?", [",".join(map(str, folders))])
        if _asks_past(catalog) and catalog.past is not None:
            attached = con.execute("SELECT database_name FROM duckdb_databases()").fetchall()
            if (PAST,) not in attached:
                catalog.past.attach(con, PAST)
            con.execute("SET search_path = ?", [f"{ours},{PAST}"])
        yield
    except remote_errors() as error:
        raise _unreadable(catalog, error) from error
    finally:
        con.execute("RESET file_search_path")
        con.execute("RESET search_path")


def _asks_past(catalog: Catalog) -> bool:
    return catalog.select is not None or catalog.prompts.sql is not None


def _source(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> str:
    """What to select the rows from."""
    if catalog.select is None:
        return _prompts(con, catalog)
    if PROMPTS in catalog.select.lower():
        prompts = _prompts(con, catalog)
        con.execute(f"CREATE OR REPLACE TEMP VIEW {PROMPTS} AS FROM {prompts}")
    return _query(con, catalog.select, "catalog_selection", where="--select")


def _prompts(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> str:
    sql, path = catalog.prompts.sql, catalog.prompts.path
    if sql is not None:
        return _query(con, sql, "catalog_query", where=QUERY, folder=catalog.folder)
    assert path is not None, "prompts are a path or a query"
    if (remote := URI.match(path)) is not None:
        _register(con, remote[1])
        files = [path]
    else:
        files = [str(file) for file in parquet_files(catalog.folder, path)]
    # A view takes no parameters.
    listed = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    return f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"


def _query(
    con: duckdb.DuckDBPyConnection, sql: str, name: str, *, where: str, folder: Path | None = None
) -> str:
    """A query as a view: so it may end as it likes. ``folder``: what all its files lie in."""
    _refuse_all_but_select(con, sql, where)
    sql = sql if folder is None else beside(con, sql, folder=folder, where=where)
    for scheme in set(URI.findall(sql)) - {STORE_SCHEME}:
        _register(con, scheme)
    con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {sql}")
    return name


def _refuse_all_but_select(con: duckdb.DuckDBPyConnection, sql: str, where: str) -> None:
    try:
        statements = con.extract_statements(sql)
    except duckdb.Error as error:
        raise BadInput([Problem(where, gist(error))]) from error
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        raise BadInput([Problem(where, "is not one SELECT", "write a single SELECT statement")])


def gist(error: Exception) -> str:
    """The line of an error that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # An error out of a Python filesystem arrives as a traceback, with its cause near the end.
    causes = [line for line in lines if _CAUSE.match(line)]
    return causes[-1] if "Traceback" in lines[0] and causes else lines[0]


def parquet_files(folder: Path, path: str) -> list[Path]:
    """The local files that a path or glob names, sorted, each seen to be Parquet.

    Raises:
        BadInput: there are none, too many, or some are something else.
    """
    found = sorted(glob(path, root_dir=folder, recursive=True))  # noqa: PTH207 - pathlib's cannot start elsewhere
    if not found:
        fix = "nightkiln init DIR --workflow W --prompts FILE makes one from CSV, JSONL or text"
        raise BadInput([Problem(path, f"there is no such file in {folder}", fix)])
    if len(found) > FILES_MAX:
        raise BadInput([Problem(path, f"names {len(found)} files", f"at most {FILES_MAX}")])
    fix = "nightkiln init converts CSV, JSONL and text; or name it in prompts: {sql: ...}"
    wrong = [
        Problem(name, "is not a Parquet file", fix)
        for name in found
        if not _is_parquet(folder / name)
    ]
    if wrong:
        raise BadInput(wrong)
    return [folder / name for name in found]


def _is_parquet(path: Path) -> bool:
    try:
        if path.stat().st_size < SMALLEST_PARQUET:
            return False
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
            file.seek(-len(MAGIC), 2)
            return head == file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def filesystem(scheme: str) -> Any:
    """The fsspec filesystem of a URI scheme, set up so that nothing stale is read.

    Raises:
        BadInput: it needs a package that is not installed, or there is no such scheme.
    """
    # s3fs's own read-ahead fetches whole files where DuckDB asks for a few columns.
    settings = {"default_cache_type": "none", "use_listings_cache": False}
    try:
        import fsspec

        return fsspec.filesystem(scheme, **(settings if scheme == "s3" else {}))
    except (ImportError, ValueError) as error:
        fix = "pip install 'nightkiln[s3]'" if scheme in {"s3", "s3a"} else "copy it here first"
        raise BadInput([Problem(f"{scheme}://", f"cannot be read: {error}", fix)]) from error


def _register(con: duckdb.DuckDBPyConnection, scheme: str) -> None:
    if not con.filesystem_is_registered(scheme):
        con.register_filesystem(filesystem(scheme))


def remote_errors() -> tuple[type[Exception], ...]:
    """What reading a file, near or far, raises."""
    try:
        from botocore.exceptions import BotoCoreError
    except ImportError:
        return (duckdb.Error, OSError, ValueError)
    return (duckdb.Error, OSError, ValueError, BotoCoreError)
