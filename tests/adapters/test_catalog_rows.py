"""The scratch database of a run: it ends with the run, whoever still asks it."""

from __future__ import annotations

from contextlib import suppress
from threading import Event, Thread

import duckdb

from nightkiln.catalog import scratch


def test_rows_that_somebody_is_still_reading_end_with_their_run() -> None:
    """A run that is cancelled waits for none of its threads."""
    reading = Event()

    def read(con: duckdb.DuckDBPyConnection) -> None:
        reading.set()
        with suppress(duckdb.Error):
            con.execute("SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b")

    with scratch() as con:
        reader = Thread(target=read, args=(con,))
        reader.start()
        reading.wait()
    reader.join(timeout=10.0)

    assert not reader.is_alive()
