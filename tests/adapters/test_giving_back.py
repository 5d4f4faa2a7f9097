"""How leases are given back: together, again and again, and none held up by another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from nightkiln.core.errors import ProviderError
from nightkiln.core.model import LeaseId
from nightkiln.dispatch.giving_back import RELEASE_TRY_S_MAX, Releases, see_through
from nightkiln.providers.local import LocalProvider
from nightkiln.testing import virtual_time

FIFTY = [LeaseId(f"night-1-lease-{number:03d}") for number in range(50)]


@dataclass
class Till(LocalProvider):
    """Takes leases back in its own way, and remembers how it was asked."""

    way: Callable[[Sequence[LeaseId]], Awaitable[None]]
    asked: list[list[LeaseId]] = field(default_factory=list)
    gone: set[LeaseId] = field(default_factory=set)

    async def release(self, lease_ids: Sequence[LeaseId]) -> None:
        self.asked.append(list(lease_ids))
        await self.way(lease_ids)
        self.gone |= set(lease_ids)


async def at_its_pace(lease_ids: Sequence[LeaseId]) -> None:
    del lease_ids
    await asyncio.sleep(5.0)


def told(way: Callable[[Sequence[LeaseId]], Awaitable[None]]) -> tuple[Till, list[str | None]]:
    """Fifty leases go, some at once and some a little later."""

    async def main() -> tuple[Till, list[str | None]]:
        till = Till(way)
        releases = Releases(till)

        async def one(number: int) -> str | None:
            await asyncio.sleep(float(number % 2))
            return await releases.give_back(FIFTY[number], for_s=60.0)

        return till, await asyncio.gather(*map(one, range(50)))

    return virtual_time.run(main())


def test_fifty_leases_are_given_back_in_two_calls() -> None:
    till, errors = told(at_its_pace)

    assert errors == [None] * 50
    assert [len(together) for together in till.asked] == [25, 25]
    assert till.gone == set(FIFTY)


def test_one_that_cannot_be_released_holds_up_only_itself() -> None:
    async def stubborn(lease_ids: Sequence[LeaseId]) -> None:
        if FIFTY[7] in lease_ids:
            raise ProviderError("409", provider="till")

    till, errors = told(stubborn)

    assert [number for number, error in enumerate(errors) if error is not None] == [7]
    assert till.gone == set(FIFTY) - {FIFTY[7]}
    assert errors[7] == "ProviderError: 409"


def test_a_provider_that_never_answers_is_not_waited_for_for_ever() -> None:
    async def silent(lease_ids: Sequence[LeaseId]) -> None:
        del lease_ids
        await asyncio.get_running_loop().create_future()

    async def main() -> tuple[str | None, float]:
        error = await Releases(Till(silent)).give_back(FIFTY[0], for_s=60.0)
        return error, asyncio.get_running_loop().time()

    error, took_s = virtual_time.run(main())

    assert error == "TimeoutError"
    assert took_s < 60.0 + 2 * RELEASE_TRY_S_MAX


def test_whoever_stops_waiting_does_not_stop_the_others() -> None:
    async def main() -> Till:
        till = Till(at_its_pace)
        releases = Releases(till)
        first, second = (
            asyncio.create_task(releases.give_back(lease_id, for_s=60.0)) for lease_id in FIFTY[:2]
        )
        await asyncio.sleep(1.0)
        first.cancel()
        assert await second is None
        return till

    assert virtual_time.run(main()).gone == set(FIFTY[:2])


def test_what_must_be_done_is_seen_through_however_often_we_are_told_to_end() -> None:
    async def slow() -> bool:
        await asyncio.sleep(3.0)
        return True

    async def main() -> tuple[bool, bool]:
        waiting = asyncio.create_task(see_through(asyncio.create_task(slow())))
        for _ in range(4):
            await asyncio.sleep(0.5)
            waiting.cancel()
        return await waiting

    assert virtual_time.run(main()) == (True, True)
