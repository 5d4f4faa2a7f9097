"""What is billed is a container's time; here it is shared out among the leases that used it.

Theory of operation. The service says in which container a call ran, but only when that is over, and
nothing of containers that ran no call to its end. So they are kept track of as the service does it,
by our own clock alone: what is handed over goes to a container that is free, else one is started
for it. A container's time is a line without gaps: its start, then waits and renders in turn, then
an idle window until it ends. Each piece of the line is the cost of the call that ends it, and what
is left, the idle window, is the cost of the last.

A reply corrects what was believed. The container that ran a call need not be the one that was
started for it. That one is somewhere all the same, costs from the same moment on, and is the next
of which nobody has heard yet. Where nothing is ever heard of a container, it is taken to have
started for long and then to have idled. So our own count may be above the bill. It can be below
where the service starts more than it was asked for, as it does for a call whose container was taken
away, or takes longer for a start than it ever has; and, seldom, where leases pause for longer than
an idle window: then what is believed of their containers may be wrong, and nobody hears of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from nightkiln.core.model import LeaseId, Usd
from nightkiln.providers.modal.calls import Call
from nightkiln.providers.modal.contract import Reply

HOUR_S = 3600
KEPT_S = 3600.0  # a container that should have ended may turn up once more
HAND_BACK_S_MAX = 10.0  # from a job's end until its result is there, where nobody waited for it
QUICK_S = 1.0  # a call that waits longer for a container that is up may have lost one


@dataclass(slots=True, eq=False)
class _Container:
    """One line, as far as it is known or believed."""

    pool: str  # the GPU that was asked for: containers of one take no call of another
    usd_per_s: Usd
    last: LeaseId  # who pays for what is not counted yet
    counted_s: float  # epoch seconds: everything before has its lease
    idle_s: float  # since when it idles, at the latest; no later than ``counted_s`` once it is up
    name: str = ""  # empty: nobody has heard of it
    call_id: str = ""  # that it is believed to have; empty: none
    is_new: bool = True  # no call has ended in it
    is_doubtful: bool = False  # it may have ended with its last call


@dataclass(slots=True)
class Meter:
    """Cost of leases, by the second."""

    scaledown_s: float  # an idle container takes calls for so long ...
    exit_s: float  # ... and has then to end, which is billed, too
    start_s: float  # what a start takes of which nothing is heard; grows with those that are seen
    containers_max: int  # of one pool at once
    _usd: dict[LeaseId, Usd] = field(default_factory=dict)
    _hours: dict[LeaseId, dict[int, Usd]] = field(default_factory=dict)
    _containers: list[_Container] = field(default_factory=list)  # in the order of their starts
    _of_call: dict[str, _Container | None] = field(default_factory=dict)  # None: it has to wait

    @property
    def _window_s(self) -> float:
        return self.scaledown_s + self.exit_s

    # What happens to calls.

    def handed_over(self, call: Call) -> None:
        """A call is the service's: a container has it, is started for it, or will be free."""
        self._forget(before_s=call.submitted_s - KEPT_S)
        there = [one for one in self._containers if self._is_up(one, call)]
        free = [one for one in there if not one.call_id]
        found = max(free, key=lambda one: (one.name != "", one.idle_s), default=None)
        if found is None and len(there) < self.containers_max:
            found = self._started(call, idle_s=call.submitted_s + self.start_s)
        self._believe(call.call_id, found)

    def answered(self, call: Call, reply: Reply, *, usd_per_s: Usd, heard_s: float) -> None:
        """A call is over, and its container has said how it went."""
        is_ours = call.call_id in self._of_call  # else an earlier process waited for it
        believed = self._of_call.pop(call.call_id, None)
        found = self._found(call, reply)
        until_s = heard_s if is_ours else min(heard_s, reply.t_end + HAND_BACK_S_MAX)
        if found is not believed:
            began_s = until_s - (reply.t_end - reply.t_start)
            self._correct(call, believed, found, began_s=began_s)
        elif found.is_new:
            waited_s = until_s - (reply.t_end - reply.t_start) - call.submitted_s
            self.start_s = max(self.start_s, waited_s)
        found.name = _name(call, reply)
        found.usd_per_s = usd_per_s
        self._end_in(found, call.lease_id, until_s)

    def ended(self, call: Call, *, now_s: float, with_container: bool) -> None:
        """A call is over, and nobody knows where it was: all its time counts.

        ``with_container``: its container, if it had one, has ended or may have.
        """
        found = self._of_call.pop(call.call_id, None)
        if found is None:
            found = self._started(call, idle_s=now_s)
        was_new = found.is_new
        self._end_in(found, call.lease_id, now_s)
        found.is_doubtful = with_container
        freed = next(self._freed_since(call), None) if was_new else None
        if freed is not None:  # it may have had the call instead
            self._end_in(freed, call.lease_id, now_s)
            freed.is_doubtful = True

    def unseen(self, lease_id: LeaseId, *, seconds: float, now_s: float, usd_per_s: Usd) -> None:
        """Something that may run so long, and of which nobody will ever hear."""
        self._add(lease_id, now_s, now_s + seconds + self._window_s, usd_per_s)

    # What it comes to.

    def waits(self, lease_id: LeaseId, *, now_s: float) -> bool:
        """Whether a container that did the lease's last call is still in its idle window."""
        return any(
            one.last == lease_id
            and not (one.is_new or one.call_id or one.is_doubtful)
            and one.idle_s + self.scaledown_s >= now_s
            for one in self._containers
        )

    def usd(self, lease_id: LeaseId, *, now_s: float) -> Usd:
        """All that a lease has cost so far, idle windows that have passed included."""
        rests = (one.usd_per_s * _seconds(*rest) for one, rest in self._rests(lease_id, now_s))
        return self._usd.get(lease_id, Decimal(0)) + sum(rests, Decimal(0))

    def usd_at_most(self, lease_id: LeaseId) -> Usd:
        """The same, with every idle window passed to its end: what it comes to if nothing more."""
        return self.usd(lease_id, now_s=float("inf"))

    def by_hour(self, lease_id: LeaseId, *, now_s: float) -> Mapping[int, Usd]:
        """The same as ``usd``, by the hour (epoch hours) in which it was spent."""
        hours = dict(self._hours.get(lease_id, {}))
        for one, rest in self._rests(lease_id, now_s):
            _spread(hours, *rest, one.usd_per_s)
        return hours

    # Containers.

    def _is_up(self, one: _Container, call: Call) -> bool:
        """Whether a container lives as a call comes that it could have."""
        is_idle = not one.is_doubtful and one.idle_s + self.scaledown_s >= call.submitted_s
        return one.pool == call.gpu and (one.call_id != "" or is_idle)

    def _started(self, call: Call, *, idle_s: float) -> _Container:
        made = _Container(call.gpu, call.usd_per_s, call.lease_id, call.submitted_s, idle_s)
        self._containers.append(made)
        return made

    def _believe(self, call_id: str, container: _Container | None) -> None:
        self._of_call[call_id] = container
        if container is not None:
            container.call_id = call_id

    def _found(self, call: Call, reply: Reply) -> _Container:
        """The container that a reply is from.

        One that nobody has heard of is the first of those that were started: so what is left is the
        last of them, which may be there longest. Where none was, the call was what started it.
        """
        for one in self._containers:
            if one.name == _name(call, reply):
                return one
        strangers = (one for one in self._containers if one.pool == call.gpu and not one.name)
        # A container of an earlier process may have had the call, and then ours is still to come.
        could_be = (one for one in strangers if reply.is_cold or not one.is_new)
        found = next(could_be, None)
        return found if found is not None else self._started(call, idle_s=call.submitted_s)

    def _correct(
        self, call: Call, believed: _Container | None, found: _Container, *, began_s: float
    ) -> None:
        """A call was elsewhere, so whichever was believed to be there was here, or nowhere."""
        if found.call_id:
            self._believe(found.call_id, believed)
        elif believed is not None:
            believed.call_id = ""
            if believed.name and began_s - call.submitted_s > QUICK_S:
                # It had the call, and was taken away: the service began anew with another.
                self._end_in(believed, call.lease_id, began_s)
        if not found.name:  # a call that was begun anew was paid for elsewhere before
            found.counted_s = min(found.counted_s, call.submitted_s)

    def _freed_since(self, call: Call) -> Iterator[_Container]:
        """Containers that were up and free while a call is believed to have waited for its own."""
        return (
            one
            for one in self._containers
            if one.pool == call.gpu
            and one.name
            and not one.call_id
            and one.counted_s >= call.submitted_s
        )

    def _end_in(self, container: _Container, lease_id: LeaseId, until_s: float) -> None:
        """A call of that lease has ended there by then: the line up to then is its cost."""
        until_s = max(container.counted_s, until_s)
        self._add(lease_id, container.counted_s, until_s, container.usd_per_s)
        # One that may be only starting goes on with that, whatever became of the call.
        container.idle_s = until_s if container.name else max(container.idle_s, until_s)
        container.counted_s, container.last = until_s, lease_id
        container.call_id, container.is_new, container.is_doubtful = "", False, False

    def _rests(
        self, lease_id: LeaseId, now_s: float
    ) -> Iterator[tuple[_Container, tuple[float, float]]]:
        """What is not counted yet of containers whose last call was this lease's, up to now."""
        for one in self._containers:
            until_s = min(one.idle_s + self._window_s, now_s)
            if one.last == lease_id and not one.call_id and until_s > one.counted_s:
                yield one, (one.counted_s, until_s)

    def _forget(self, *, before_s: float) -> None:
        """Containers that have ended long ago become a sum."""
        for one in list(self._containers):
            if not one.call_id and one.idle_s + self._window_s < before_s:
                self._add(one.last, one.counted_s, one.idle_s + self._window_s, one.usd_per_s)
                self._containers.remove(one)

    def _add(self, lease_id: LeaseId, since_s: float, until_s: float, usd_per_s: Usd) -> None:
        until_s = max(since_s, until_s)
        usd = usd_per_s * _seconds(since_s, until_s)
        self._usd[lease_id] = self._usd.get(lease_id, Decimal(0)) + usd
        _spread(self._hours.setdefault(lease_id, {}), since_s, until_s, usd_per_s)


def _name(call: Call, reply: Reply) -> str:
    """A container that gives none is nobody else's."""
    return reply.container if reply.container != "" else call.call_id


def _seconds(since_s: float, until_s: float) -> Decimal:
    return Decimal(repr(until_s)) - Decimal(repr(since_s))


def _spread(hours: dict[int, Usd], since_s: float, until_s: float, usd_per_s: Usd) -> None:
    """Add a stretch of time to the hours that it lies in."""
    for hour in range(int(since_s // HOUR_S), int(until_s // HOUR_S) + 1):
        begin_s, end_s = max(since_s, hour * HOUR_S), min(until_s, (hour + 1) * HOUR_S)
        if end_s > begin_s:
            usd = usd_per_s * _seconds(begin_s, end_s)
            hours[hour] = hours.get(hour, Decimal(0)) + usd
