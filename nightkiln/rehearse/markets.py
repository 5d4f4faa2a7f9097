"""Markets by the names that users know them by."""

from __future__ import annotations

from pathlib import Path

from nightkiln.core.errors import BadInput, Problem
from nightkiln.testing.market import SHIPPED, Market, load_market, shipped_market


def market_of(text: str) -> Market:
    """A shipped market by its name, or one from a file.

    Raises:
        BadInput: there is none of that name, or the file is none.
    """
    if text in SHIPPED:
        return shipped_market(text)
    path = Path(text)
    if not path.is_file():
        fix = f"shipped are {', '.join(SHIPPED)}; or name a market file (docs/reference/market.md)"
        raise BadInput([Problem(f"--market {text}", "there is no such market", fix)])
    return load_market(path)
