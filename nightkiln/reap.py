"""The sweep that no run has to be alive for: machines that nobody wants are given back.

What was given back is looked for once more, and only then is it over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import stamina

from nightkiln.core.errors import NightkilnError, ProviderError, StoreUnusable
from nightkiln.core.model import LeaseId
from nightkiln.core.reaping import Fate, ReapRules, billed_until_s
from nightkiln.lease_book import Entry, LeaseBook, Standing
from nightkiln.ports.provider import Provider
from nightkiln.sighting import Finding, Sight, billed_by, look

ENDED_MAX = 50  # machines in one sweep: more is a mistake, or wants somebody to look
RELEASE_S_MAX = 180.0  # for which releasing is tried again
RELEASE_TRY_S_MAX = 150.0  # for one answer: it is the provider's own confirmation, too

LOST_S = (
    30 * 86400.0
)  # for which a record waits for its store to come back, and a run for its bills

Close = Callable[[Entry, float, str], Awaitable[None]]  # what is over, since when, and why


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep has done."""

    sight: Sight
    ended: tuple[Finding, ...] = ()
    closed: tuple[Finding, ...] = ()
    failed: Mapping[LeaseId, str] = field(default_factory=dict)
    left: int = 0  # for the next sweep: more than one may end
    warnings: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether every service answered, and all that nobody wants is given back."""
        return not self.sight.errors and not self.failed and not self.left


async def reap(
    providers: Mapping[str, Provider],
    book: LeaseBook,
    rules: ReapRules,
    *,
    clock: Callable[[], float],
    close: Close | None = None,
    ended_max: int = ENDED_MAX,
    release_s_max: float = RELEASE_S_MAX,
) -> Swept:
    """Give back what nobody wants, the dearest first, and see that it is gone.

    ``close``: hears of every entry of the book that is over, to keep its record; then the book
    forgets it.

    Raises:
        BadInput: there is nobody to ask, or nothing is in scope.
        StoreUnusable: the book cannot be read.
    """
    assert ended_max > 0
    sight = await look(providers, book, rules, now_s=clock())
    wanted = sorted(sight.of(Fate.END), key=lambda each: each.usd_per_hour, reverse=True)
    ending, closing = wanted[:ended_max], sight.of(Fate.CLOSE)

    async def end(name: str, provider: Provider) -> dict[LeaseId, str]:
        # Also what seems to be gone already: giving that back is how a provider confirms it.
        mine = [each.lease_id for each in (*ending, *closing) if each.provider == name]
        return await _end(provider, mine, for_s=release_s_max)

    # All at once: a machine that was judged long ago may be somebody's again.
    answers = await asyncio.gather(*(end(*each) for each in providers.items()))
    failed = {lease_id: why for answer in answers for lease_id, why in answer.items()}
    over = [each for each in (*ending, *closing) if each.lease_id not in failed]
    warnings = await _keep(over, book, close, rules, now_s=clock())
    warnings += await asyncio.to_thread(_tidy, book, now_s=clock())
    return Swept(
        sight=sight,
        ended=tuple(each for each in ending if each in over),
        closed=tuple(each for each in closing if each in over),
        failed=failed,
        left=len(wanted) - len(ending),
        warnings=tuple(warnings),
    )


async def _end(
    provider: Provider, lease_ids: Collection[LeaseId], *, for_s: float
) -> dict[LeaseId, str]:
    """Give leases back, all at once; those for which that is not so in the end, and why."""
    if not lease_ids:
        return {}

    async def release() -> None:
        async with asyncio.timeout(RELEASE_TRY_S_MAX):
            await provider.release(list(lease_ids))

    caller = stamina.AsyncRetryingCaller(
        attempts=None, timeout=for_s, wait_initial=0.5, wait_max=10.0, wait_jitter=0.0
    )
    error = ""
    try:
        await caller.on((ProviderError, TimeoutError))(release)
    except NightkilnError as failure:
        error = str(failure)
    except TimeoutError:
        error = f"{provider.name} did not answer"
    still = await billed_by(provider)
    if isinstance(still, str):
        return dict.fromkeys(lease_ids, error or still)
    there = {each.lease_id for each in still}
    left = [lease_id for lease_id in lease_ids if lease_id in there]
    return dict.fromkeys(left, error or "it was given back, and is billed all the same")


async def _keep(
    over: Iterable[Finding],
    book: LeaseBook,
    close: Close | None,
    rules: ReapRules,
    *,
    now_s: float,
) -> list[str]:
    """Write down what is over; a record that cannot be kept holds up no other."""
    warnings = []
    for each in over:
        if each.entry is None:
            continue
        lease_id = each.entry.lease_id
        try:
            # Another process may have been faster: then there is nothing left to say.
            entry = await asyncio.to_thread(book.entry, lease_id)
            if entry is None:
                continue
            until_s = _until_s(each, entry, rules, now_s)
            if entry.standing is not Standing.ENDED:
                await asyncio.to_thread(book.ended, lease_id, ended_s=until_s)
            if close is not None:
                await close(entry, until_s, each.verdict.said)
                await asyncio.to_thread(book.forget, lease_id)
        except NightkilnError as error:
            warnings.append(f"{lease_id} is over, but not on record: {error}")
            if now_s - each.entry.asked_s > LOST_S:
                with suppress(StoreUnusable):  # then the next sweep forgets it
                    await asyncio.to_thread(book.forget, lease_id)
    return warnings


def _tidy(book: LeaseBook, *, now_s: float) -> list[str]:
    """Forget runs that hold nothing and whose bills are as whole as they will ever be."""
    try:
        holders = {entry.whose for entry in book.entries()}
        for owner in book.owners():
            if owner.whose not in holders and now_s - owner.alive_s > LOST_S:
                book.forget_owner(owner)
    except StoreUnusable as error:
        return [f"the book of leases could not be tidied: {error}"]
    return [f"{path} cannot be read; see what it was, and delete it" for path in book.damaged()]


def _until_s(finding: Finding, entry: Entry, rules: ReapRules, now_s: float) -> float:
    """Until when a lease that is over was billed, as far as anybody knows."""
    if entry.ended_s is not None:
        return entry.ended_s
    if finding.billed is not None or finding.known is None:
        return now_s  # until now: it was we who gave it back
    return billed_until_s(finding.known, silence_s=rules.silence_s, now_s=now_s)
