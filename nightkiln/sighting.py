"""What is billed to us, held against the book of what we rented, so that each is somebody's.

It decides nothing (``core.reaping`` does) and believes nobody: a service that does not answer is an
error and never "nothing there".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nightkiln.core.errors import BadInput, Problem, ProviderError
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
    is_dearer,
    judge,
    judge_missing,
)
from nightkiln.lease_book import Entry, LeaseBook, Owner, Standing
from nightkiln.ports.provider import Billed, Inventory, Provider

LIST_S_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Finding:
    """A machine, or a lease of the book, with what is to become of it."""

    provider: str
    lease_id: LeaseId
    verdict: Verdict
    billed: Billed | None = None  # None: the provider bills nothing for it
    entry: Entry | None = None  # None: the book does not know it
    known: Known | None = None  # what that means

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
            case Cause.OTHER_FLEET | Cause.STARTING | Cause.CLOSED | Cause.UNSEEN:
                return None
            case Cause.UNKNOWN | Cause.UNKNOWN_AND_OLD:
                return "billed, and not in the book"
            case Cause.STILL_BILLED:
                return "billed, and ended in the book"
            case Cause.GONE | Cause.MISSING:
                return "in the book, and not billed"
        return self._quarrel()

    def _quarrel(self) -> str | None:
        """What the two say differently of a lease that both know."""
        if self.entry is not None and self.entry.standing is Standing.INTENDED:
            return "billed, and never confirmed"
        if self.billed is None or self.known is None:
            return None
        if is_dearer(_machine(self.billed), self.known):
            return f"billed dearer than the {self.known.usd_per_hour:.3f} agreed on"
        return None


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is now; of a provider in ``errors`` nothing is known."""

    findings: tuple[Finding, ...]
    errors: Mapping[str, str]
    damaged: tuple[str, ...] = ()  # files of the book that nobody can read

    def of(self, *fates: Fate) -> list[Finding]:
        return [each for each in self.findings if each.verdict.fate in fates]


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
    answers = await asyncio.gather(*(billed_by(each) for each in providers.values()))
    entries, owners, damaged = await asyncio.to_thread(_read, book)
    errors = {
        name: said for name, said in zip(providers, answers, strict=True) if isinstance(said, str)
    }
    findings = _unseen(
        entry for entry in entries if entry.provider not in providers.keys() - errors
    )
    for name, answer in zip(providers, answers, strict=True):
        mine = [entry for entry in entries if entry.provider == name]
        if not isinstance(answer, str):
            judging = _Judging(name, rules, owners, now_s)
            findings += judging.findings(answer, mine)
    return Sight(tuple(findings), errors, damaged)


def _read(book: LeaseBook) -> tuple[list[Entry], list[Owner], tuple[str, ...]]:
    return book.entries(), book.owners(), tuple(str(path) for path in book.damaged())


def look_at_book(book: LeaseBook) -> Sight:
    """What this computer has written down, where nobody can be asked; nothing in it is certain.

    Raises:
        StoreUnusable: the book cannot be read.
    """
    entries, _, damaged = _read(book)
    return Sight(tuple(_unseen(entries)), {}, damaged)


def _unseen(entries: Iterable[Entry]) -> list[Finding]:
    """Leases of whom nobody says whether they are billed."""
    said = Verdict(Fate.KEEP, Cause.UNSEEN, "nobody says whether it is billed")
    held = (entry for entry in entries if entry.standing is not Standing.ENDED)
    return [Finding(entry.provider, entry.lease_id, said, entry=entry) for entry in held]


def _check_scope(providers: Mapping[str, Provider]) -> None:
    if not providers:
        what = "there is no provider that bills and can say what for"
        raise BadInput(
            [Problem("nothing to look at", what, "set VAST_API_KEY, or a token of Modal")]
        )


async def billed_by(provider: Provider) -> Sequence[Billed] | str:
    """What a provider bills us for, or why that cannot be told."""
    assert isinstance(provider, Inventory), "chosen by its caller"
    try:
        async with asyncio.timeout(LIST_S_MAX):
            return await provider.billed()
    except TimeoutError:
        return f"{provider.name} did not answer in {LIST_S_MAX:.0f} s"
    except ProviderError as error:
        return str(error)


def _known(entry: Entry, owners: Iterable[Owner]) -> Known:
    signs = (
        Sign(owner.epoch, owner.alive_s, owner.has_ended)
        for owner in owners
        if owner.whose == entry.whose
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
            yield Finding(self.provider, entry.lease_id, verdict, entry=entry, known=known)

    def _of_machine(self, billed: Billed, entry: Entry | None) -> Finding:
        known = _known(entry, self.owners) if entry is not None else None
        verdict = judge(_machine(billed), known, self.rules, now_s=self.now_s)
        return Finding(self.provider, billed.lease_id, verdict, billed, entry, known)


def _machine(billed: Billed) -> Machine:
    return Machine(billed.lease_id, billed.fleet, billed.usd_per_hour, billed.since_s)


def _entry_of(listed: LeaseId, entries: Iterable[Entry]) -> Entry | None:
    """The lease of the book that a provider shows under a name that it may have shortened."""
    same = (entry for entry in entries if in_full(listed, entry.batch) == entry.lease_id)
    return next(same, None)
