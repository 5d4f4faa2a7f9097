"""Decides what to do next: events in, commands out; no I/O, no clock, no randomness.

How it works. An event only records what happened (``recording``). The rules then derive every
command from the state, so no rule is written twice and any order of events is safe:

    jobs     waiting -> running (twice, near the end) -> done | given up; or back to waiting
    leases   asked for -> ready -> draining -> releasing -> gone

``adopting`` says which machines of an earlier run to go on with, ``job_rules`` what is rendered
where, ``fleet_rules`` which machines to have, ``release_rules`` which to send away, ``stranded``
what becomes of jobs that nobody is left to try, ``end_rules`` when to stop. After an event only
the leases that it touched are filled and looked at; the fleet as a whole is when leases or offers
changed, and once a minute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nightkiln.core import adopting, end_rules, fleet_rules, job_rules, release_rules, stranded
from nightkiln.core.budget import Ledger
from nightkiln.core.events import Command, Event, Tick
from nightkiln.core.learning import Knowledge, Scores
from nightkiln.core.market import Market
from nightkiln.core.model import Host
from nightkiln.core.pricing import Quoter
from nightkiln.core.priors import Priors
from nightkiln.core.recording import record
from nightkiln.core.routing import Queue
from nightkiln.core.state import State
from nightkiln.core.terms import Terms


class Scheduler:
    """One run's decisions. ``handle`` is the only way to change anything.

    ``scores`` is what earlier nights learned and is written to in place; ``blocked`` maps
    machines not to be rented to when, on the clock of ``Tick``, they may be again.
    """

    def __init__(
        self,
        terms: Terms,
        *,
        priors: Priors | None = None,
        scores: Scores | None = None,
        blocked: Mapping[Host, float] | None = None,
    ) -> None:
        priors = priors if priors is not None else Priors()
        knowledge = Knowledge(priors, terms.load, scores, midnight_s=terms.midnight_s)
        knowledge.learns = terms.rules.learns
        self.state = State(
            terms=terms,
            knowledge=knowledge,
            quoter=Quoter(terms.load, terms.rules),
            ledger=Ledger(terms.budget, terms.load),
            market=Market(
                trust=terms.trust,
                rules=terms.rules,
                blocked=dict(blocked) if blocked is not None else {},
            ),
            queue=Queue(trust=terms.trust),
        )

    @property
    def is_finished(self) -> bool:
        """Nothing runs, nothing is rented, and nothing is left that this run would do.

        Whoever is about to say what earlier runs have left is waited for: it is to be given back.
        """
        state = self.state
        is_over = state.is_stopping or (state.queue.is_exhausted and not state.queue.open)
        return is_over and not (state.trying or state.leases or state.market.is_listing)

    @property
    def stop_reason(self) -> str | None:
        """Why the run ends before its work is done."""
        return self.state.stop_reason

    def handle(self, event: Event) -> list[Command]:
        """Record ``event`` and say what to do now, in order."""
        commands = [*record(self.state, event), *self._decide(is_tick=isinstance(event, Tick))]
        self._check()
        return commands

    def _decide(self, *, is_tick: bool) -> Iterator[Command]:
        state = self.state
        yield from adopting.reconcile(state)
        yield from end_rules.stop_if_hopeless(state)
        yield from end_rules.cancel_if_stopping(state)
        if not state.is_stopping:
            yield from job_rules.fetch(state)
            yield from job_rules.fill(state)
            if is_tick:
                yield from job_rules.shorten_tail(state)
        if is_tick:
            yield from job_rules.limit(state)
        if is_tick or state.is_stopping or not state.queue.open:
            yield from release_rules.let_go(state)
        elif state.suspects:
            yield from release_rules.let_suspects_go(state)
        if not state.is_stopping and state.is_plan_due:
            yield from fleet_rules.plan(state)
            yield from stranded.end_stranded(state)
            yield from release_rules.let_go(state)
            yield from job_rules.fill(state)

    def _check(self) -> None:
        state = self.state
        assert len(state.leases) <= state.terms.leases_max
        assert state.queue.open >= len(state.queue)
