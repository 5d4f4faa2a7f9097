"""Names of the service's objects, as the SDK expects them."""

from __future__ import annotations

from collections import Counter
from secrets import token_hex

FAKE_DIGITS, NUMBER_DIGITS = 8, 14  # together as many as in every id of the service


class Ids:
    """Makes ids such as ``fc-6f1d20ab00000000000001``: in order, and no two fakes the same.

    So what one fake gave out means nothing to another, as what an app remembers of a deploy.
    """

    def __init__(self) -> None:
        self._fake = token_hex(FAKE_DIGITS // 2)
        self._made: Counter[str] = Counter()

    def new(self, prefix: str) -> str:
        self._made[prefix] += 1
        return f"{prefix}-{self._fake}{self._made[prefix]:0{NUMBER_DIGITS}d}"


def number_of(one: str) -> int:
    """The how-manieth of its kind it is: the same in the same story."""
    return int(one[-NUMBER_DIGITS:])
