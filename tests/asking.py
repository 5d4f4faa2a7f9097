"""Questions to a store, without the views that they do not ask: to make those takes longest."""

from __future__ import annotations

import re
from typing import Any

from nightkiln.store.store import Store
from nightkiln.store.views import VIEWS

PLAIN = frozenset({"jobs", "outputs", "attempts", "leases", "runs", "batches"})
BELOW = {"batches": "runs"}  # what one of them asks, beside what is always there


def ask(store: Store, sql: str) -> list[tuple[Any, ...]]:
    """The rows of the answer."""
    with store.connect(*views_in(sql)) as con:
        return con.execute(sql).fetchall()


def views_in(sql: str) -> tuple[str, ...]:
    """Views that are enough for this question, for ``Store.connect``: empty means all."""
    words = set(re.findall(r"\w+", sql.lower()))
    named = words & PLAIN
    if not named or words & (set(VIEWS) - PLAIN) or any(word.startswith("jobs_") for word in words):
        return ()
    return (*named, *(BELOW[view] for view in named if view in BELOW))
