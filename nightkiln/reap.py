"""The sweep that no run has to be alive for: what is billed, whose it is, and giving it back.

It decides nothing (``core.reaping`` does) and believes nobody: a service that does not answer is an
error and never "nothing there", and what was given back is looked for once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import stamina

from nightkiln.core.errors import BadInput, NightkilnError, Problem, ProviderError
from nightkiln.core.lease_ids import in_full
from nightkiln.core.model import LeaseId, Usd
from nightkiln.core.reaping import (
    Cause,
    Fate,
    Known,
    Machine,
    ReapRules,
    Sign,
    Verdict,
    answering,
    judge,
    judge_missing,
)
from nightkiln.lease_book import Entry, LeaseBook, Owner, Standing
from nightkiln.ports.provider import Billed, Inventory, Provider

ENDED_MAX = 50  # machines in one sweep: more is a mistake, or wants somebody to look
RELEASE_S_MAX = 180.0  # for which releasing is tried again
RELEASE_TRY_S_MAX = 150.0  # for one answer: it is the provider's own confirmation, too
LIST_S_MAX = 120.0
Close = Callable[[Entry, float], Awaitable[None]]  # an entry that is over, and since when


@dataclass(frozen=True, slots=True)
class Finding:
    """A machine, or a lease of the book, with what is to become of it."""

    provider: str
    lease_id: LeaseId
    verdict: Verdict
    billed: Billed | None = None  # None: the provider bills nothing for it
    entry: Entry | None = None  # None: the book does not know it

    @property
    def usd_per_hour(self) -> Usd:
        """What it costs; nothing, if it is not billed."""
        return self.billed.usd_per_hour if self.billed is not None else Usd(0)

    @property
    def since_s(self) -> float | None:
        """Epoch seconds since when it is rented, by the provider or else by the book."""
        if self.billed is not None and self.billed.since_s is not None:
            return self.billed.since_s
        return self.entry.asked_s if self.entry is not None else None

    @property
    def difference(self) -> str | None:
        """Where the provider and the book do not agree; None: they do, or it is another fleet's."""
        match self.verdict.cause:
            case Cause.OTHER_FLEET | Cause.STARTING | Cause.CLOSED:
                return None
            case Cause.UNKNOWN | Cause.UNKNOWN_AND_OLD:
                return "billed, and not in the book"
            case Cause.STILL_BILLED:
                return "billed, and ended in the book"
            case Cause.GONE | Cause.MISSING:
                return "in the book, and not billed"
        if self.entry is not None and self.entry.standing is Standing.INTENDED:
            return "billed, and never confirmed"
        return None


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is now; of a provider in ``errors`` nothing is known."""

    findings: tuple[Finding, ...]
    errors: Mapping[str, str]

    def of(self, *fates: Fate) -> list[Finding]:
        return [each for each in self.findings if each.verdict.fate in fates]


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


async def look(
    providers: Mapping[str, Provider], book: LeaseBook, rules: ReapRules, *, now_s: float
) -> Sight:
    """Everything that is billed to us or should be, of every provider that can tell.

    Raises:
        BadInput: there is nobody to ask.
        StoreUnusable: the book cannot be read.
    """
    _check_scope(providers)
    # Listed before the book is read: what is rented meanwhile is then in the book, and not unknown.
    answers = await asyncio.gather(*(_billed(each) for each in providers.values()))
    entries, owners = await asyncio.gather(
        asyncio.to_thread(book.entries), asyncio.to_thread(book.owners)
    )
    findings: list[Finding] = []
    errors: dict[str, str] = {}
    for name, answer in zip(providers, answers, strict=True):
        mine = [entry for entry in entries if entry.provider == name]
        if isinstance(answer, str):
            errors[name] = answer
        else:
            judging = _Judging(name, rules, owners, now_s)
            findings += judging.findings(answer, mine)
    return Sight(tuple(findings), errors)


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

    ``close``: hears of every entry of the book that is over, to keep its record.

    Raises:
        BadInput: there is nobody to ask, or nothing is in scope.
        StoreUnusable: the book cannot be read.
    """
    assert ended_max > 0
    sight = await look(providers, book, rules, now_s=clock())
    wanted = sorted(sight.of(Fate.END), key=lambda each: each.usd_per_hour, reverse=True)
    ending, closing = wanted[:ended_max], sight.of(Fate.CLOSE)
    failed: dict[LeaseId, str] = {}
    for name, provider in providers.items():
        # Also what seems to be gone already: giving that back is how a provider confirms it.
        mine = [each.lease_id for each in (*ending, *closing) if each.provider == name]
        failed |= await _end(provider, mine, for_s=release_s_max)
    over = [each for each in (*ending, *closing) if each.lease_id not in failed]
    warnings = await _keep(over, book, close, now_s=clock())
    return Swept(
        sight=sight,
        ended=tuple(each for each in ending if each in over),
        closed=tuple(each for each in closing if each in over),
        failed=failed,
        left=len(wanted) - len(ending),
        warnings=tuple(warnings),
    )


def _check_scope(providers: Mapping[str, Provider]) -> None:
    if not providers:
        what = "there is no provider that bills and can say what for"
        raise BadInput([Problem("nothing to look at", what, "set VAST_API_KEY")])


async def _billed(provider: Provider) -> Sequence[Billed] | str:
    """What a provider bills us for, or why that cannot be told."""
    assert isinstance(provider, Inventory), "chosen by its caller"
    try:
        async with asyncio.timeout(LIST_S_MAX):
            return await provider.billed()
    except TimeoutError:
        return f"{provider.name} did not answer in {LIST_S_MAX:.0f} s"
    except ProviderError as error:
        return str(error)


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
    except ProviderError as failure:
        error = str(failure)
    except TimeoutError:
        error = f"{provider.name} did not answer"
    still = await _billed(provider)
    if isinstance(still, str):
        return dict.fromkeys(lease_ids, error or still)
    there = {each.lease_id for each in still}
    left = [lease_id for lease_id in lease_ids if lease_id in there]
    return dict.fromkeys(left, error or "it was given back, and is billed all the same")


async def _keep(
    over: Iterable[Finding], book: LeaseBook, close: Close | None, *, now_s: float
) -> list[str]:
    """Write down what is over; a record that cannot be kept holds up no other."""
    warnings = []
    for entry in (each.entry for each in over if each.entry is not None):
        try:
            # Another process may have been faster: then there is nothing left to say.
            if await asyncio.to_thread(book.entry, entry.lease_id) is None:
                continue
            if entry.standing is not Standing.ENDED:
                await asyncio.to_thread(book.ended, entry.lease_id, ended_s=now_s)
            if close is not None:
                await close(entry, now_s)
                await asyncio.to_thread(book.forget, entry.lease_id)
        except NightkilnError as error:
            warnings.append(f"{entry.lease_id} is over, but not on record: {error}")
    return warnings


def _known(entry: Entry, owners: Iterable[Owner]) -> Known:
    signs = (
        Sign(owner.epoch, owner.alive_s, owner.has_ended)
        for owner in owners
        if owner.batch == entry.batch
    )
    offer = entry.offer
    return Known(
        asked_s=entry.asked_s,
        expires_s=entry.expires_s,
        usd_per_hour=offer.usd_per_hour + offer.storage_usd_per_hour,
        has_ended=entry.standing is Standing.ENDED,
        run=answering(signs, entry.epoch),
    )


@dataclass(frozen=True, slots=True)
class _Judging:
    """One provider's machines against the book."""

    provider: str
    rules: ReapRules
    owners: Sequence[Owner]
    now_s: float

    def findings(self, billed: Sequence[Billed], entries: Sequence[Entry]) -> Iterator[Finding]:
        missing = {entry.lease_id: entry for entry in entries}
        for machine in billed:
            entry = _entry_of(machine.lease_id, entries)
            if entry is not None:
                missing.pop(entry.lease_id, None)
            yield self._of_machine(machine, entry)
        for entry in missing.values():
            known = _known(entry, self.owners)
            verdict = judge_missing(known, self.rules, now_s=self.now_s)
            if verdict.cause is not Cause.CLOSED:
                yield Finding(self.provider, entry.lease_id, verdict, entry=entry)

    def _of_machine(self, billed: Billed, entry: Entry | None) -> Finding:
        machine = Machine(billed.lease_id, billed.fleet, billed.usd_per_hour, billed.since_s)
        known = _known(entry, self.owners) if entry is not None else None
        verdict = judge(machine, known, self.rules, now_s=self.now_s)
        return Finding(self.provider, billed.lease_id, verdict, billed, entry)


def _entry_of(listed: LeaseId, entries: Iterable[Entry]) -> Entry | None:
    """The lease of the book that a provider shows under a name that it may have shortened."""
    same = (entry for entry in entries if in_full(listed, entry.batch) == entry.lease_id)
    return next(same, None)
