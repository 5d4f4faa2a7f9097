"""Ready answers: views over the views, one named SQL file each.

DuckDB looks at every file below a view while that is made, and an answer asks several views, each
of which asks others: with many files that would take seconds. So answers are made upon empty tables
that go by the names of those views for the moment.
"""

from __future__ import annotations

from nightkiln.store.sql_files import sql_file

ANSWERS = (
    "waste",
    "cost_per_1000",
    "spend_by_day",
    "machines",
    "failures",
    "slowest",
    "duplicates",
    "progress",
)

_FILES = ("uses", *ANSWERS)  # each after what it asks
_ASKED = ("jobs", "outputs", "attempts", "leases", "runs", "batches")


def answers_sql() -> str:
    """Statements that create the answers, above all other views."""
    stand_ins = [
        f"create or replace temp table {view} as from main.{view} limit 0;" for view in _ASKED
    ]
    answers = [sql_file(name) for name in _FILES]
    return "\n".join([*stand_ins, *answers, *(f"drop table temp.{view};" for view in _ASKED)])
