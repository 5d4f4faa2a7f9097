"""Anything that JSON can hold, as strategies."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

LEVELS = 2
ITEMS_MAX = 3


def nested(leaf: SearchStrategy[Any], *, keys: SearchStrategy[str]) -> SearchStrategy[Any]:
    """Lists and dictionaries of lists and dictionaries of ``leaf``.

    Not ``st.recursive``: a draw of it that is cut short may spoil the next one (seen once in some
    thousand runs, as FlakyStrategyDefinition).
    """
    found = leaf
    for _ in range(LEVELS):
        lists = st.lists(found, max_size=ITEMS_MAX)
        found = leaf | lists | st.dictionaries(keys, found, max_size=ITEMS_MAX)
    return found
