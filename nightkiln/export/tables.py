"""Parquet that holds the files themselves: plain, and as Hugging Face's ``datasets`` loads it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nightkiln.core.errors import BadInput, Problem
from nightkiln.export.formats import CAPTION, FILE_NAME, plain, shown_names, typed
from nightkiln.export.place import Made, Place
from nightkiln.export.plan import Plan, Row

# Readers fetch whole row groups: few images in each make looking at one of them cheap.
GROUP_ROWS_MAX = 100
GROUP_BYTES_MAX = 16_000_000
FILE = "file"
SHARD_DIGITS = 5  # as Hugging Face counts

# The types of Hugging Face's features that hold bytes, by what media types begin with.
HF_TYPES = {"image": "Image", "video": "Video", "audio": "Audio"}
HF_FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
HF_CARD = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---

Made by `nightkiln export --format hf`. Each row is one output (`{column}`) with its caption
(`text`) and its metadata. `SHA256SUMS` holds the checksum of every file, `manifest.json` says
what was asked for.

"""


class ParquetTables:
    """``part-00000.parquet`` and so on: ``file_name``, ``text``, ``file`` and the metadata."""

    takes_files = True

    def __init__(self, place: Place, plan: Plan) -> None:
        own = pa.schema(
            [(FILE_NAME, pa.string()), (CAPTION, pa.string()), (FILE, pa.large_binary())]
        )
        self._place = place
        self._shown = shown_names(plan.metadata.names, own.names)
        kept = [each.with_name(self._shown[each.name]) for each in plan.metadata]
        self._schema = pa.schema([*own, *kept])

    @contextmanager
    def shard(self, number: int) -> Iterator[_Table]:
        path = f"part-{number:0{SHARD_DIGITS}d}.parquet"
        with _table(self._place, path, self._schema, FILE) as table:
            table.values_of = self._values
            yield table

    def closing(self) -> Sequence[Made]:
        return ()

    def _values(self, row: Row, data: bytes) -> dict[str, Any]:
        own = {FILE_NAME: row.path, CAPTION: row.caption, FILE: data}
        return {**own, **typed(row.metadata, self._shown)}


class HuggingFace:
    """``data/train-00000-of-00005.parquet`` and so on, and a card that says so."""

    takes_files = True

    def __init__(self, place: Place, plan: Plan) -> None:
        self._place = place
        self._parts = plan.parts
        self._column = _hf_column(plan)
        self._shown = shown_names(plan.metadata.names, [self._column, CAPTION])
        kept = [pa.field(self._shown[each.name], _hf_type(each.type)) for each in plan.metadata]
        schema = pa.schema([(self._column, HF_FILE), (CAPTION, pa.string()), *kept])
        self._schema = schema.with_metadata({"huggingface": self._features(schema)})
        self._types = {each.name: _hf_type(each.type) for each in plan.metadata}

    @contextmanager
    def shard(self, number: int) -> Iterator[_Table]:
        digits = f"0{SHARD_DIGITS}d"
        path = f"data/train-{number:{digits}}-of-{self._parts:{digits}}.parquet"
        with _table(self._place, path, self._schema, self._column) as table:
            table.values_of = self._values
            yield table

    def closing(self) -> Sequence[Made]:
        return [self._place.write("README.md", HF_CARD.format(column=self._column).encode())]

    def _values(self, row: Row, data: bytes) -> dict[str, Any]:
        own = {self._column: {"bytes": data, "path": row.path}, CAPTION: row.caption}
        values = {name: _simple(each, self._types[name]) for name, each in row.metadata.items()}

        return {**own, **typed(values, self._shown)}

    def _features(self, schema: pa.Schema) -> str:
        """What the loader is to take the columns for; without it, images are plain structs."""
        features: dict[str, Mapping[str, str]] = {
            each.name: {"dtype": _hf_dtype(each.type), "_type": "Value"} for each in schema
        }
        features[self._column] = {"_type": HF_TYPES[self._column]}
        return json.dumps({"info": {"features": features}})


class _Table:
    """One Parquet file, a row group in memory."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer = writer
        self._schema = schema
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self.files: Sequence[Made] = ()
        self.values_of: Any = None

    def add(self, row: Row, data: bytes) -> None:
        if len(self._rows) >= GROUP_ROWS_MAX or self._bytes + len(data) > GROUP_BYTES_MAX:
            self.end_group()
        self._rows.append(self.values_of(row, data))
        self._bytes += len(data)

    def end_group(self) -> None:
        """Write what is in memory."""
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._bytes = [], 0

    def made(self) -> Sequence[Made]:
        return self.files


@contextmanager
def _table(place: Place, path: str, schema: pa.Schema, file_column: str) -> Iterator[_Table]:
    # Dictionaries and statistics over whole files would only hold them in memory once more, and
    # images are packed already.

    small = [name for name in schema.names if name != file_column]
    with place.stream(path) as stream:
        writer = pq.ParquetWriter(
            stream,
            schema,
            compression=dict.fromkeys(small, "zstd"),
            use_dictionary=small,
            write_statistics=small,
        )
        with writer:
            table = _Table(writer, schema)
            yield table
            table.end_group()
    table.files = [Made(path, stream.sha256, stream.size)]


def _hf_column(plan: Plan) -> str:
    """What the column of files is called, after what they are.

    Raises:
        BadInput: several kinds, or one that Hugging Face has no type for.
    """
    kinds = plan.facts.kinds
    if len(kinds) == 1 and kinds[0] in HF_TYPES:
        return kinds[0]
    what = f"a data set holds one of {', '.join(HF_TYPES)}, and these are {', '.join(kinds)}"
    raise BadInput([Problem("--format hf", what, "add media like 'image/%' to --where")])


def _hf_type(kind: pa.DataType) -> pa.DataType:
    """Simple types stay; what nests, and what few tools count with, is told as JSON."""
    is_simple = (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_string(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_date32(kind)
    )
    return kind if is_simple else pa.float64() if pa.types.is_decimal(kind) else pa.string()


def _simple(value: object, kind: pa.DataType) -> object:
    """A value in the type that ``_hf_type`` chose for it."""
    if isinstance(value, Decimal) and pa.types.is_floating(kind):
        return float(value)
    is_text = value is None or isinstance(value, str) or not pa.types.is_string(kind)
    return value if is_text else json.dumps(plain(value), ensure_ascii=False)


def _hf_dtype(kind: pa.DataType) -> str:
    names = {pa.float64(): "float64", pa.float32(): "float32", pa.date32(): "date32"}
    return names.get(kind, str(kind))
