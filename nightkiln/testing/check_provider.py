"""What every provider has to keep to, as a suite: run it against yours.

::

    async def test_my_provider_keeps_to_the_contract() -> None:
        await check_provider(Subject(make=lambda: MyProvider(...), job=A_JOB))

or, one test for each promise, ``@pytest.mark.parametrize("name", CHECKS)`` with ``run_check``. The
suite rents what is cheapest, a machine or two at a time, and gives everything back; give it a
service that costs nothing. What it finds it says in a sentence: ``Broken``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nightkiln.core.errors import OfferGone, ProviderError, WorkerLost
from nightkiln.testing.provider_case import Broken, Case, Subject, ended
from nightkiln.testing.provider_promises import CHECKS

__all__ = ["CHECKS", "Broken", "Subject", "check_provider", "run_check"]


async def check_provider(subject: Subject) -> None:
    """Examine a provider in every respect.

    Raises:
        Broken: it fails in at least one; each is said.
    """
    found = []
    for name in CHECKS:
        try:
            await run_check(subject, name)
        except Broken as broken:
            found.append(f"{name}: {broken}")
    if found:
        raise Broken("\n".join(found))


async def run_check(subject: Subject, name: str) -> None:
    """Examine a provider in one respect; afterwards nothing of it is rented.

    Raises:
        Broken: it fails in that.
    """
    before = asyncio.all_tasks()
    async with _entered(subject, list(CHECKS).index(name) + 1) as case:
        await CHECKS[name](case)
    await ended(before, subject, "leaving the provider")


@asynccontextmanager
async def _entered(subject: Subject, run: int) -> AsyncIterator[Case]:
    """A case whose leases are given back; errors that no verb may raise are broken promises."""
    try:
        async with subject.make() as provider:
            case = Case(subject, provider, run=run)
            try:
                yield case
            finally:
                await case.release(*case.rented)
    except (Broken, asyncio.CancelledError):
        raise
    except (OfferGone, WorkerLost, ProviderError) as error:
        raise Broken(f"unexpected: {type(error).__name__}: {error}") from error
    except Exception as error:
        said = f"a stranger's error came through: {type(error).__name__}: {error}"
        raise Broken(f"{said}; translate it into one of nightkiln.core.errors") from error
