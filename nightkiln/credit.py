"""What the account behind a key can spend, asked before anything is rented.

Prepaid credit is the one limit that holds whatever else fails, so it is what the worst case is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.model import Usd
from nightkiln.places import GET_A_KEY, VAST, vast_terms
from nightkiln.settings import Settings

ASK_S_MAX = 20.0  # somebody sits and waits
MUCH = 2  # times the budget: more credit than that is a needless risk


@dataclass(frozen=True, slots=True)
class SeenAccount:
    """An account as far as its key shows it; ``problem`` says in one line what to do."""

    provider: str
    credit: Usd | None = None  # prepaid USD; None: not known
    missing: tuple[str, ...] = ()  # permissions that the key lacks
    problem: str | None = None  # nothing can be rented with it
    is_silent: bool = False  # the service did not answer: it may in a minute

    def as_object(self) -> dict[str, Any]:
        """For programs."""
        return {
            "provider": self.provider,
            "credit_usd": float(self.credit) if self.credit is not None else None,
            "worst_case_usd": float(self.credit) if self.credit is not None else None,
            "missing_permissions": list(self.missing),
            "problem": self.problem,
        }

    def lines(self, budget: Usd | None) -> Iterator[str]:
        """The worst case, and what is wrong, a line each."""
        if self.problem is not None:
            yield self.problem
        if self.credit is not None:
            yield f"worst case {self.credit:.2f} USD: all credit of the {self.provider} account"
        if (warning := self.warning(budget)) is not None:
            yield warning

    def warning(self, budget: Usd | None) -> str | None:
        """What a careful person would change before renting; None: nothing."""
        if budget is None or self.credit is None or self.credit <= MUCH * budget:
            return None
        return (
            f"the {self.provider} account holds {self.credit:.2f} USD, more than twice the budget "
            f"of {budget:.2f}: credit that is not there cannot be lost; keep less on it"
        )


async def seen_account(settings: Settings) -> SeenAccount:
    """The account at Vast.ai; raises nothing."""
    from nightkiln.providers.vast import Kind, VastFailed, account

    if settings.vast_api_key is None:
        return SeenAccount(VAST, problem=f"{VAST}: there is no API key; {GET_A_KEY}")
    key = settings.vast_api_key.get_secret_value()
    try:
        async with asyncio.timeout(ASK_S_MAX):
            found = await account(key, vast_terms(settings), state=settings.state_folder)
    except TimeoutError:
        what = f"{VAST}: {settings.vast_url} did not answer in {ASK_S_MAX:.0f} s; try again later"
        return SeenAccount(VAST, problem=what, is_silent=True)
    except VastFailed as error:
        return SeenAccount(VAST, problem=str(error), is_silent=error.is_transient)
    problem = None
    if "instance_read" in found.missing:
        problem = str(VastFailed(Kind.NOT_ALLOWED, "key"))
    elif found.credit is not None and found.credit <= 0:
        problem = str(VastFailed(Kind.NO_CREDIT, "account"))
    return SeenAccount(VAST, found.credit, found.missing, problem)


def check_account(seen: SeenAccount, *, has_others: bool) -> None:
    """A run that could not rent anything must not begin.

    Raises:
        BadInput: the account cannot be used; or it does not answer, and there is nobody else to
            render on.
    """
    if seen.problem is not None and not (seen.is_silent and has_others):
        raise BadInput([Problem("provider", seen.problem)])
