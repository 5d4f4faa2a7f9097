"""What an event says, written into the state; the few commands that follow from nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import assert_never

from nightkiln.core import attempts
from nightkiln.core.events import (
    Blame,
    BudgetSet,
    Command,
    Event,
    Failed,
    ListOwned,
    Lost,
    Offered,
    Owned,
    ProviderFailed,
    Queued,
    Release,
    Released,
    Rendered,
    Rented,
    Started,
    StopRequested,
    Tick,
)
from nightkiln.core.lease_ids import batch_of_run, in_full
from nightkiln.core.model import Loss, Offer
from nightkiln.core.pricing import startup_limit_s
from nightkiln.core.state import Held, Phase, State

JUMP_S = 60.0  # between two ticks: the computer slept, and leases may be gone
DOUBTS_MAX = 2  # jobs that failed here and were done elsewhere: the machine is bad
DAY_S = 86400.0
TTL_S = {"startup": DAY_S, "slow": DAY_S, "lost": DAY_S, "bad": 7 * DAY_S}


def record(state: State, event: Event) -> Iterator[Command]:
    """Take an event in."""
    match event:
        case Started() | Tick():
            yield from _time(state, event)
        case Queued() | Offered() | ProviderFailed() | StopRequested():
            _note(state, event)
        case BudgetSet(usd):
            state.ledger.set_budget(usd, now_s=state.now_s)
            state.is_fleet_dirty = True
        case Rented():
            yield from _rented(state, event)
        case Rendered():
            yield from attempts.rendered(state, event)
        case Failed():
            yield from attempts.failed(state, event)
        case Lost():
            yield from _lost(state, event)
        case Released():
            yield from _released(state, event)
        case Owned():
            _owned(state, event)
        case _:
            assert_never(event)


def _time(state: State, event: Started | Tick) -> Iterator[Command]:
    if isinstance(event, Started):
        state.start(event.now_s)
        state.market.open(event.providers)
        for shop in state.market.to_list(event.now_s, 0.0):
            yield ListOwned(shop.facts.name)
        return
    state.capacity = event.capacity if event.capacity is not None else state.capacity
    jump_s = event.now_s - state.now_s
    state.now_s = max(state.now_s, event.now_s)
    if jump_s > JUMP_S and state.leases:
        for shop in state.market.shops.values():
            if shop.facts.bills and shop.facts.can_list:
                yield ListOwned(shop.facts.name)


def _note(state: State, event: Queued | Offered | ProviderFailed | StopRequested) -> None:
    match event:
        case Queued(jobs, is_last, marks):
            state.is_fleet_dirty = state.is_fleet_dirty or not state.queue
            state.queue.add(jobs, marks)
            state.queue.is_fetching = False
            state.queue.is_exhausted = state.queue.is_exhausted or is_last
            state.dirty.update(state.leases)
        case Offered(provider, offers):
            state.market.heard(provider, offers, state.now_s)
            state.is_fleet_dirty = True
        case ProviderFailed(provider, error, is_listing):
            state.market.failed(provider, error, state.now_s, is_listing=is_listing)
            state.is_fleet_dirty = True
        case StopRequested(is_now, reason):
            state.stop_reason = state.stop_reason if state.is_stopping else reason
            state.cancels = state.cancels or is_now


# Leases.


def _rented(state: State, event: Rented) -> Iterator[Command]:
    lease = event.lease
    held = state.leases.get(lease.id)
    if held is None:
        yield from _send_back(state, event)
    elif held.phase is Phase.ASKED:
        if not held.is_adopted:
            state.knowledge.started(held.offer, state.now_s - held.asked_s)
        held.phase, held.ready_s, held.offer = Phase.READY, state.now_s, lease.offer
        held.last_end_s = state.now_s
        state.ledger.came_up(held.id, event.loading_s, now_s=state.now_s)
        if not state.came_up:
            state.came_up = True
            state.starts_alike.clear()  # those that failed were the machines' own fault, then
        state.dirty.add(lease.id)
        state.is_fleet_dirty = True


def _send_back(state: State, event: Rented) -> Iterator[Command]:
    """A lease that nobody waits for any more: never keep paying."""
    if event.lease.id not in state.released:
        state.released.add(event.lease.id)
        yield Release(event.lease.id, "it came up after we had lost interest")


def _lost(state: State, event: Lost) -> Iterator[Command]:
    held = state.leases.get(event.lease_id)
    if held is None:
        return
    yield from attempts.take_back(state, held, event.error, is_dead=event.loss is Loss.LOST)
    state.is_fleet_dirty = True
    if held.phase is Phase.RELEASING or held.is_bad:
        return
    held.is_bad, held.error = True, event.error
    state.suspects.add(held.id)
    if event.loss not in {Loss.GONE, Loss.REFUSED}:  # else it never was ours
        is_lost = event.loss in {Loss.LOST, Loss.MARKET}
        _learn_life(state, held, was_lost=is_lost)
    yield from _judge_loss(state, held, event)


def _judge_loss(state: State, held: Held, event: Lost) -> Iterator[Command]:
    """What the loss of a lease says about its machine and its provider."""
    market, offer = state.market, held.offer
    if held.is_adopted and held.phase is Phase.ASKED:
        return  # what has become of it since its run died says nothing about its machine
    match event.loss:
        case Loss.GONE | Loss.MARKET:
            market.forget(offer)
        case Loss.REFUSED:
            market.refused(offer.provider, event.error, state.now_s)
        case Loss.STARTUP | Loss.SLOW:
            state.knowledge.boot_failed(offer)
            # Starts that only take too long are common, and no two are alike for sure: where the
            # workflow has rendered before, or the deadline cut their time short, nothing follows.
            is_telling = event.loss is Loss.STARTUP or (
                not state.is_proven and _had_its_time(state, offer)
            )
            if is_telling and not state.came_up and not offer.is_free:
                attempts.count_alike(state, state.starts_alike, event.error, offer.host_key)
            yield from avoid(state, held, event.loss.value)
        case Loss.LOST:
            yield from avoid(state, held, event.loss.value)


def _had_its_time(state: State, offer: Offer) -> bool:
    """Whether a start was waited for as long as without a deadline."""
    usual_s = startup_limit_s(state.outlook(offer), state.terms.rules, left_s=inf)
    return offer.startup_s >= usual_s


def avoid(state: State, held: Held, cause: str) -> Iterator[Command]:
    """Do not rent this machine again for a while; one that is free gets another chance."""
    offer, state.last_trouble = held.offer, held.error
    if offer.is_free:
        state.market.strike(offer, state.now_s)
        return
    if offer.is_serverless:
        # A slot is no machine: the next container may be anywhere.
        state.market.refused(offer.provider, held.error, state.now_s)
        return
    ttl_s = TTL_S[cause]
    state.market.block(offer, ttl_s, state.now_s)
    # Blame that outlasts the night needs a witness: another machine that did the same well.
    others = state.healthy - {offer.host_key}
    if others or (state.came_up and cause in {Loss.STARTUP, Loss.SLOW}):
        provider, machine = offer.host_key
        yield Blame(provider, machine, cause, ttl_s)


def _released(state: State, event: Released) -> Iterator[Command]:
    if event.is_confirmed:
        state.ledger.settle(event.lease_id, event.usd, now_s=state.now_s)
    held = state.leases.get(event.lease_id)
    if held is None:
        return
    yield from attempts.take_back(state, held, "the lease was released", is_dead=False)
    if not held.is_bad:
        _learn_life(state, held, was_lost=False)
    del state.leases[held.id]
    if held.offer.is_serverless:
        state.market.forget(held.offer)  # that slot is used up; the next answer has others
    state.is_fleet_dirty = True


def _owned(state: State, event: Owned) -> None:
    if state.market.listed(event.provider):
        state.is_fleet_dirty = True
    batch, known = batch_of_run(state.terms.run_label), {one.lease_id: one for one in event.known}
    for listed in event.lease_ids:
        lease_id = in_full(listed, batch)
        if lease_id is not None and not state.knows(lease_id):
            state.left_behind[lease_id] = known.get(lease_id)


def _learn_life(state: State, held: Held, *, was_lost: bool) -> None:
    """For how long it could have been taken from us; while it starts, too."""
    hours = max(0.0, state.now_s - held.since_s) / 3600
    state.knowledge.held(held.offer, hours, was_lost=was_lost, until_s=state.now_s)
