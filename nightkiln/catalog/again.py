"""Jobs with new seeds instead of others: what ``nightkiln retry --reseed`` plans."""

from __future__ import annotations

from collections.abc import Collection

import duckdb

from nightkiln.catalog.catalog import CATALOG_FILE, Catalog
from nightkiln.catalog.columns import Planned, count_planned, recipe_of, reseeded_query
from nightkiln.catalog.rows import load_rows
from nightkiln.core.errors import BadInput, Problem

RESEEDS_MAX = 100  # of one picture, each instead of the one before


def reseed_jobs(
    con: duckdb.DuckDBPyConnection,
    catalog: Catalog,
    *,
    batch: str,
    chosen: Collection[str],
    earlier: Collection[str],
) -> Planned:
    """Keep of ``planned`` one line per chosen job, with its new seed and what it ``replaces``.

    ``chosen`` may be jobs that replaced others; then ``earlier`` are all that those replaced, back
    to what the catalog asks for. ``plan_jobs`` comes first. Jobs that the catalog does not ask for
    any more are left out.

    Raises:
        BadInput: there is no seed to change.
    """
    if catalog.seed is None:
        fix = 'bind one: seed: {to: "KSampler.seed", default: derived}'
        raise BadInput([Problem(f"{CATALOG_FILE}: inputs", "there is no seed to change", fix)])
    columns = load_rows(con, catalog)
    recipe = recipe_of(con, catalog, columns, batch=batch)
    for name, ids in (("chosen_jobs", chosen), ("known_jobs", {*chosen, *earlier})):
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT unnest(?::VARCHAR[]) AS job_id",
            [sorted(ids)],
        )
    con.execute("CREATE OR REPLACE TABLE lines AS FROM planned SEMI JOIN known_jobs USING (job_id)")
    again, parameters = reseeded_query(recipe, columns, "lines")
    for _ in range(RESEEDS_MAX):
        # What replaces a known job may be known itself: until nothing is new.
        con.execute(
            f"CREATE OR REPLACE TABLE found AS FROM ({again}) "
            "SEMI JOIN known_jobs USING (job_id) ANTI JOIN lines USING (job_id)",
            parameters,
        )
        ((count,),) = con.execute("SELECT count(*) FROM found").fetchall()
        if count == 0:
            break
        con.execute("INSERT INTO lines FROM found")
    con.execute(f"CREATE OR REPLACE TABLE reseeded AS {again}", parameters)
    con.execute(
        "CREATE OR REPLACE TABLE planned AS FROM reseeded "
        "WHERE replaces IN (SELECT job_id FROM chosen_jobs)"
    )
    return count_planned(con)
