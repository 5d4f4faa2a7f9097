"""What a settled job looks like in Parquet.

One row per job. Its outputs and attempts lie in parallel lists (``out_uri[i]`` and
``out_bytes[i]`` are the same file), because DuckDB reads only the lists a query names, while of
a list of structs it reads all. The schema does not keep the lists equally long, so
``rows_table`` does.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nightkiln.core.model import Attempt, BatchId, Output, Settled

SCHEMA_VERSION = 2
ERROR_CHARS_MAX = 2000
SEED_MAX = 2**64 - 1

_TIME = pa.timestamp("us")  # UTC without zone: DuckDB needs no extra package to show it
_TEXTS = pa.list_(pa.string())

RESULTS = pa.schema(
    [
        ("job_id", pa.string()),
        ("batch", pa.string()),
        ("epoch", pa.int32()),
        ("commit_key", pa.string()),  # the shard's own key; (batch, job_id, commit_key) is unique
        ("catalog", pa.string()),
        ("status", pa.string()),  # done | failed | reused
        ("fault", pa.string()),
        ("error", pa.string()),
        ("prompt", pa.string()),  # the values of the inputs with these names
        ("negative", pa.string()),
        ("seed", pa.uint64()),  # null where it is not a number from 0 to 2^64-1
        ("width", pa.int32()),  # pixels, of the first output
        ("height", pa.int32()),
        ("workflow_digest", pa.string()),
        ("environment_digest", pa.string()),
        ("provider", pa.string()),  # of the attempt that made the outputs, else of the last
        ("gpu", pa.string()),
        ("host", pa.string()),
        ("lease_id", pa.string()),
        ("attempt_count", pa.int32()),
        ("queued_at", _TIME),
        ("started_at", _TIME),
        ("finished_at", _TIME),
        ("queue_s", pa.float64()),  # from queued to its first attempt
        ("gpu_seconds", pa.float64()),  # of that attempt alone; see the view ``attempts``
        ("download_s", pa.float64()),
        ("usd_marginal", pa.decimal128(12, 6)),
        ("schema_version", pa.int32()),
        ("row", pa.int64()),  # number of the first catalog row that asked for this job
        ("rows", pa.list_(pa.int64())),  # of all of them
        ("columns", pa.string()),  # JSON: the other columns of the first row
        ("more_columns", _TEXTS),  # the same of the further rows
        ("params", pa.string()),  # JSON: every bound value by input name
        ("out_index", pa.list_(pa.int32())),
        ("out_node", _TEXTS),
        ("out_uri", _TEXTS),
        ("out_sha256", _TEXTS),
        ("out_bytes", pa.list_(pa.int64())),
        ("out_media", _TEXTS),
        ("out_width", pa.list_(pa.int32())),
        ("out_height", pa.list_(pa.int32())),
        ("out_verified", _TEXTS),  # since version 2, like the next
        ("out_pixels", _TEXTS),
        ("att_id", _TEXTS),
        ("att_lease_id", _TEXTS),
        ("att_provider", _TEXTS),
        ("att_host", _TEXTS),
        ("att_gpu", _TEXTS),
        ("att_started_at", pa.list_(_TIME)),
        ("att_finished_at", pa.list_(_TIME)),
        ("att_gpu_seconds", pa.list_(pa.float64())),
        ("att_status", _TEXTS),
        ("att_fault", _TEXTS),
        ("att_error", _TEXTS),
    ]
)


def rows_table(settled: Sequence[Settled], batch: BatchId, commit_key: str) -> pa.Table:
    """One row per settled job; every job at most once, or the views would multiply it."""
    rows = [_row(one, batch, commit_key) for one in settled]
    assert len({row["job_id"] for row in rows}) == len(rows), "a job twice in one shard"
    table = pa.Table.from_pylist(rows, schema=RESULTS)
    check_parallel(table)
    return table


def as_results(table: pa.Table) -> pa.Table:
    """Rows of this or an earlier schema in the columns of this one; what they lack is null.

    Raises:
        KeyError: a column that every version has is missing.
        ArrowException: a value does not fit its column.
    """
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else _lacking(table, field)
        for field in RESULTS
    ]
    made = pa.Table.from_arrays(columns, schema=RESULTS)
    check_parallel(made)
    return made


def _lacking(table: pa.Table, field: pa.Field) -> pa.Array:
    """A column without values, whose lists are as long as those that they are parallel to."""
    for prefix, always in (("out_", "out_index"), ("att_", "att_id")):
        if field.name.startswith(prefix):
            like = table[always].combine_chunks()
            nulls = pa.nulls(len(like.values), field.type.value_type)
            return pa.ListArray.from_arrays(like.offsets, nulls)
    return pa.nulls(table.num_rows, field.type)


def check_parallel(table: pa.Table) -> None:
    """Assert that the lists of outputs, and those of attempts, are equally long in every row."""
    import pyarrow.compute as pc

    for prefix in ("out_", "att_"):
        names = [name for name in table.column_names if name.startswith(prefix)]
        lengths = [pc.list_value_length(table[name]) for name in names]
        assert all(one.equals(lengths[0]) for one in lengths), f"{prefix}* lists differ in length"


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as a Parquet file; the same table gives the same bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def utc(seconds: float | None) -> dt.datetime | None:
    """Epoch seconds as UTC without a zone, as tables hold it."""
    if seconds is None:
        return None
    return dt.datetime.fromtimestamp(seconds, dt.UTC).replace(tzinfo=None)


def text(value: str | None, *, chars_max: int | None = None) -> str | None:
    """``value`` as UTF-8 can hold it, cut to ``chars_max``; strangers write errors and prompts."""
    if value is None:
        return None
    if chars_max is not None and len(value) > chars_max:
        value = value[: chars_max - 1] + "…"
    return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "�")


def json_text(values: Mapping[str, Any]) -> str:
    """JSON that DuckDB reads: numbers that are none (NaN, infinity) become null."""
    try:
        return json.dumps(values, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(values), allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def _row(settled: Settled, batch: BatchId, commit_key: str) -> dict[str, Any]:
    job = settled.job
    first = job.rows[0] if job.rows else None
    return {
        "job_id": job.id,
        "batch": batch.batch,
        "epoch": batch.epoch,
        "commit_key": commit_key,
        "catalog": batch.catalog,
        "status": settled.status,
        "fault": settled.fault,
        "error": text(settled.error, chars_max=ERROR_CHARS_MAX),
        "prompt": _named(job.values, "prompt"),
        "negative": _named(job.values, "negative"),
        "seed": _seed(job.values.get("seed")),
        "workflow_digest": batch.workflow_digest,
        "environment_digest": batch.environment_digest,
        "queued_at": utc(settled.queued_s),
        "finished_at": utc(settled.finished_s),
        "download_s": settled.download_s,
        "usd_marginal": settled.usd_marginal,
        "schema_version": SCHEMA_VERSION,
        "row": first.number if first is not None else None,
        "rows": [row.number for row in job.rows],
        "columns": json_text(first.columns if first is not None else {}),
        "more_columns": [json_text(row.columns) for row in job.rows[1:]],
        "params": json_text(job.values),
        **_outputs(settled.outputs),
        **_attempts(settled),
    }


def _named(values: Mapping[str, Any], name: str) -> str | None:
    return text(str(values[name])) if name in values else None


def _seed(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= SEED_MAX:
        return value
    return None


def _outputs(outputs: Sequence[Output]) -> dict[str, Any]:
    # The view ``outputs`` takes the number of an output for its place in the lists.
    assert [output.index for output in outputs] == list(range(len(outputs))), "numbered in order"
    facts = [output.facts for output in outputs]
    return {
        "width": facts[0].width if facts else None,
        "height": facts[0].height if facts else None,
        "out_index": [output.index for output in outputs],
        "out_node": [text(output.node) for output in outputs],
        "out_uri": [output.uri for output in outputs],
        "out_sha256": [fact.sha256 for fact in facts],
        "out_bytes": [fact.size for fact in facts],
        "out_media": [fact.media for fact in facts],
        "out_width": [fact.width for fact in facts],
        "out_height": [fact.height for fact in facts],
        "out_verified": [fact.verified for fact in facts],
        "out_pixels": [fact.pixels for fact in facts],
    }


def _attempts(settled: Settled) -> dict[str, Any]:
    attempts = settled.attempts
    told = telling_attempt(attempts)
    return {
        "provider": text(told.provider) if told is not None else None,
        "gpu": text(told.gpu) if told is not None else None,
        "host": text(told.host) if told is not None else None,
        "lease_id": told.lease_id if told is not None else None,
        "started_at": utc(told.started_s) if told is not None else None,
        "gpu_seconds": told.gpu_s if told is not None else 0.0,
        "queue_s": max(0.0, attempts[0].started_s - settled.queued_s) if attempts else None,
        "attempt_count": len(attempts),
        "att_id": [attempt.id for attempt in attempts],
        "att_lease_id": [attempt.lease_id for attempt in attempts],
        "att_provider": [text(attempt.provider) for attempt in attempts],
        "att_host": [text(attempt.host) for attempt in attempts],
        "att_gpu": [text(attempt.gpu) for attempt in attempts],
        "att_started_at": [utc(attempt.started_s) for attempt in attempts],
        "att_finished_at": [utc(attempt.finished_s) for attempt in attempts],
        "att_gpu_seconds": [attempt.gpu_s for attempt in attempts],
        "att_status": [attempt.status for attempt in attempts],
        "att_fault": [attempt.fault for attempt in attempts],
        "att_error": [text(attempt.error, chars_max=ERROR_CHARS_MAX) for attempt in attempts],
    }


def telling_attempt(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt that made the outputs, else the last one: whom a row names."""
    done = [attempt for attempt in attempts if attempt.status == "done"]
    return done[-1] if done else attempts[-1] if attempts else None
