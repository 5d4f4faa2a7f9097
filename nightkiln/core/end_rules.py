"""When to stop: no hope, no time, no money, or because somebody said so."""

from __future__ import annotations

from collections.abc import Iterator

from nightkiln.core.events import Command, Stop
from nightkiln.core.job_rules import cancel
from nightkiln.core.renting import affords
from nightkiln.core.state import Phase, State
from nightkiln.core.stranded import known_places
from nightkiln.core.terms import Late

PATIENCE_S = 120.0  # with work waiting and no machine ready for so long, where nothing is billed
FIRST_FAILURES_MAX = 10  # jobs given up before the first success: the fault is ours
ALIKE_MAX = 3  # machines that fail in the same way, with no success anywhere: ours, not theirs
STARTS_ALIKE_MAX = 5  # ... to start, where this workflow was rendered before: bad hosts are cheap
ALIKE_SHARE = 1 / 3  # ... and of all that were rented: of thirty that start, three fail by chance


def stop_if_hopeless(state: State) -> Iterator[Command]:
    """End a run that cannot, or must not, go on."""
    if any(True for _ in state.with_phase(Phase.READY)):
        state.ready_at_s = state.now_s
    if state.is_stopping or state.remaining == 0:
        return
    reason = (
        _ours(state)
        or _no_trust(state)
        or _no_machine(state)
        or _no_time(state)
        or _no_answer(state)
    )
    if reason is None:
        reason = _no_money(state)
        state.is_out_of_money = reason is not None
    if reason is not None:
        state.stop_reason = reason
        yield Stop(reason)


def cancel_if_stopping(state: State) -> Iterator[Command]:
    """Hand running jobs back, where that was asked for."""
    if state.cancels:
        state.cancels = False
        for attempt_id in sorted(state.trying):
            is_going = state.lease_of(attempt_id).phase is Phase.RELEASING
            if not is_going and not state.trying[attempt_id].is_cancelled:
                yield cancel(state, attempt_id, "the run was stopped")


def _ours(state: State) -> str | None:
    if state.done:
        return None
    if state.failed >= FIRST_FAILURES_MAX:
        return (
            f"the first {state.failed} jobs all failed: the fault is in the catalog or its "
            "environment, not in a machine; see `attempts` in the store"
        )
    starts_max = STARTS_ALIKE_MAX if state.is_proven else ALIKE_MAX
    for alike, most in ((state.alike, ALIKE_MAX), (state.starts_alike, starts_max)):
        for what, hosts in alike.items():
            if len(hosts) >= max(most, ALIKE_SHARE * state.leases_count):
                return (
                    f"{len(hosts)} machines failed in the same way and none succeeded: "
                    f"{state.said_alike[what]!r}; the fault is in the catalog, its environment or "
                    "a service that all of them need"
                )
    return None


def _no_trust(state: State) -> str | None:
    """Every machine there is belongs to somebody of whom too little is known, and stays so."""
    if state.leases or not state.market.is_distrusted or not state.market.has_answered(state.now_s):
        return None
    if state.now_s - state.ready_at_s <= PATIENCE_S:
        return None
    return (
        f"for {PATIENCE_S:.0f} s nothing was offered but machines that this catalog is not to be "
        f"rendered on (trust: {state.terms.trust}); use a provider that has such, or see "
        "needs.trust and private in catalog.yaml"
    )


def _no_machine(state: State) -> str | None:
    market = state.market
    if not market.is_free:
        return None  # a market may have machines again in a minute
    offers = list(market.known())
    if offers and not state.leases and all(market.is_struck_out(offer) for offer in offers):
        return f"every worker failed too often; the last one: {state.last_trouble}"
    if state.now_s - state.ready_at_s > PATIENCE_S:
        return f"no worker was ready for {PATIENCE_S:.0f} s; is one running?"
    return None


def _no_time(state: State) -> str | None:
    if state.now_s < state.deadline_s or state.terms.late is Late.FINISH:
        return None
    if state.terms.deadline_s is None:
        return None
    market = state.market
    silence = f"nobody answered at last ({market.troubles}); " if market.is_silent else ""
    finish = "" if market.is_silent else ", --late finish would have finished"
    return (
        f"the deadline has passed with {state.remaining} jobs left; {silence}the same command "
        f"goes on with them under a new deadline{finish}"
    )


def _no_answer(state: State) -> str | None:
    """Nothing is rented and nobody answers. Until a deadline waiting costs nothing."""
    market = state.market
    if state.leases or not market.is_silent:
        return None
    if state.terms.deadline_s is not None and state.now_s < state.deadline_s:
        return None
    silent_s = state.now_s - max(market.heard_s, state.ready_at_s)
    if silent_s < state.terms.rules.silence_s:
        return None
    return (
        f"nobody has answered for {silent_s / 60:.0f} minutes ({market.troubles}); "
        f"{state.remaining} jobs are left, and the same command goes on with them later"
    )


def _no_money(state: State) -> str | None:
    """Nothing is rented, and nothing that is offered can be paid."""
    budget = state.ledger.budget
    if budget is None or state.leases or not state.market.has_answered(state.now_s):
        state.poor_s = None
        return None
    if any(
        offer.is_free and not state.market.is_struck_out(offer) for offer in known_places(state)
    ):
        return None
    offers = [offer for offer in state.open_offers() if state.has_use_for(offer)]
    if not offers or any(affords(state, offer) for offer in offers):
        state.poor_s = None
        return None
    state.poor_s = state.now_s if state.poor_s is None else state.poor_s
    if state.now_s - state.poor_s < state.terms.more_usd_s:
        return None  # who gives the money may have more
    open_usd = state.ledger.reserved(state.now_s)
    kept = f", {open_usd:.2f} are kept for machines not confirmed released" if open_usd else ""
    return (
        f"{state.ledger.spent:.2f} of {budget:.2f} USD are spent{kept} and the rest does not pay "
        f"for another machine; {state.remaining} jobs are left; raise --budget or resume later"
    )
