"""How often each call may be made, as documented; by the wall, per identity and endpoint."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from nightkiln.testing.vast_market.replies import Reply
from nightkiln.testing.vast_market.rules import LimitStyle

SEARCHES_MAX, SEARCHES_S = 10, 60.0  # so many in any such span
SEARCH = "search"
CREATE_PENALTY_S = 12.0  # that a create which came too early waits
# Least seconds between two calls of one identity (docs, read 2026-08).
THRESHOLD_S: Mapping[str, float] = MappingProxyType(
    {
        "create": 4.5,
        "show": 2.0,
        "list": 1.0,
        "destroy": 3.0,
        "manage": 1.0,
        "reboot": 1.0,
        "bid": 5.5,
        "execute": 1.5,
        "charges": 1.0,
        "reports": 1.2,
        "volumes": 5.5,
        "keys": 2.0,
    }
)
Identity = tuple[str, str]  # who, which limit


@dataclass(slots=True)
class Limiter:
    """``scale`` times the documented waits; 0 limits nothing."""

    scale: float
    style: LimitStyle
    _free_s: dict[Identity, float] = field(default_factory=dict)
    _searched_s: dict[str, deque[float]] = field(default_factory=dict)

    def refusal(self, who: str, limit: str | None, now_s: float) -> Reply | None:
        """What a call that comes too early is told; None: it may pass."""
        if limit is None or self.scale <= 0:
            return None
        if limit == SEARCH:
            return self._search(who, now_s)
        threshold_s = THRESHOLD_S[limit]
        wait_s = self._free_s.get((who, limit), 0.0) - now_s
        if wait_s <= 0:
            self._free_s[who, limit] = now_s + threshold_s * self.scale
            return None
        if limit == "create":
            wait_s = CREATE_PENALTY_S * self.scale
            self._free_s[who, limit] = now_s + wait_s
        return too_frequent(threshold_s, wait_s, self.style)

    def _search(self, who: str, now_s: float) -> Reply | None:
        searched = self._searched_s.setdefault(who, deque())
        while searched and searched[0] <= now_s - SEARCHES_S * self.scale:
            searched.popleft()
        if len(searched) < SEARCHES_MAX:
            searched.append(now_s)
            return None
        wait_s = searched[0] + SEARCHES_S * self.scale - now_s
        return too_frequent(SEARCHES_S / SEARCHES_MAX, wait_s, self.style)


def too_frequent(threshold_s: float, wait_s: float, style: LimitStyle) -> Reply:
    """429 as the service says it."""
    said = f"API requests too frequent: endpoint threshold={threshold_s:g}"
    if style is LimitStyle.TEXT:
        return Reply(said, 429)
    headers = {"Retry-After": str(math.ceil(wait_s))} if style is LimitStyle.RETRY_AFTER else {}
    return Reply({"success": False, "error": "too_many_requests", "msg": said}, 429, headers)
