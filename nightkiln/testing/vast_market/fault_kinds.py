"""What a fault can be: how it plays, where and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from nightkiln.testing.vast_market.replies import Reply


@dataclass(frozen=True, slots=True)
class Instead:
    """Answered like this, and nothing is done."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Afterwards:
    """Done, and answered like this all the same; None: the connection breaks off."""

    reply: Reply | None


@dataclass(frozen=True, slots=True)
class Hangs:
    """Done, and not answered in time."""


@dataclass(frozen=True, slots=True)
class Altered:
    """Done, and the answer is changed."""

    change: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Afflicts:
    """The machine that is rented then has this trouble of ``fate.TROUBLES``."""

    trouble: str


@dataclass(frozen=True, slots=True)
class Raced:
    """Somebody took the offer since the search."""


Play: TypeAlias = Instead | Afterwards | Hangs | Altered | Afflicts | Raced


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens, at which calls, and how often in a row when nobody says otherwise."""

    says: str
    where: frozenset[str]  # names of endpoints
    play: Play
    times: int = 1
    share: float = 0.0  # of calls, in ``default``
