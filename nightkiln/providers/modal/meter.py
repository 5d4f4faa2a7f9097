"""What is billed is a container's time; here it is shared out among the leases that used it.

Theory of operation. Every reply says in which container it was made, since when that runs, and from
when to when it rendered. The time of a container is a line without gaps: its start, then waits and
renders in turn, then an idle window until it ends. Each piece of the line is the cost of the call
that ends it, and the idle window is the cost of the last. Where nothing is known of a container (a
call that was cancelled, or lost with it), all of the time since the call was handed over counts:
our own count may be above the bill, never below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from nightkiln.core.model import LeaseId, Usd
from nightkiln.providers.modal.contract import Reply

HOUR_S = 3600
CONTAINERS_MAX = 10_000  # remembered; the oldest are long gone


def in_our_time(
    reply: Reply, *, submitted_s: float | None, now_s: float, boot_s_max: float
) -> Reply:
    """A reply with times that can be, by our own clock: a container's may be wrong, or lie.

    A call is begun after it was handed over (None: nobody knows when) and over by now, and no
    container boots for longer than it may before it is given a call.
    """
    moved_s = min(0.0, now_s - reply.t_end)
    if submitted_s is not None:
        moved_s += max(0.0, submitted_s - (reply.t_start + moved_s))
    t_end = min(now_s, reply.t_end + moved_s)
    t_start = min(t_end, reply.t_start + moved_s)
    t_enter = reply.t_enter + moved_s
    begun_s = submitted_s if submitted_s is not None else t_start
    t_enter = min(t_start, max(t_enter, begun_s - boot_s_max))
    return replace(reply, t_enter=t_enter, t_start=t_start, t_end=t_end)


@dataclass(slots=True)
class _Container:
    """The line of one container, as far as it is known."""

    usd_per_s: Usd
    until_s: float  # epoch seconds: everything before has its lease
    last: LeaseId


@dataclass(slots=True)
class Meter:
    """Cost of leases, by the second."""

    scaledown_s: float
    _usd: dict[LeaseId, Usd] = field(default_factory=dict)
    _hours: dict[LeaseId, dict[int, Usd]] = field(default_factory=dict)
    _containers: dict[str, _Container] = field(default_factory=dict)

    def answered(
        self, lease_id: LeaseId, reply: Reply, *, submitted_s: float, usd_per_s: Usd
    ) -> None:
        """A call is over, and its container has said how it went."""
        known = self._containers.get(reply.container)
        if known is not None:
            since_s = known.until_s
        else:
            # Before its own start a container boots, which is billed, too; it did not before it
            # was wanted.
            since_s = min(reply.t_enter, submitted_s) if reply.is_cold else submitted_s
            since_s = min(since_s, reply.t_start)
        until_s = max(since_s, reply.t_end)
        self._containers[reply.container] = _Container(usd_per_s, until_s, lease_id)
        if len(self._containers) > CONTAINERS_MAX:
            del self._containers[next(iter(self._containers))]
        self._add(lease_id, until_s - since_s, usd_per_s, until_s)

    def ended(self, lease_id: LeaseId, *, submitted_s: float, now_s: float, usd_per_s: Usd) -> None:
        """A call is over, and nobody knows where it was: all its time counts.

        Where its lease has used a container that may have waited for it, it was there, and that
        container's time is counted up to now.
        """
        since_s = submitted_s
        for container in self._containers.values():
            waited_s = submitted_s - container.until_s
            if container.last == lease_id and waited_s <= self.scaledown_s:
                since_s = min(since_s, container.until_s)
                container.until_s = max(container.until_s, now_s)
        self._add(lease_id, max(0.0, now_s - since_s), usd_per_s, now_s)

    def unseen(self, lease_id: LeaseId, *, seconds: float, now_s: float, usd_per_s: Usd) -> None:
        """Something that may run so long, and of which nobody will ever hear."""
        self._add(lease_id, max(0.0, seconds), usd_per_s, now_s)

    def waits(self, lease_id: LeaseId, *, now_s: float) -> bool:
        """Whether a container that did the lease's last call is still in its idle window."""
        return any(
            container.last == lease_id and now_s - container.until_s <= self.scaledown_s
            for container in self._containers.values()
        )

    def usd(self, lease_id: LeaseId, *, now_s: float) -> Usd:
        """All that a lease has cost so far, idle windows that have passed included."""
        idle = Decimal(0)
        for container in self._containers.values():
            if container.last == lease_id:
                idle_s = min(self.scaledown_s, max(0.0, now_s - container.until_s))
                idle += container.usd_per_s * Decimal(repr(idle_s))
        return self._usd.get(lease_id, Decimal(0)) + idle

    def usd_at_most(self, lease_id: LeaseId) -> Usd:
        """The same, with every idle window passed to its end: what it comes to if nothing more."""
        return self.usd(lease_id, now_s=float("inf"))

    def by_hour(self, lease_id: LeaseId) -> Mapping[int, Usd]:
        """What it has cost by full hour (epoch hours); windows that are open yet left out."""
        return dict(self._hours.get(lease_id, {}))

    def _add(self, lease_id: LeaseId, seconds: float, usd_per_s: Usd, when_s: float) -> None:
        usd = usd_per_s * Decimal(repr(seconds))
        self._usd[lease_id] = self._usd.get(lease_id, Decimal(0)) + usd
        hours = self._hours.setdefault(lease_id, {})
        hour = int(when_s // HOUR_S)
        hours[hour] = hours.get(hour, Decimal(0)) + usd
