"""Every error this project raises.

NightkilnError
  BadInput            catalog, workflow, settings: nothing was started (exit code 2)
    Refused           what a batch was quoted may not be spent; .batch and .usd_p90 say of which
  OfferGone           ordinary: another customer was faster
  RenderFailed        one attempt failed; .fault says whose fault it was
    BadOutput         the worker answered, but its file is damaged, blank or too large
  WorkerLost          the worker does not answer, or has forgotten what it was given; .loss says why
  ProviderError       a provider's service failed or refused; .provider says which
  ClaimHeld           another run owns the batch; .owner and .since_s say who and since when
    NightAtWork       another night of the catalog is not over yet; .other says which
  ClaimLost           another run has taken the batch over; this one must stop
  StoreConflict       two runs tried to commit the same shard with different content
  StoreUnusable       the store cannot be read or written: path, permission, space
  RoomTrouble         Prefect's server, its worker or a command of it did not do what it should
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nightkiln.core.model import Fault, Loss


class NightkilnError(Exception):
    """Base class: ``except NightkilnError`` catches all of ours and nothing else."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the input: where it is, what it is, what to do about it."""

    where: str  # file, and row and column or node, as the user would look for it
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.fix})" if self.fix else "")


class BadInput(NightkilnError):
    """The user's input cannot be used; every problem found is in ``problems``."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        assert problems, "an error without a problem"
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class Refused(BadInput):
    """A quote was refused, by its budget, the month's, or somebody who was asked."""

    def __init__(self, problem: Problem, *, batch: str, usd_p90: float | None = None) -> None:
        super().__init__([problem])
        self.batch = batch
        self.usd_p90 = usd_p90  # None: nothing was quoted


class OfferGone(NightkilnError):
    """The machine was rented by somebody else, or is in use; ordinary, not an error to log."""


class RenderFailed(NightkilnError):
    """One attempt to render one job failed."""

    def __init__(self, message: str, *, fault: Fault, kind: str = "error") -> None:
        super().__init__(message)
        self.fault = fault
        self.kind = kind  # short and stable, for counting alike failures: "oom", "blank", ...


class BadOutput(RenderFailed):
    """A file that came back is not what it should be."""


class WorkerLost(NightkilnError):
    """The worker is gone or useless; its jobs belong to others now.

    ``loss`` says why, where that is known; by itself it is that nobody answers.
    """

    def __init__(self, message: str, *, loss: Loss = Loss.LOST) -> None:
        super().__init__(message)
        self.loss = loss


class ProviderError(NightkilnError):
    """A provider's service failed; nobody's machine is to blame."""

    def __init__(self, message: str, *, provider: str) -> None:
        super().__init__(message)
        self.provider = provider


class ClaimHeld(NightkilnError):
    """Another run works on this batch right now."""

    def __init__(self, message: str, *, batch: str, owner: str, since_s: float) -> None:
        super().__init__(message)
        self.batch = batch  # that was wanted
        self.owner = owner
        self.since_s = since_s


class NightAtWork(ClaimHeld):
    """Another night of this catalog is at work, on a batch of another name."""

    def __init__(self, message: str, *, batch: str, other: str, owner: str, since_s: float) -> None:
        super().__init__(message, batch=batch, owner=owner, since_s=since_s)
        self.other = other


class ShareTaken(NightkilnError):
    """Another run was started with this start of a share; the night starts a new one if it must."""


class ClaimLost(NightkilnError):
    """Another run has taken this batch over while we were not looking."""


class StoreConflict(NightkilnError):
    """A shard of this name is already committed with other content."""


class StoreUnusable(NightkilnError):
    """The store cannot be read or written; the message says which path and why."""


class RoomTrouble(NightkilnError):
    """A part of the control room failed; what is up stays up, and the same command goes on."""


def most_telling(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of several that says most: ours before a stranger's."""
    leaves = list(_leaves(errors))
    ours = [error for error in leaves if isinstance(error, NightkilnError)]
    return (ours or leaves)[0]


def _leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
