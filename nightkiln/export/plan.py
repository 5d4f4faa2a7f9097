"""An export's plan: every output that it will hold, named and in order, in one Parquet file.

Two columns: ``file`` is what the export itself needs of an output, ``metadata`` what it passes on,
in the store's own types. The footer says what was asked for and where each part begins.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nightkiln.core.errors import BadInput, Problem
from nightkiln.export.asking import BATCH_ROWS, Question, views_of
from nightkiln.export.naming import OPTION as NAME_OPTION
from nightkiln.export.place import WORK, Place
from nightkiln.export.request import OUTPUT_BYTES_MAX, Format, Request
from nightkiln.store.sql_files import glob_root
from nightkiln.store.store import Store
from nightkiln.temporary import temporary_folder

PLAN = "plan.parquet"
KEY = b"nightkiln"  # of the footer's metadata
EXT_CHARS_MAX = 8
SAME_NAMES_SHOWN = 3

_FILE = pa.struct(
    [
        ("name", pa.string()),  # with "/", without the extension
        ("ext", pa.string()),
        ("caption", pa.string()),
        ("uri", pa.string()),
        ("sha256", pa.string()),
        ("size", pa.int64()),
        ("media", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Row:
    """One output on its way out."""

    name: str
    ext: str
    caption: str | None
    uri: str
    sha256: str
    size: int  # bytes, as the store says
    media: str
    metadata: Mapping[str, Any]

    @property
    def path(self) -> str:
        """What the file is called in the export."""
        return f"{self.name}.{self.ext}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the footer of a plan says."""

    request: str  # its digest
    begins: list[int]  # the first row of each part
    rows: int
    size: int  # bytes of all outputs
    kinds: list[str]  # image, video, ...: of what is there


@dataclass(frozen=True)
class Plan:
    """A plan that is written down."""

    path: Path
    facts: Facts
    metadata: pa.Schema  # of what is passed on

    @property
    def parts(self) -> int:
        return len(self.facts.begins)

    @cached_property
    def sha256(self) -> str:
        """Of all of it: two that are equal mean the same export."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def _ends(self) -> list[int]:
        return [*self.facts.begins[1:], self.facts.rows]

    def rows_in(self, number: int) -> int:
        """How many outputs a part was to hold."""
        return self._ends[number] - self.facts.begins[number]

    def part(self, number: int) -> Iterator[Row]:
        """The outputs of one part, in order; a few thousand in memory."""
        begin, end = self.facts.begins[number], self._ends[number]
        with pq.ParquetFile(self.path) as file:
            for group in range(begin // BATCH_ROWS, file.num_row_groups):
                first = group * BATCH_ROWS
                if first >= end:
                    return
                table = file.read_row_group(group)
                for row in table.slice(max(0, begin - first), end - max(begin, first)).to_pylist():
                    yield Row(**row["file"], metadata=row["metadata"])


def read_plan(path: Path) -> Plan:
    """The plan that is there."""
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        facts = Facts(**json.loads(file.metadata.metadata[KEY]))
    return Plan(path, facts, pa.schema(list(schema.field("metadata").type)))


def write_plan(store: Store, request: Request, place: Place) -> Path:
    """Ask the store and write the answer down; where it is until it lands.

    Raises:
        BadInput: the request does not fit the store, or two outputs would have one name.
    """
    with temporary_folder() as scratch, store.connect(*views_of(request)) as con:
        question = Question(con, request, scratch)
        tally = _Tally(request)
        with place.stream(f"{WORK}/{PLAN}") as stream:
            _write(question, request, tally, stream)
        _check_names(con, stream.aside)
    return stream.aside


@dataclass
class _Tally:
    """What is known of the plan when all of it has passed."""

    request: Request
    begins: list[int] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    kinds: set[str] = field(default_factory=set)
    _rows_open: int = 0  # of the part that is being filled
    _bytes_open: int = 0

    def add(self, size: int, media: str) -> None:
        """Count one output; it begins a part where the one before it is full."""
        is_full = self._rows_open >= self.request.rows_max
        if self.request.format is not Format.CSV:  # which holds no files
            is_full |= self._bytes_open + size > self.request.shard_bytes

        if not self.begins or (is_full and self._rows_open):
            self.begins.append(self.rows)
            self._rows_open = self._bytes_open = 0
        self._rows_open += 1
        self._bytes_open += size
        self.rows += 1
        self.size += size
        self.kinds.add(media.partition("/")[0])

    def facts(self) -> Facts:
        return Facts(self.request.digest, self.begins, self.rows, self.size, sorted(self.kinds))


def _write(question: Question, request: Request, tally: _Tally, stream: Any) -> None:
    writer: pq.ParquetWriter | None = None
    try:
        for table in _even(question.batches()):
            planned = _planned(table, question, request, tally)
            if writer is None:
                writer = pq.ParquetWriter(stream, planned.schema, compression="zstd")
            writer.write_table(planned, row_group_size=BATCH_ROWS)
        if writer is None:
            what = f"no finished output matches {request.where!r}" if request.where else "is empty"
            fix = "'nightkiln query \"select status, count(*) from jobs group by 1\"' says what is"
            raise BadInput([Problem("--where" if request.where else "the store", what, fix)])
        writer.add_key_value_metadata({KEY: json.dumps(asdict(tally.facts())).encode()})
    finally:
        if writer is not None:
            writer.close()


def _even(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Tables of ``BATCH_ROWS`` rows each, but the last: how DuckDB cut them changes no byte."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += batch.num_rows
        while count >= BATCH_ROWS:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, BATCH_ROWS)
            waiting = table.slice(BATCH_ROWS).to_batches()
            count -= BATCH_ROWS
    if count:
        yield pa.Table.from_batches(waiting)


def _planned(table: pa.Table, question: Question, request: Request, tally: _Tally) -> pa.Table:
    """The plan's two columns of what DuckDB answered."""
    files = []
    for values in table.select(sorted(question.needed)).to_pylist():
        ext = _ext(values["uri"])
        question.name.check_ext(ext, values["uri"])
        _check_size(request, values["bytes"], values["uri"])
        caption = values[question.caption]
        tally.add(values["bytes"], values["media"])
        files.append(
            {
                "name": question.name.stem(
                    values, has_dots=request.format is not Format.WEBDATASET
                ),
                "ext": ext,
                "caption": str(caption) if caption is not None else None,
                "uri": values["uri"],
                "sha256": values["sha256"],
                "size": values["bytes"],
                "media": values["media"],
            }
        )
    [metadata] = table.select(list(question.columns)).combine_chunks().to_batches()
    return pa.table({"file": pa.array(files, _FILE), "metadata": metadata.to_struct_array()})


def _check_size(request: Request, size: int, uri: str) -> None:
    """Nothing, if an output of this size can be held in memory.

    Raises:
        BadInput: it is larger than any image may be.
    """
    if size <= OUTPUT_BYTES_MAX or request.format is Format.CSV:
        return
    what = f"{uri} has {size} bytes, more than is held in memory"
    fix = f'leave such out (--where "bytes <= {OUTPUT_BYTES_MAX}") and copy them out of the store'
    raise BadInput([Problem("--where", what, fix)])


def _ext(uri: str) -> str:
    """The extension that the store gave a file when it had looked at its bytes."""
    ext = uri.rpartition(".")[2]
    return ext if ext.isalnum() and ext.isascii() and len(ext) <= EXT_CHARS_MAX else "bin"


def _check_names(con: Any, path: Path) -> None:
    """Nothing, if every output has a name of its own, also where case does not count.

    Raises:
        BadInput: some share one.
    """
    source = glob_root(str(path)).removesuffix("/")
    same = con.execute(
        "select any_value(file.name), count(*) "  # noqa: S608 - a path of ours, quoted
        f"from read_parquet('{source}') group by lower(file.name) having count(*) > 1 "
        f"order by 1 limit {SAME_NAMES_SHOWN}"
    ).fetchall()
    if same:
        raise BadInput([Problem(NAME_OPTION, _shared(same), "add {index}, {seed} or {job_id}")])


def _shared(same: Sequence[tuple[str, int]]) -> str:
    said = ", ".join(f"{count} outputs would be called {name!r}" for name, count in same)
    return said + (", and so on" if len(same) == SAME_NAMES_SHOWN else "")
