"""Which of a catalog's jobs belong to one of several controllers."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from nightkiln.catalog.columns import Planned, count_planned
from nightkiln.core.sharing import Share, share_sql


def keep_share(con: duckdb.DuckDBPyConnection, share: Share) -> Planned:
    """Keep of ``planned`` what belongs to one share; ``plan_jobs`` comes first.

    All rows that mean one job are in the same share.
    """
    mine = f"{share_sql('job_id', share.of)} = {share.number:d}"
    con.execute(f"CREATE OR REPLACE TABLE planned AS FROM planned WHERE {mine}")
    return count_planned(con)


def count_shares(con: duckdb.DuckDBPyConnection, of: int, *, without: str) -> Sequence[int]:
    """How many jobs of ``planned`` each share has that are not in the relation ``without``."""
    share = share_sql("job_id", of)
    found = con.execute(
        f"SELECT {share} AS share, count(DISTINCT job_id) FROM planned "  # noqa: S608 - ours
        f"ANTI JOIN {without} USING (job_id) GROUP BY share"
    ).fetchall()
    counts = dict(found)
    return [counts.get(number, 0) for number in range(1, of + 1)]
