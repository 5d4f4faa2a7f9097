"""A small world that carries out commands and answers with any fate, to test any story.

Every promise of the scheduler that can be seen from outside is asserted where it could break:
when a command arrives. Time, fates and the order of answers come from one seed.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from random import Random

from nightkiln.core.budget import rent_usd, traffic_usd
from nightkiln.core.events import (
    AskOffers,
    Cancel,
    Command,
    Event,
    Extend,
    Failed,
    FetchJobs,
    GiveUp,
    ListOwned,
    Lost,
    Offered,
    Owned,
    ProviderFailed,
    Queued,
    Release,
    Released,
    Rendered,
    Rent,
    Rented,
    Started,
    Stop,
    StopRequested,
    Submit,
    Tick,
)
from nightkiln.core.model import AttemptId, Fault, Host, JobId, Lease, LeaseId, Loss
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.terms import Terms
from tests.core.fates import LOAD, Shops, Truth, fate
from tests.core.left_behind import LeftBehind, listing
from tests.core.promises import check_budget, check_scan, check_state
from tests.core.table import CLOUD, FALLBACK, LOCAL, jobs

SCAN_EVERY = 6  # events: a full scan copies everything, which takes its time


class World:
    """Free machines, a market and a fallback; everything can happen until it is ``is_fair``."""

    def __init__(self, terms: Terms, count: int, seed: int, *, is_free: bool = False) -> None:
        self.dice = Random(seed)  # noqa: S311 - a game, not a secret
        self.run, self.terms, self.shops = Scheduler(terms), terms, Shops(self.dice)
        self.catalog = list(jobs(count))
        self.fetched: set[JobId] = set()
        providers = (LOCAL,) if is_free else (LOCAL, *map(listing, (CLOUD, FALLBACK)))
        self.pending: list[Event] = [Started(0.0, providers)]
        self.now_s, self.is_fair, self.steps = 0.0, False, 0
        self.done: set[JobId] = set()
        self.given_up: set[JobId] = set()
        self.leases: dict[LeaseId, Truth] = {}
        self.left_behind = LeftBehind(self.dice, self.shops)
        self.listed: set[str] = set()
        self.orders: Counter[LeaseId] = Counter()
        self.attempts: dict[AttemptId, Submit] = {}
        self.cancelled: set[AttemptId] = set()
        self.answers: dict[AttemptId, Event] = {}
        self.failed_on: set[tuple[JobId, Host]] = set()
        self.asking: set[str] = set()
        self.stops = 0
        self.late_usd = Decimal(0)  # the one allowance: a release takes its time
        self.bills_usd = Decimal(0)

    # Time.

    def chaos(self, steps: int) -> None:
        """Anything happens, in any order."""
        for _ in range(steps):
            if self.run.is_finished:
                return
            if not self.pending or self.dice.random() < 0.15:
                self._pass_time(self.dice.choice((1.0, 5.0, 20.0, 60.0, 300.0, 3700.0)))
            event = self.pending.pop(self.dice.randrange(len(self.pending)))
            self.tell(event)
            if self.dice.random() < 0.08 and not isinstance(event, Queued | Started):
                self.tell(event)  # said twice
            if self.dice.random() < 0.004:
                self.pending.append(StopRequested(self.dice.random() < 0.5, "asked"))

    def fairness(self, steps: int) -> None:
        """From now on everything is answered, in order, and nothing more goes wrong."""
        self.is_fair = True
        for lease_id, truth in self.leases.items():
            if not truth.is_told_up and not truth.is_over:  # no start lasts for ever
                self.pending.append(Lost(lease_id, "it took too long", Loss.SLOW))
        for _ in range(steps):
            if self.run.is_finished:
                return
            if not self.pending:
                self._pass_time(20.0)
            self.tell(self.pending.pop(0))

    def _pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.pending.append(Tick(self.now_s))

    # Events.

    def tell(self, event: Event) -> None:
        """One event, all that follows from it, and what must hold afterwards."""
        if isinstance(event, Rendered | Failed) and self._is_answered_otherwise(event):
            return  # an attempt ends in one way
        if isinstance(event, Rented):
            event = self._up(event.lease)
        self._note(event)
        for command in self.run.handle(event):
            self.pending += self._carry_out(command)
        if isinstance(event, Owned):
            self.left_behind.check(event, seen=set(self.leases) | set(self.orders))
        self.steps += 1
        check_state(self)
        if self.steps % SCAN_EVERY == 0:
            check_scan(self.run)

    def _up(self, lease: Lease) -> Rented:
        """It comes up now, after loading for a part of the time; told again, it is the same."""
        truth = self.leases[lease.id]
        if not truth.is_told_up and not truth.is_told_released:
            truth.loading_s = self.dice.random() * (self.now_s - truth.asked_s)
        return Rented(lease, truth.loading_s)

    def _is_answered_otherwise(self, event: Rendered | Failed) -> bool:
        return self.answers.setdefault(event.attempt_id, event) != event

    def _note(self, event: Event) -> None:
        match event:
            case Started() | Tick():
                pass
            case Queued():
                self.fetched |= set(event.jobs)
            case Rented(lease):
                truth = self.leases[lease.id]
                truth.is_zombie = truth.is_zombie or truth.is_told_released
                truth.is_told_up = True
            case Rendered(attempt_id) | Failed(attempt_id):
                self._note_end(event, attempt_id)
            case Lost(lease_id):
                self.leases[lease_id].is_told_lost = True
                self.leases[lease_id].running.clear()
            case Released(lease_id):
                self._note_released(lease_id)
            case Owned(provider, lease_ids):
                self.listed.add(provider)
                for lease_id in set(lease_ids) & set(self.leases):  # a list from before its end
                    truth = self.leases[lease_id]
                    truth.is_zombie = truth.is_zombie or truth.is_told_released
            case Offered(provider) | ProviderFailed(provider):
                self.asking.discard(provider)

    def _note_end(self, event: Rendered | Failed, attempt_id: AttemptId) -> None:
        submit = self.attempts[attempt_id]
        truth = self.leases[submit.lease_id]
        is_known = attempt_id in truth.running
        truth.running.discard(attempt_id)
        if isinstance(event, Rendered):
            truth.rendered += is_known
            if submit.job_id not in self.given_up:
                self.done.add(submit.job_id)
        elif is_known and event.fault is not Fault.MARKET and not truth.offer.is_free:
            self.failed_on.add((submit.job_id, truth.offer.host_key))

    def _note_released(self, lease_id: LeaseId) -> None:
        truth = self.leases.get(lease_id)
        if truth is None or truth.is_told_released:
            return
        truth.is_told_released = True
        truth.running.clear()
        late_s = max(0.0, self.now_s - truth.expires_s)
        self.late_usd += rent_usd(truth.offer, late_s)

    # Commands.

    def _carry_out(self, command: Command) -> list[Event]:
        match command:
            case FetchJobs():
                batch, self.catalog = self.catalog[:7], self.catalog[7:]
                return [Queued(tuple(batch), is_last=not self.catalog)]
            case AskOffers(provider):
                assert provider not in self.asking, "asked while it is still asking"
                self.asking.add(provider)
                return [self.shops.offers(provider, is_fair=self.is_fair)]
            case ListOwned(provider):
                return [self._owned(provider)]
            case Rent() | Extend() | Release():
                return self._change_lease(command)
            case Submit() | Cancel():
                return self._change_attempt(command)
            case GiveUp(job_id):
                assert job_id in self.fetched
                assert job_id not in self.done | self.given_up, "settled twice"
                self.given_up.add(job_id)
            case Stop():
                self.stops += 1
                assert self.stops == 1, "stopped twice"
        return []

    def _change_lease(self, command: Rent | Extend | Release) -> list[Event]:
        match command:
            case Rent():
                return self._rent(command)
            case Extend(lease_id, expires_at_s):
                truth = self.leases[lease_id]
                assert truth.is_told_up
                assert not truth.is_over, "extended, though it is gone"
                assert expires_at_s > truth.expires_s
                truth.expires_s = expires_at_s
                check_budget(self.run)
                return []
            case Release(lease_id):
                return self._release(lease_id)

    def _rent(self, rent: Rent) -> list[Event]:
        assert rent.lease_id not in self.leases, "a lease is asked for once"
        offer = rent.offer
        assert (offer.provider, offer.ref, offer.kind) in self.shops.honest, "nonsense was rented"
        assert offer.is_free or offer.provider in self.listed, "rented before it was listed"
        asked_s = self.left_behind.taken_over(rent) if rent.since_s is not None else self.now_s
        alive = [each for each in self.leases.values() if not each.is_told_released]
        assert len(alive) < self.terms.leases_max
        assert offer.host_key not in {each.offer.host_key for each in alive}
        assert self.terms.fallback.allows(is_serverless=offer.is_serverless)
        assert not self.run.state.is_stopping
        self.leases[rent.lease_id] = Truth(offer, asked_s, rent.expires_at_s)
        if not offer.is_free:
            check_budget(self.run)
        up = Rented(Lease(rent.lease_id, offer))
        if self.is_fair or self.dice.random() < 0.7:
            return [up]
        lost = Lost(rent.lease_id, "it did not come up", self.dice.choice(list(Loss)))
        fates: list[list[Event]] = [[lost], [lost, up], [], [Released(rent.lease_id)]]
        return self.dice.choice(fates)

    def _release(self, lease_id: LeaseId) -> list[Event]:
        self.orders[lease_id] += 1
        assert lease_id not in self.left_behind.others, "another batch's"
        if lease_id in self.left_behind.ours and lease_id not in self.leases:
            assert self.orders[lease_id] == 1
            return [Released(lease_id)] if self.dice.random() < 0.5 else []
        truth = self.leases[lease_id]
        if truth.is_zombie:
            assert self.orders[lease_id] <= 2, "sent back more than once"
            return []
        assert not truth.is_told_released
        assert not truth.is_release_ordered, "released twice"
        truth.is_release_ordered = True
        truth.is_left_open = not self.is_fair and self.dice.random() < 0.1
        ends_s = max(self.now_s, truth.expires_s) if truth.is_left_open else self.now_s
        life_s = ends_s - truth.asked_s
        rent = rent_usd(truth.offer, life_s, loading_s=truth.loading_s)
        usd = rent + traffic_usd(truth.offer, LOAD, truth.rendered)
        self.bills_usd += usd
        is_billed = self.dice.random() < 0.8  # else the scheduler counts by its own clock
        released = Released(lease_id, usd if is_billed else None, not truth.is_left_open)
        if not is_billed:
            self.late_usd += rent_usd(truth.offer, self.now_s - self.run.state.now_s)
        is_late = not self.is_fair and self.dice.random() < 0.1
        late: list[Event] = [Rented(Lease(lease_id, truth.offer))] if is_late else []
        return [released, *late]

    def _change_attempt(self, command: Submit | Cancel) -> list[Event]:
        truth = self.leases[command.lease_id]
        assert truth.is_told_up
        assert not truth.is_over, "a command for a lease that is gone"
        if isinstance(command, Cancel):
            assert command.attempt_id in truth.running, "cancelled, though it is over"
            assert command.attempt_id not in self.cancelled
            self.cancelled.add(command.attempt_id)
            return [Failed(command.attempt_id, Fault.MARKET, "cancelled", "")]
        assert command.attempt_id not in self.attempts
        assert command.job_id in self.fetched
        assert command.job_id not in self.done | self.given_up, "it is settled"
        assert (command.job_id, truth.offer.host_key) not in self.failed_on, "it failed there"
        assert not self.run.state.is_stopping
        truth.running.add(command.attempt_id)
        assert len(truth.running) <= truth.offer.slots + len(self.cancelled & truth.running)
        self.attempts[command.attempt_id] = command
        return fate(self.dice, command, truth.offer, is_fair=self.is_fair)

    # Providers.

    def _owned(self, provider: str) -> Event:
        alive = [
            lease_id
            for lease_id, truth in self.leases.items()
            if truth.offer.provider == provider and not truth.is_told_released
        ]
        return self.left_behind.listing(provider, alive, self.now_s, is_fair=self.is_fair)
