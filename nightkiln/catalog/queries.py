"""What a catalog's own query may read: a catalog can come from a stranger, and its rows leave.

They become prompts on machines of others, so a query that comes with a catalog reads what lies
beside it, what it names in the network, and the store; not the files of who runs it. A query of
the user's (``--select``) may read what it likes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob, iglob
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import duckdb

from nightkiln.core.errors import BadInput, Problem

# Functions that make rows of files; their first argument names them.
_OF_FILES = frozenset(
    f"read_{kind}{how}"
    for kind in ("parquet", "csv", "json", "ndjson", "text", "blob", "json_objects")
    for how in ("", "_auto")
) | {"parquet_scan", "read_ndjson_objects", "glob"}
_OF_NOTHING = frozenset({"range", "generate_series", "unnest", "repeat", "repeat_row"})
_NETWORK = frozenset({"s3", "s3a", "http", "https", "gs", "gcs", "az", "abfs", "abfss", "hf"})
_LISTS = frozenset({"list_value", "ARRAY_CONSTRUCTOR"})
# Of files that DuckDB reads by their bare name.
_ENDINGS = tuple(
    f".{kind}{packed}"
    for kind in ("parquet", "csv", "tsv", "json", "jsonl", "ndjson", "txt", "db", "duckdb", "xlsx")
    for packed in ("", ".gz", ".zst")
)
_QUOTED = re.compile(r"'((?:[^']|'')+)'")
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
FIX = "name files beside catalog.yaml; --select may read others"


def beside(con: duckdb.DuckDBPyConnection, sql: str, *, folder: Path, where: str) -> str:
    """A catalog's own query, whose files are those in ``folder``.

    DuckDB would take a file of the current folder first, if it has the same name.

    Raises:
        BadInput: it names files elsewhere, or could.
    """
    parsed = _parsed(con, sql, where)
    found = list(_files(parsed))
    named = [one for one in found if isinstance(one, _Named) and not one.is_uri]
    refused = [one for one in found if isinstance(one, str)]
    refused += [_refused(one.path) for one in named if not one.is_there(folder)]
    if refused:
        raise BadInput([Problem(where, what, FIX) for what in refused])
    if not named:
        return sql
    for one in named:
        one.rename(f"{folder}/{one.path}")
    text = json.dumps({"error": False, "statements": parsed})
    ((bound,),) = con.execute("SELECT json_deserialize_sql(?::JSON)", [text]).fetchall()
    return str(bound)


def local_files_in(folder: Path, sql: str) -> list[Path]:
    """Files of the catalog that a query names in quotes; for its digest."""
    named = {text.replace("''", "'") for text in _QUOTED.findall(sql)}
    found = {
        folder / path
        for name in named
        if not _URI.match(name)
        for path in glob(name, root_dir=folder, recursive=True)  # noqa: PTH207 - as above
    }
    return sorted(path for path in found if path.is_file())


def leaves(path: str) -> bool:
    """Whether a path points out of the folder that it is relative to."""
    posix, windows = PurePosixPath(path), PureWindowsPath(path)
    return (
        posix.is_absolute()
        or bool(windows.drive or windows.root)
        or ".." in posix.parts
        or ".." in windows.parts
        or "\0" in path
    )


@dataclass(frozen=True, slots=True)
class _Named:
    """A file that a query names, and where it stands in what was parsed."""

    path: str
    places: tuple[tuple[Any, Any], ...]  # a dict or list, and the key in it

    @property
    def is_uri(self) -> bool:
        return _URI.match(self.path) is not None

    def is_there(self, folder: Path) -> bool:
        found = iglob(self.path, root_dir=folder, recursive=True)  # noqa: PTH207 - pathlib's cannot start elsewhere
        return next(found, None) is not None

    def rename(self, path: str) -> None:
        for holder, key in self.places:
            holder[key] = path


def _parsed(con: duckdb.DuckDBPyConnection, sql: str, where: str) -> Any:
    ((text,),) = con.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    parsed = json.loads(text)
    if parsed["error"]:
        what = f"cannot be looked through: {parsed.get('error_message', 'it is no plain query')}"
        raise BadInput([Problem(where, what, "write it as a plain SELECT")])
    return parsed["statements"]


def _files(parsed: Any) -> Iterator[_Named | str]:
    """Every file that a query names; or why one may not be read."""
    for node in _nodes(parsed):
        if node.get("type") == "TABLE_FUNCTION":
            yield from _of_call(node["function"])
        elif isinstance(name := node.get("table_name"), str) and _is_file(name):
            places: list[tuple[Any, Any]] = [(node, "table_name")]
            if "qualified_name" in node:
                places.append((node["qualified_name"]["path"], -1))
            yield _refused(name) if _is_elsewhere(name) else _Named(name, tuple(places))


def _of_call(call: dict[str, Any]) -> Iterator[_Named | str]:
    name = str(call["function_name"]).lower()
    if name in _OF_NOTHING:
        return
    if name not in _OF_FILES:
        yield f"asks {name}(), which could read what does not lie beside the catalog"
        return
    for constant in _constants(_arguments(call)[:1]):
        if constant is None:
            yield f"asks {name}() for files that it does not name as plain texts"
        else:
            path = str(constant["text"])
            yield _refused(path) if _is_elsewhere(path) else _Named(path, ((constant, "text"),))


def _refused(path: str) -> str:
    return f"reads {path}, and there is no such file beside the catalog"


def _is_file(table: str) -> bool:
    """Whether DuckDB would look for a file of this name if there is no such table."""
    return "/" in table or "\\" in table or table.lower().endswith(_ENDINGS)


def _is_elsewhere(path: str) -> bool:
    if (uri := _URI.match(path)) is not None:
        return uri[1].lower() not in _NETWORK
    return leaves(path) or path.startswith("~")


def _arguments(call: dict[str, Any]) -> list[Any]:
    """Expressions, whether this version of DuckDB wraps them or not."""
    found = call.get("arguments", call.get("children", []))
    return [one.get("expression", one) for one in found]


def _constants(expressions: list[Any]) -> Iterator[dict[str, Any] | None]:
    """The texts that stand there, in a list or not; None for whatever is none."""
    for one in expressions:
        if {one.get("function_name"), one.get("type")} & _LISTS:
            yield from _constants(_arguments(one))
        else:
            literal = one.get("literal", {}) if one.get("class") == "CONSTANT" else {}
            yield literal if isinstance(literal.get("text"), str) else None


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        match waiting.pop():
            case dict() as found:
                yield found
                waiting.extend(found.values())
            case list() as found:
                waiting.extend(found)
