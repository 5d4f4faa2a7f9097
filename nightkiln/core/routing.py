"""Which job a machine gets next.

Jobs that failed or were lost come first, so that their fate is known early, but never twice on
one machine. Then jobs that need what the machine has loaded, then the largest other group.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

from nightkiln.core.faults import Tries
from nightkiln.core.model import JobId, Offer, Trust

RETRY_SCAN_MAX = 32  # retries looked at to find one that this machine may have

Spares: TypeAlias = Callable[[JobId, Offer], bool]


def _never(job_id: JobId, offer: Offer) -> bool:
    del job_id, offer
    return False


@dataclass(slots=True)
class Queue:
    """Jobs between the catalog and their end."""

    trust: Trust = Trust.ANY  # asked for: nothing goes to a machine that is known less well
    fetched: int = 0
    open: int = 0  # fetched and not settled
    is_exhausted: bool = False
    is_fetching: bool = False
    tries: dict[JobId, Tries] = field(default_factory=dict)  # of jobs that have failed or were lost
    _fresh: dict[str, deque[JobId]] = field(default_factory=dict)  # by mark
    _again: deque[JobId] = field(default_factory=deque)
    _marks: dict[JobId, str] = field(default_factory=dict)  # of jobs that have one
    _fresh_count: int = 0

    def __len__(self) -> int:
        return self._fresh_count + len(self._again)

    @property
    def again(self) -> Sequence[JobId]:
        """Jobs that wait for another try."""
        return self._again

    def add(self, jobs: Sequence[JobId], marks: Sequence[str]) -> None:
        """Take what the catalog gave."""
        assert not marks or len(marks) == len(jobs)
        self.fetched += len(jobs)
        self.open += len(jobs)
        self._fresh_count += len(jobs)
        if not marks:
            self._fresh.setdefault("", deque()).extend(jobs)
            return
        for job_id, mark in zip(jobs, marks, strict=True):
            self._fresh.setdefault(mark, deque()).append(job_id)
            self._marks[job_id] = mark

    def waiting(self) -> Iterator[JobId]:
        """Jobs that could be handed out."""
        yield from self._again
        for jobs in self._fresh.values():
            yield from jobs

    def mark(self, job_id: JobId) -> str:
        """What a worker has to have loaded for a job."""
        return self._marks.get(job_id, "")

    def put_back(self, job_id: JobId) -> None:
        """A try is over and says nothing final."""
        self._again.append(job_id)

    def settle(self, job_id: JobId) -> None:
        """A job is at its end."""
        self.open -= 1
        self.tries.pop(job_id, None)
        self._marks.pop(job_id, None)

    def take(self, offer: Offer, mark: str, spares: Spares = _never) -> JobId | None:
        """The next job for a machine that has ``mark`` loaded; None when there is none for it.

        ``spares``: whether a job that failed is kept from this place, though it may be tried there.
        """
        if not self._trusts(offer):
            return None
        if self._again:
            for index, job_id in enumerate(self._again):
                if index >= RETRY_SCAN_MAX:
                    break
                if self.may_run(job_id, offer) and not spares(job_id, offer):
                    del self._again[index]
                    return job_id
        if not self._fresh_count:
            return None
        jobs = self._fresh.get(mark)
        if not jobs:
            mark = max(self._fresh, key=lambda each: len(self._fresh[each]))
            jobs = self._fresh[mark]
        self._fresh_count -= 1
        job_id = jobs.popleft()
        if not jobs:
            del self._fresh[mark]
        return job_id

    def has_for(self, offer: Offer, spares: Spares = _never) -> bool:
        """Whether a job waits that may be tried there."""
        if not self._trusts(offer):
            return False
        if self._fresh_count:
            return True
        return any(
            self.may_run(job_id, offer) and not spares(job_id, offer)
            for job_id in islice(self._again, RETRY_SCAN_MAX)
        )

    def drop(self, job_id: JobId) -> None:
        """Take a job that waits for another try out of the queue."""
        self._again.remove(job_id)

    def may_run(self, job_id: JobId, offer: Offer) -> bool:
        """Whether a job may be tried there: not where it failed, not where memory was short."""
        tries = self.tries.get(job_id)
        return self._trusts(offer) and (tries is None or tries.allows(offer))

    def _trusts(self, offer: Offer) -> bool:
        """Also of a lease that an earlier run rented, when the catalog asked for less."""
        return offer.trusted_as.is_enough(self.trust)

    def stranded(self, offers: Sequence[Offer]) -> Iterator[JobId]:
        """Jobs that failed, and now wait for another machine than any of ``offers``.

        ``offers`` may grow meanwhile.
        """
        for job_id in list(self._again):
            has_failed = job_id in self.tries and self.tries[job_id].failures > 0
            if has_failed and not any(self.may_run(job_id, offer) for offer in offers):
                yield job_id
