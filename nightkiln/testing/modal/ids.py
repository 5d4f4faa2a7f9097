"""Names of the service's objects, as the SDK expects them."""

from __future__ import annotations

from collections import Counter

DIGITS = 22  # behind the prefix, in every id of the service


class Ids:
    """Makes ids such as ``fc-0000000000000000000001``; the same story makes the same ones."""

    def __init__(self) -> None:
        self._made: Counter[str] = Counter()

    def new(self, prefix: str) -> str:
        self._made[prefix] += 1
        return f"{prefix}-{self._made[prefix]:0{DIGITS}d}"
