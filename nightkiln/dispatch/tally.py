"""Counts what happens in a run, for people to look at."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from nightkiln.core.model import Lease, LeaseId, Usd
from nightkiln.ports.observer import Progress, WorkerProgress

RATE_WINDOW_S = 60.0  # images per minute are those of the last minute
STARTING = "starting"


@dataclass(slots=True)
class Tally:
    """Where a run stands."""

    batch: str
    total: int  # jobs of the whole batch
    done: int = 0  # here and in earlier runs of this batch
    reused: int = 0
    failed: int = 0
    outputs: int = 0
    started_s: float = 0.0
    workers: dict[LeaseId, WorkerProgress] = field(default_factory=dict)
    not_released: list[LeaseId] = field(default_factory=list)  # as far as anybody confirmed
    _recent: deque[tuple[float, int]] = field(default_factory=deque)
    _settled_here: int = 0

    @property
    def left(self) -> int:
        """Jobs of the batch without an end."""
        return self.total - self.done - self.reused - self.failed

    def job_done(self, lease_id: LeaseId, outputs: int, now_s: float) -> None:
        """One job more is verified."""
        self.done += 1
        self.outputs += outputs
        self._settled_here += 1
        self._recent.append((now_s, outputs))
        self.worker(lease_id, done=1, running=-1)

    def job_failed(self) -> None:
        """One job is given up."""
        self.failed += 1
        self._settled_here += 1

    def add_worker(self, lease: Lease) -> None:
        """A lease is rented."""
        self.workers[lease.id] = WorkerProgress(
            lease.id, lease.host, lease.provider, lease.offer.gpu, STARTING, 0, 0, 0
        )

    def released(self, lease_id: LeaseId, *, was_lost: bool) -> None:
        """A lease costs nothing any more."""
        if lease_id in self.not_released:  # the first time nobody had confirmed it
            self.not_released.remove(lease_id)
        self.worker(lease_id, state="lost" if was_lost else "released")

    def gave_up(self, lease_id: LeaseId) -> None:
        """Nobody confirms that a lease ended."""
        if lease_id not in self.not_released:
            self.not_released.append(lease_id)
        self.worker(lease_id, state="not released")

    def spent(self, lease_id: LeaseId, usd: Usd, busy_s: float) -> None:
        """What a lease has come to, and for how long it has rendered."""
        now = self.workers.get(lease_id)
        if now is not None:
            self.workers[lease_id] = replace(now, usd=float(usd), busy_s=busy_s)

    def worker(
        self,
        lease_id: LeaseId,
        *,
        state: str | None = None,
        gpu: str | None = None,
        done: int = 0,
        failed: int = 0,
        running: int = 0,
    ) -> None:
        """Add to one lease's counts."""
        now = self.workers.get(lease_id)
        if now is not None:
            self.workers[lease_id] = replace(
                now,
                state=state if state is not None else now.state,
                doing=now.doing if state is None else "",
                gpu=gpu if gpu is not None else now.gpu,
                done=now.done + done,
                failed=now.failed + failed,
                running=max(0, now.running + running),
            )

    def progress(self, now_s: float) -> Progress:
        """The picture at ``now_s`` (epoch seconds)."""
        while self._recent and now_s - self._recent[0][0] > RATE_WINDOW_S:
            self._recent.popleft()
        elapsed_s = max(now_s - self.started_s, 1e-9)
        window_s = min(RATE_WINDOW_S, elapsed_s)
        pace = self._settled_here / elapsed_s
        return Progress(
            batch=self.batch,
            total=self.total,
            done=self.done,
            reused=self.reused,
            failed=self.failed,
            outputs=self.outputs,
            elapsed_s=elapsed_s,
            images_per_minute=60 * sum(count for _, count in self._recent) / window_s,
            eta_s=self.left / pace if pace > 0 else None,
            workers=tuple(self.workers.values()),
        )
