"""The account behind a key: what it can spend, and what the key may not do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from nightkiln.core.model import Usd
from nightkiln.providers.vast.charging import days_around
from nightkiln.providers.vast.errors import Kind, VastFailed
from nightkiln.providers.vast.service import VastService, until_answered
from nightkiln.providers.vast.values import number

ASK_S_MAX = 3.0  # for one question, with repeats: somebody sits and waits
_DENIED = frozenset({Kind.NOT_ALLOWED, Kind.WRONG_KEY})


@dataclass(frozen=True, slots=True)
class Account:
    """What can be told without changing anything; ``instance_write`` cannot."""

    credit: Usd | None  # USD prepaid: the most that can be lost; None: the key may not see it
    missing: tuple[str, ...] = ()  # permissions that the key lacks, by the service's names


async def account_of(service: VastService, *, now_s: float) -> Account:
    """Ask for everything that a key needs to read.

    Raises:
        VastFailed: no key, a wrong key, or no answer.
    """
    from_s, to_s = days_around(now_s, now_s)
    probes: dict[str, Callable[[], Awaitable[Any]]] = {
        "user_read": service.user,
        "instance_read": lambda: service.page(None),
        "billing_read": lambda: service.charges(from_s, to_s, None),
    }
    missing: list[str] = []
    answers: dict[str, Any] = {}
    denied: VastFailed | None = None
    for permission, probe in probes.items():
        try:
            answers[permission] = await until_answered(probe, within_s=ASK_S_MAX)
        except VastFailed as failed:
            if failed.kind not in _DENIED:
                raise
            missing.append(permission)
            denied = failed
    if denied is not None and not answers:
        raise denied  # it opens nothing at all
    credit = number(answers.get("user_read", {}).get("credit"))
    return Account(Decimal(str(round(credit, 4))) if credit is not None else None, tuple(missing))
