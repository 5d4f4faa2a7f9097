"""Cuts a large answer into pieces that DuckDB can join and sort in bounded memory, in order.

Jobs and outputs of millions of rows at once are more than a join holds in half a gigabyte
(measured: 1.2 million rows failed with one), so they are asked for slice by slice: many whole
batches, or some thousands of rows of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from nightkiln.store.sql_files import literal

BUCKET_ROWS = 1_000  # of a catalog: what a slice consists of
SLICE_OUTPUTS = 200_000  # about 100 MB while they are joined and sorted


@dataclass(frozen=True, slots=True)
class Count:
    """How many outputs there are in one bucket of a batch."""

    batch: str
    bucket: int | None  # ``row`` // ``BUCKET_ROWS``; None, and last: jobs that no row asked for
    outputs: int


def slices(counts: Iterable[Count], *, outputs_max: int = SLICE_OUTPUTS) -> Iterator[str]:
    """Conditions that together mean everything counted, each output once, in the order given.

    ``counts`` are sorted by batch and bucket. A single bucket may be more than a slice.
    """
    small: list[str] = []  # batches that have room in one slice together
    held = 0
    for batch, group in groupby(counts, key=lambda count: count.batch):
        buckets = list(group)
        total = sum(count.outputs for count in buckets)
        if small and held + total > outputs_max:
            yield _batches(small)
            small, held = [], 0
        if total > outputs_max:
            yield from _rows(buckets, outputs_max)
        else:
            small.append(batch)
            held += total
    if small:
        yield _batches(small)


def _batches(names: Sequence[str]) -> str:
    return f"batch between {literal(names[0])} and {literal(names[-1])}"


def _rows(buckets: Sequence[Count], outputs_max: int) -> Iterator[str]:
    """Those of one batch that is too much for a slice."""
    batch = f"batch = {literal(buckets[0].batch)}"
    begin, held = buckets[0].bucket, 0
    for count in buckets:
        if held and held + count.outputs > outputs_max:
            yield batch + _from(begin) + _until(count.bucket)
            begin, held = count.bucket, 0
        held += count.outputs
    yield batch + (
        " and row is null" if begin is None else f" and ({_least(begin)} or row is null)"
    )


def _from(bucket: int | None) -> str:
    assert bucket is not None, "nothing comes after the jobs without a row"
    return f" and {_least(bucket)}"


def _until(bucket: int | None) -> str:
    return f" and row < {bucket * BUCKET_ROWS}" if bucket is not None else " and row is not null"


def _least(bucket: int) -> str:
    return f"row >= {bucket * BUCKET_ROWS}"
