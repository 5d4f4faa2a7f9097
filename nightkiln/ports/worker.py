"""A reachable thing that renders jobs: a leased ComfyUI, or serverless containers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nightkiln.core.model import AttemptId, BoundJob, Ticket, Timings


class OutputHandle(Protocol):
    """One file that a worker made, still at the worker."""

    @property
    def node(self) -> str:
        """Id of the node in the graph that made it."""

    async def save(self, path: Path) -> None:
        """Write the whole file to ``path``, replacing what is there.

        Raises:
            RenderFailed: it is not there, too large, or not as long as announced.
            WorkerLost: the worker stopped answering.
        """


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job really was rendered, for the record of its attempt."""

    host: str
    gpu: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a finished job left at the worker."""

    outputs: Sequence[OutputHandle]
    timings: Timings
    place: Place | None = None  # None: on the machine of the lease


class Worker(Protocol):
    """Three verbs, each safe to repeat, and a courtesy."""

    @property
    def gpu(self) -> str:
        """The GPU's name, as the worker gives it; for tables, never for decisions of trust."""

    @property
    def loading_s(self) -> float:
        """Seconds of its start for which the provider billed no full GPU (pulling the image).

        0 where nobody measured it: then all of the start counts at the full price.
        """

    async def submit(self, job: BoundJob, attempt_id: AttemptId) -> Ticket:
        """Hand a job over; a second call for the same attempt returns the same ticket.

        Raises:
            RenderFailed: the worker refuses the graph, or an input file cannot be uploaded.
            WorkerLost: no answer within the deadline, or the job was not taken.
        """

    async def result(self, ticket: Ticket) -> Rendered:
        """Wait until the job is finished; may be asked again, also by another process.

        Raises:
            RenderFailed: with the fault that decides what happens next.
            WorkerLost: the worker is gone, or has forgotten the job.
        """

    async def cancel(self, ticket: Ticket) -> None:
        """Forget the job, running or waiting. Succeeds if it is finished or unknown."""

    async def forget(self, ticket: Ticket) -> None:
        """The outputs are ours now: the worker may drop its record. Never raises."""
