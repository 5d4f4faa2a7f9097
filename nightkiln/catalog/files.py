"""Input files of a catalog: found, bounded, hashed; URIs are fetched into a folder first.

The table ``input_files`` (value, path, sha256, size, suffix) says which file each text of a
``kind: file`` column means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa

from nightkiln.catalog.catalog import Catalog, Past
from nightkiln.catalog.queries import leaves
from nightkiln.catalog.rows import ROW, ROWS, STORE_SCHEME, filesystem, gist, remote_errors
from nightkiln.core.errors import BadInput, Problem, StoreUnusable
from nightkiln.core.model import InputFile

FILES = "input_files"
FILE_BYTES_MAX = 100 * 2**20  # ComfyUI takes no larger upload
SUFFIX_LENGTH_MAX = 10
THREADS = 8  # hashing lets go of the interpreter, and fetching waits for the network
PATHS_PER_BATCH = 4096
COPIED_AT_ONCE = 2**20  # bytes
PROBLEMS_MAX = 20  # told one by one; more are counted
_SCHEMA = pa.schema(
    [
        ("value", pa.string()),
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("size", pa.int64()),
        ("suffix", pa.string()),
    ]
)
RESULTS = "images/"  # where a store keeps what was rendered
_LOCAL_SCHEMES = frozenset({"file", "local"})


def hash_files(con: duckdb.DuckDBPyConnection, catalog: Catalog, *, fetched: Path | None) -> None:
    """Fill ``input_files`` with every file that the rows of ``catalog_rows`` name.

    Files behind URIs are copied into ``fetched``.

    Raises:
        BadInput: files are missing, too large, or outside the catalog's folder.
    """
    con.execute(
        f"CREATE OR REPLACE TABLE {FILES} "
        "(value VARCHAR, path VARCHAR, sha256 VARCHAR, size BIGINT, suffix VARCHAR)"
    )
    problems: list[Problem] = []
    with ThreadPoolExecutor(THREADS) as pool, con.cursor() as reader:
        for batch in named_files(reader, catalog):
            found: list[dict[str, Any]] = []
            for value, file in zip(
                batch,
                pool.map(lambda value: _input_file(catalog, value, fetched), batch),
                strict=True,
            ):
                if isinstance(file, Problem):
                    problems.append(file)
                else:
                    found.append(
                        {
                            "value": value,
                            "path": file.path,
                            "sha256": file.sha256,
                            "size": file.size,
                            "suffix": file.suffix,
                        }
                    )
            _insert(con, found)
    if problems:
        raise BadInput(problems[:PROBLEMS_MAX])


def _insert(con: duckdb.DuckDBPyConnection, found: list[dict[str, Any]]) -> None:
    con.register("found_files", pa.Table.from_pylist(found, schema=_SCHEMA))
    con.execute(f"INSERT INTO {FILES} FROM found_files")
    con.unregister("found_files")


def named_files(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> Iterator[list[str]]:
    """Every distinct text that stands for a file, in the rows' order, in batches."""
    defaults = {
        str(item.default) for item in catalog.inputs if item.is_file and item.default is not None
    }
    if defaults:
        yield sorted(defaults)
    every = _every_value(con, catalog)
    if not every:
        return
    query = (
        f"SELECT value FROM ({every}) WHERE value IS NOT NULL "  # noqa: S608 - quoted
        f"GROUP BY value ORDER BY min({ROW})"
    )
    for batch in con.sql(query).to_arrow_reader(PATHS_PER_BATCH):
        yield [value for value in batch.column(0).to_pylist() if value not in defaults]


def count_of_store(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> int:
    """How many pictures of the store the rows name as input files."""
    every = _every_value(con, catalog)
    if not every:
        return 0  # constants are the user's, or one picture
    query = (
        f"SELECT count(DISTINCT value) FROM ({every}) "  # noqa: S608 - quoted
        f"WHERE starts_with(value, '{STORE_SCHEME}://')"
    )
    ((count,),) = con.execute(query).fetchall()
    return int(count)


def _every_value(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> str:
    """What to select every text from that stands for a file; empty: no column holds any."""
    columns = {name.lower() for name, *_ in con.execute(f"DESCRIBE {ROWS}").fetchall()}
    read = [
        item.name
        for item in catalog.inputs
        if item.is_file and not item.is_constant and item.name.lower() in columns
    ]
    return " UNION ALL ".join(
        f"SELECT {ROW}, CAST({quoted(name)} AS VARCHAR) AS value FROM {ROWS}"  # noqa: S608 - quoted
        for name in read
    )


def quoted(name: str) -> str:
    """A column's name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def file_problem(catalog: Catalog, value: str) -> Problem | None:
    """Why a text cannot be an input file; None if it can. Reads nothing but the size."""
    found = _located(catalog, value)
    return found if isinstance(found, Problem) else None


def _located(catalog: Catalog, value: str) -> Path | str | Problem:
    """A local path, or a URI, that exists and is not too large."""
    scheme, separator, key = value.partition("://")
    try:
        if separator and scheme == STORE_SCHEME:
            size, found = _size_in_store(catalog.past, key), value
        elif separator and scheme not in _LOCAL_SCHEMES:
            size, found = filesystem(scheme).info(value)["size"], value
        else:
            return _beside(catalog.folder, value, is_uri=bool(separator))
    except (BadInput, StoreUnusable) as error:
        return error.problems[0] if isinstance(error, BadInput) else _unread(value, error)
    except remote_errors() as error:
        return _unread(value, error)
    if size is None and scheme == STORE_SCHEME:
        fix = "an image of the store that this run uses: 'store://' || uri"
        return Problem(f"file {value}", "is not in the store", fix)
    return _too_large(value, size) or found


def _beside(folder: Path, value: str, *, is_uri: bool) -> Path | Problem:
    """A file in the catalog's folder."""
    # A catalog may come from a stranger, and what it names is sent to rented machines.
    if is_uri or leaves(value):
        fix = "copy or link it into the catalog's folder"
        return Problem(f"file {value}", "lies outside the catalog's folder", fix)
    found = folder / value
    if not found.is_file():
        return Problem(f"file {value}", "does not exist", f"paths are relative to {folder}")
    return _too_large(value, found.stat().st_size) or found


def _too_large(value: str, size: object) -> Problem | None:
    if not isinstance(size, int) or size <= FILE_BYTES_MAX:
        return None
    what = f"is larger than {FILE_BYTES_MAX // 2**20} MiB, the most that ComfyUI takes"
    return Problem(f"file {value}", what, "make it smaller")


def _unread(value: str, error: Exception) -> Problem:
    return Problem(f"file {value}", f"cannot be read: {gist(error)}")


def _size_in_store(past: Past | None, key: str) -> int | None:
    """None: there is no such image. Nothing else of a store is an input file."""
    if past is None or not key.startswith(RESULTS) or ".." in key:
        return None
    return past.blobs.size(key)


def _input_file(catalog: Catalog, value: str, fetched: Path | None) -> InputFile | Problem:
    found = _located(catalog, value)
    if isinstance(found, Problem):
        return found
    try:
        if isinstance(found, Path):
            path = found
        elif found.startswith(f"{STORE_SCHEME}://"):
            path = _from_store(catalog.past, found.partition("://")[2], fetched)
        else:
            path = _fetch(found, fetched)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return InputFile(str(path), digest, path.stat().st_size, _suffix(value))
    except remote_errors() as error:
        return _unread(value, error)


def _suffix(value: str) -> str:
    suffix = PurePosixPath(value.partition("?")[0]).suffix.lower()
    fits = len(suffix) <= SUFFIX_LENGTH_MAX and suffix[1:].isalnum() and suffix.isascii()
    return suffix if fits else ""


def _from_store(past: Past | None, key: str, fetched: Path | None) -> Path:
    """An image of the store as a local file; what is under a key never changes."""
    assert past is not None, "its size was told"
    if past.folder is not None:
        return past.folder / key
    if fetched is None:
        raise ValueError("no folder was given to fetch it into")
    path = fetched / f"{hashlib.sha256(key.encode()).hexdigest()}{_suffix(key)}"
    if not path.exists():
        fetched.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(past.blobs.get(key))
        partial.replace(path)
    return path


def _fetch(uri: str, fetched: Path | None) -> Path:
    """The file behind a URI, as it is now; fetched once as long as it does not change."""
    if fetched is None:
        raise ValueError("no folder was given to fetch it into")
    source = filesystem(uri.partition("://")[0])
    name = hashlib.sha256(f"{uri}\n{source.ukey(uri)}".encode()).hexdigest()
    path = fetched / f"{name}{_suffix(uri)}"
    if not path.exists():
        fetched.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        with source.open(uri, "rb") as far, partial.open("wb") as near:
            _copy(far, near)
        partial.replace(path)
    return path


def _copy(far: BinaryIO, near: BinaryIO) -> None:
    """Copy what is not too large, whatever size was announced."""
    left = FILE_BYTES_MAX
    while chunk := far.read(COPIED_AT_ONCE):
        left -= len(chunk)
        if left < 0:
            raise ValueError(f"is larger than {FILE_BYTES_MAX // 2**20} MiB")
        near.write(chunk)
