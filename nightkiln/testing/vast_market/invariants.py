"""What must be true of every night, whatever went wrong in it: the market's truth, judged."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from nightkiln.core.model import Usd
from nightkiln.testing.vast_market.calls import Request
from nightkiln.testing.vast_market.limits import SEARCH, SEARCHES_MAX, SEARCHES_S, THRESHOLD_S
from nightkiln.testing.vast_market.truth import LedgerRow, MachineRow

BURST = 1  # calls beyond the documented rate that are forgiven at a time
EARLY_SHARE = 0.95  # a call is on time from this share of the wait on: the way to us takes time
PREFIX = "nk/"  # of every label of ours
SAID_CHARS_MAX = 200
NEVER_S = float("inf")


@dataclass(frozen=True, slots=True)
class Truth:
    """Everything that a night is judged by."""

    ledger: Sequence[LedgerRow]
    machines: Sequence[MachineRow]
    requests: Sequence[Request]
    secrets: Sequence[str]  # every key that opens something at the service
    limits_scale: float = 1.0

    def spent(self, prefix: str = PREFIX) -> Usd:
        """What all contracts with such a label have cost."""
        rows = [row for row in self.ledger if (row["label"] or "").startswith(prefix)]
        return sum((row["usd"] for row in rows), Decimal(0))


def broken_promises(truth: Truth, *, prefix: str = PREFIX, budget: Usd | None = None) -> list[str]:
    """What was promised and is not so, in words; empty: all is well.

    To be asked when the grace after the end of a night is over: no machine of ours lives, no label
    ever stood for two at once, the documented rates were kept, no key was in an address or went to
    a machine, and not more than the budget was spent.
    """
    return [
        *_living(truth, prefix),
        *_doubles(truth, prefix),
        *_too_fast(truth),
        *_told_keys(truth),
        *_overspent(truth, prefix, budget),
    ]


def _living(truth: Truth, prefix: str) -> Iterator[str]:
    for one in truth.machines:
        if one["is_billed"] and (one["label"] or "").startswith(prefix):
            yield f"{one['label']} (contract {one['contract']}, {one['status']}) is still billed"


def _doubles(truth: Truth, prefix: str) -> Iterator[str]:
    """Labels that stood for two machines at once."""
    by_label: dict[str, list[MachineRow]] = defaultdict(list)
    for one in truth.machines:
        if (one["label"] or "").startswith(prefix):
            by_label[str(one["label"])].append(one)
    for label, found in by_label.items():
        found.sort(key=lambda one: one["created"])
        for earlier, later in pairwise(found):
            ended_s = earlier["destroyed"] if earlier["destroyed"] is not None else NEVER_S
            if later["created"] < ended_s:
                both = f"{earlier['contract']} and {later['contract']}"
                yield f"{label} stood for two machines at once: {both}"


def _too_fast(truth: Truth) -> Iterator[str]:
    """Calls that came faster than documented, by more than one burst."""
    if truth.limits_scale <= 0:
        return
    called: dict[tuple[str, str], list[float]] = defaultdict(list)
    for request in truth.requests:
        if request.limit is not None:
            called[request.who, request.limit].append(request.at_s)
    for (who, limit), moments in called.items():
        worst = _worst(limit, sorted(moments), truth.limits_scale)
        if worst is not None:
            yield f"{who} called {limit} too often: {worst}"


def _worst(limit: str, moments: Sequence[float], scale: float) -> str | None:
    """The first time that more calls came than a burst beyond the rate."""
    if limit == SEARCH:
        most, span_s = SEARCHES_MAX + BURST, SEARCHES_S * scale * EARLY_SHARE
        for first, last in zip(moments, moments[most:], strict=False):
            if last - first < span_s:
                return f"{most + 1} in {last - first:.1f} s"
        return None
    wait_s, level, before_s = THRESHOLD_S[limit] * scale * EARLY_SHARE, 0.0, -NEVER_S
    for at_s in moments:
        level = max(0.0, level - (at_s - before_s) / wait_s) + 1.0
        if level > 1 + BURST:
            return f"every {wait_s:.1f} s at most, and {at_s - before_s:.2f} s after the last"
        before_s = at_s
    return None


def _told_keys(truth: Truth) -> Iterator[str]:
    """Keys where they have no business to be."""
    for request in truth.requests:
        if _holds(request.url, truth.secrets):
            yield f"a key is in the address of {request.method} {_without(request.url)}"
        if request.endpoint == "create" and _holds(json.dumps(request.body), truth.secrets):
            yield "a key was sent to a machine in a create"


def _holds(text: str, secrets: Iterable[str]) -> bool:
    return any(secret in text for secret in secrets)


def _without(url: str) -> str:
    return url.partition("?")[0][:SAID_CHARS_MAX]


def _overspent(truth: Truth, prefix: str, budget: Usd | None) -> Iterator[str]:
    spent = truth.spent(prefix)
    if budget is not None and spent > budget:
        yield f"{spent:.4f} USD were spent, the budget was {budget} USD"
