"""The sweep: what nobody wants is given back and seen to be gone, and nothing else is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightkiln.core.errors import BadInput, StoreUnusable
from nightkiln.core.model import LeaseId
from nightkiln.core.reaping import UNKNOWN_S, Cause, Fate, ReapRules
from nightkiln.lease_book import Entry, LeaseBook, Owner, Standing
from nightkiln.ports.provider import Inventory
from nightkiln.reap import LOST_S, Close, Swept, reap
from nightkiln.sighting import Sight, look
from nightkiln.temporary import temporary_folder
from nightkiln.testing import virtual_time
from nightkiln.testing.market import Night, shipped_market
from nightkiln.testing.market.night import Window
from nightkiln.testing.market.providers import ServiceFaults, SimulatedMarket, Stage
from nightkiln.testing.market.samples import HOUR_S, NEED, OFFERS_MAX, calm

NIGHT = Night(calm(shipped_market("ordinary")), seed=1, horizon_s=80 * HOUR_S)
RULES = ReapRules("main", 900.0)
FIRST, SECOND = LeaseId("nightly-1-lease-000"), LeaseId("nightly-1-lease-001")
OTHER = LeaseId("adhoc-1-lease-000")


@dataclass
class Account:
    """A market, the book of one user, and runs that rent there."""

    folder: Path
    stage: Stage = field(default_factory=Stage)
    release_s_max: float = 30.0  # of the wall's time: what succeeds here takes none

    def __post_init__(self) -> None:
        self.market = SimulatedMarket(NIGHT, name="cloud", stage=self.stage)
        self.book = LeaseBook(self.folder)

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def rent(self, lease_id: LeaseId, *, is_confirmed: bool = True) -> Entry:
        """As a run does: written down, asked for, confirmed."""
        batch, epoch, *_ = lease_id.split("-")
        offer = (await self.market.offers(NEED, limit=OFFERS_MAX))[0]
        now_s = self.now_s()
        entry = Entry(lease_id, batch, int(epoch), "store", offer, now_s, now_s + HOUR_S)
        self.book.intend(entry)
        await self.market.rent(offer, lease_id, NEED, expires_at_s=entry.expires_s)
        if is_confirmed:
            self.book.rented(lease_id, host="here")
        return entry

    def alive(self, batch: str, epoch: int = 1, *, has_ended: bool = False) -> None:
        self.book.alive(Owner(batch, epoch, "store", self.now_s(), has_ended))

    async def look(self, rules: ReapRules = RULES) -> Sight:
        return await look({"cloud": self.market}, self.book, rules, now_s=self.now_s())

    async def reap(
        self, rules: ReapRules = RULES, *, close: Close | None = None, ended_max: int = 50
    ) -> Swept:
        return await reap(
            {"cloud": self.market},
            self.book,
            rules,
            clock=self.now_s,
            close=close,
            ended_max=ended_max,
            release_s_max=self.release_s_max,
        )

    async def billed(self) -> Collection[LeaseId]:
        return set(await self.market.owned())


def played(
    folder: Path, story: Callable[[Account], Awaitable[None]], stage: Stage | None = None
) -> None:
    """A story, in virtual time."""

    async def main() -> None:
        account = Account(folder, stage if stage is not None else Stage())
        async with account.market:
            await story(account)

    virtual_time.run(main())


def test_a_simulated_market_can_say_what_it_bills(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        assert isinstance(account.market, Inventory)
        entry = await account.rent(FIRST)
        await asyncio.sleep(60)

        [billed] = await account.market.billed()

        assert (billed.lease_id, billed.fleet, billed.since_s) == (FIRST, "main", entry.asked_s)
        assert billed.usd_per_hour >= entry.offer.usd_per_hour

    played(tmp_path, story)


def test_a_nightly_runs_an_ad_hoc_run_starts_and_reap_touches_neither(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        await account.rent(FIRST)
        account.alive("nightly")
        await asyncio.sleep(800)
        account.alive("nightly")
        await account.rent(OTHER, is_confirmed=False)  # it is just being asked for
        account.alive("adhoc")

        swept = await account.reap()

        assert (swept.ended, swept.closed, swept.is_clean) == ((), (), True)
        assert await account.billed() == {FIRST, OTHER}

    played(tmp_path, story)


def test_what_a_killed_run_has_left_goes_once_its_machines_may_think_so_too(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        await account.rent(FIRST)
        await account.rent(SECOND, is_confirmed=False)  # killed between create and record
        account.alive("nightly")
        await asyncio.sleep(RULES.silence_s - 1)
        early = await account.reap()
        await asyncio.sleep(2)

        late = await account.reap()

        assert early.ended == ()
        assert {each.lease_id for each in late.ended} == {FIRST, SECOND}
        assert all(each.verdict.cause is Cause.RUN_SILENT for each in late.ended)
        assert await account.billed() == set()
        assert (await account.reap()).ended == ()

    played(tmp_path, story)


def test_what_a_run_forgot_goes_as_soon_as_it_has_ended(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        await account.rent(FIRST)
        account.alive("nightly", has_ended=True)

        [ended] = (await account.reap()).ended

        assert ended.verdict.cause is Cause.RUN_ENDED
        assert await account.billed() == set()

    played(tmp_path, story)


def test_the_end_of_a_run_of_the_same_name_in_another_store_ends_nobody_elses_machines(
    tmp_path: Path,
) -> None:
    async def story(account: Account) -> None:
        await account.rent(FIRST)
        account.alive("nightly")
        account.book.alive(Owner("nightly", 1, "elsewhere", account.now_s(), has_ended=True))
        account.book.alive(Owner("nightly", 2, "elsewhere", account.now_s(), has_ended=True))

        swept = await account.reap()

        assert (swept.ended, swept.is_clean) == ((), True)
        assert await account.billed() == {FIRST}

    played(tmp_path, story)


def test_what_a_living_run_is_giving_back_at_this_moment_is_left_to_it(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        await account.rent(FIRST)
        account.alive("nightly")
        account.book.ended(FIRST, ended_s=account.now_s())  # and it was listed a moment before

        kept = await account.reap()
        account.alive("nightly", has_ended=True)
        swept = await account.reap()

        assert (kept.ended, kept.closed) == ((), ())
        assert [each.verdict.cause for each in swept.ended] == [Cause.STILL_BILLED]

    played(tmp_path, story)


def test_leases_of_a_provider_that_nobody_can_ask_are_shown_as_unseen(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        entry = await account.rent(FIRST)
        other = replace(entry.offer, provider="unplugged")
        account.book.intend(replace(entry, lease_id=SECOND, offer=other))
        account.alive("nightly", has_ended=True)

        swept = await account.reap()

        assert [each.lease_id for each in swept.ended] == [FIRST]
        [unseen] = swept.sight.of(Fate.KEEP)
        assert (unseen.lease_id, unseen.verdict.cause) == (SECOND, Cause.UNSEEN)
        assert account.book.entry(SECOND) is not None

    played(tmp_path, story)


def test_a_file_of_the_book_that_nobody_can_read_is_told(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        await account.rent(FIRST)
        (tmp_path / "leases" / "torn.json").write_text("{")

        swept = await account.reap()

        assert "torn.json cannot be read" in swept.warnings[0]
        assert swept.sight.damaged == (str(tmp_path / "leases" / "torn.json"),)

    played(tmp_path, story)


def test_runs_that_hold_nothing_are_forgotten_once_their_bills_are_whole(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        account.alive("nightly", has_ended=True)
        await account.reap()
        before = account.book.owners()
        await asyncio.sleep(LOST_S + 1)
        await account.reap()

        assert len(before) == 1
        assert account.book.owners() == []

    played(tmp_path, story)


def test_a_machine_billed_dearer_than_agreed_is_a_difference(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        entry = await account.rent(FIRST)
        account.alive("nightly")
        cheaper = replace(entry.offer, usd_per_hour=entry.offer.usd_per_hour / 2)
        account.book.taken_over(replace(entry, offer=cheaper, standing=Standing.RENTED))

        [finding] = (await account.look()).findings

        assert finding.verdict.fate is Fate.KEEP
        assert finding.difference is not None
        assert "dearer than" in finding.difference

    played(tmp_path, story)


def test_a_look_changes_nothing(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        await account.rent(FIRST)
        account.alive("nightly", has_ended=True)
        before = account.book.entries()

        [finding] = (await account.look()).findings

        assert finding.verdict.fate is Fate.END
        assert account.book.entries() == before
        assert await account.billed() == {FIRST}

    played(tmp_path, story)


def test_a_machine_that_this_computer_never_rented_is_told_and_left_alone(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        await account.rent(FIRST)
        account.book.forget(FIRST)
        young = await account.reap()
        await asyncio.sleep(UNKNOWN_S + 1)

        old = await account.reap()

        assert [each.verdict.fate for each in young.sight.findings] == [Fate.FOREIGN]
        assert [each.difference for each in young.sight.findings] == ["billed, and not in the book"]
        assert [each.lease_id for each in old.ended] == [FIRST]

    played(tmp_path, story)


def test_another_fleet_is_none_of_our_business_however_old_it_is(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        await account.rent(FIRST)
        account.book.forget(FIRST)
        await asyncio.sleep(10 * UNKNOWN_S)

        swept = await account.reap()

        assert swept.ended == ()
        assert await account.billed() == {FIRST}

    played(tmp_path, story, Stage(fleet="staging"))


def test_a_long_name_that_the_provider_shows_shortened_is_still_ours(tmp_path: Path) -> None:
    import hashlib

    batch = "a-batch-with-a-name-that-no-label-has-room-for"
    digest = hashlib.sha256(batch.encode()).hexdigest()[:8]
    shown, whole = LeaseId(f"a-batch~{digest}-1-lease-000"), LeaseId(f"{batch}-1-lease-000")

    async def story(account: Account) -> None:
        entry = await account.rent(FIRST)
        account.book.forget(FIRST)
        await account.market.release([FIRST])
        account.book.intend(replace(entry, lease_id=whole, batch=batch))
        account.alive(batch)
        offer = (await account.market.offers(NEED, limit=1))[0]
        await account.market.rent(offer, shown, NEED, expires_at_s=HOUR_S)

        kept = await account.look()
        account.alive(batch, has_ended=True)
        swept = await account.reap()

        assert [each.verdict.cause for each in kept.findings] == [Cause.IN_USE]
        assert [each.entry.lease_id for each in swept.ended if each.entry] == [whole]
        assert await account.billed() == set()

    played(tmp_path, story)


def test_a_lease_that_is_gone_is_closed_in_the_book_and_its_record_kept(tmp_path: Path) -> None:
    closed: list[LeaseId] = []

    async def close(entry: Entry, until_s: float, why: str) -> None:
        assert why
        assert until_s == entry.asked_s + RULES.silence_s  # then it must have ended itself
        closed.append(entry.lease_id)

    async def story(account: Account) -> None:
        await account.rent(FIRST)
        await account.market.release([FIRST])  # its dead-man's switch, say
        account.alive("nightly")
        still_believed = await account.reap(close=close)
        await asyncio.sleep(1000)

        swept = await account.reap(close=close)

        assert still_believed.closed == ()
        assert [each.verdict.cause for each in swept.closed] == [Cause.GONE]
        assert closed == [FIRST]
        assert account.book.entries() == []

    played(tmp_path, story)


def test_a_record_that_cannot_be_kept_is_told_and_the_book_keeps_the_lease(tmp_path: Path) -> None:
    async def close(entry: Entry, until_s: float, why: str) -> None:
        raise StoreUnusable(f"the store of {entry.batch} is away ({until_s:.0f}: {why})")

    async def story(account: Account) -> None:
        await account.rent(FIRST)
        account.alive("nightly", has_ended=True)

        swept = await account.reap(close=close)

        assert await account.billed() == set()
        assert len(swept.ended) == 1
        assert "the store of nightly is away" in swept.warnings[0]
        assert [entry.lease_id for entry in account.book.entries()] == [FIRST]
        again = await account.reap(close=close)
        assert [each.verdict.cause for each in again.closed] == [Cause.CLOSED]
        await asyncio.sleep(LOST_S + 1)
        await account.reap(close=close)
        assert account.book.entries() == []

    played(tmp_path, story)


def test_a_service_that_does_not_answer_is_an_error_and_never_an_empty_list(tmp_path: Path) -> None:
    stage = Stage(faults=ServiceFaults(outages=(Window(100.0, 1e9),)))

    async def story(account: Account) -> None:
        await account.rent(FIRST)
        await asyncio.sleep(5000)

        swept = await account.reap()

        assert "HTTP 503" in swept.sight.errors["cloud"]
        assert [each.verdict.cause for each in swept.sight.findings] == [Cause.UNSEEN]
        assert not swept.is_clean
        assert [entry.lease_id for entry in account.book.entries()] == [FIRST]

    played(tmp_path, story, stage)


def test_a_release_that_fails_at_first_is_tried_again_until_it_is_confirmed(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        await account.rent(FIRST)
        account.alive("nightly", has_ended=True)

        swept = await account.reap()

        assert swept.is_clean
        assert await account.billed() == set()

    played(tmp_path, story, Stage(faults=ServiceFaults(release_failures=3)))


def test_a_machine_that_cannot_be_given_back_is_told_and_stays_in_the_book(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        await account.rent(FIRST)
        account.alive("nightly", has_ended=True)
        account.release_s_max = 0.3

        swept = await account.reap()

        assert list(swept.failed) == [FIRST]
        assert not swept.is_clean
        assert swept.ended == ()
        assert len(account.book.entries()) == 1

    played(tmp_path, story, Stage(faults=ServiceFaults(release_failures=10**9)))


def test_one_sweep_ends_so_many_the_dearest_first(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        leases = [LeaseId(f"nightly-1-lease-{number:03d}") for number in range(5)]
        for lease_id in leases:
            await account.rent(lease_id)
        account.alive("nightly", has_ended=True)

        first = await account.reap(ended_max=3)
        second = await account.reap(ended_max=3)

        assert (len(first.ended), first.left, first.is_clean) == (3, 2, False)
        assert (len(second.ended), second.left, second.is_clean) == (2, 0, True)
        assert min(each.usd_per_hour for each in first.ended) >= max(
            each.usd_per_hour for each in second.ended
        )

    played(tmp_path, story)


def test_a_machine_dearer_than_agreed_and_than_allowed_goes(tmp_path: Path) -> None:
    async def story(account: Account) -> None:
        await account.rent(FIRST)
        entry = account.book.entries()[0]
        cheaper = replace(entry.offer, usd_per_hour=Decimal("0.001"))
        account.book.intend(replace(entry, offer=cheaper, standing=type(entry.standing).INTENDED))
        account.alive("nightly")

        swept = await account.reap(replace(RULES, usd_per_hour_max=Decimal("0.002")))

        assert [each.verdict.cause for each in swept.ended] == [Cause.TOO_DEAR]

    played(tmp_path, story)


def test_a_sweep_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no provider that bills"):
        asyncio.run(look({}, LeaseBook(tmp_path), RULES, now_s=0.0))


ENDINGS = st.lists(st.sampled_from(["alive", "ended", "killed"]), min_size=1, max_size=4)


@given(ENDINGS)
@settings(max_examples=20)
def test_after_any_mix_of_runs_only_what_the_living_hold_is_billed(endings: Sequence[str]) -> None:
    async def story(account: Account) -> None:
        for number, _ in enumerate(endings):
            await account.rent(LeaseId(f"run{number}-1-lease-000"))
            account.alive(f"run{number}")
        await asyncio.sleep(1000)
        for number, ending in enumerate(endings):
            if ending != "killed":
                account.alive(f"run{number}", has_ended=ending == "ended")

        swept = await account.reap()

        living = {n for n, ending in enumerate(endings) if ending == "alive"}
        assert swept.is_clean
        assert await account.billed() == {LeaseId(f"run{n}-1-lease-000") for n in living}

    with temporary_folder() as folder:
        played(folder, story)
