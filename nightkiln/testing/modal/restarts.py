"""When a container is started again after others have crashed while they started."""

from __future__ import annotations

from nightkiln.testing.modal.rules import Rules

DOUBLINGS_MAX = 20


class Restarts:
    """Counts starts in a row that failed; each makes the next one wait twice as long."""

    def __init__(self, rules: Rules) -> None:
        (self._first_s, self._most_s), self._most = rules.crash_wait_s, rules.crashes_max
        self._crashes = 0
        self._not_before_s = 0.0  # of the story

    @property
    def one_at_a_time(self) -> bool:
        """Until one has come up, the others wait to see."""
        return self._crashes > 0

    @property
    def is_hopeless(self) -> bool:
        """Whether what waits is to fail; the service as it is documented never gives up."""
        return self._most is not None and self._crashes >= self._most

    def may_start(self, now_s: float) -> bool:
        return now_s >= self._not_before_s

    def came_up(self) -> None:
        """A start succeeded."""
        self._crashes = 0

    def crashed(self, now_s: float) -> float:
        """A start failed; seconds of the story until the next one."""
        wait_s: float = min(self._first_s * 2 ** min(self._crashes, DOUBLINGS_MAX), self._most_s)
        self._crashes += 1
        self._not_before_s = now_s + wait_s
        return wait_s
