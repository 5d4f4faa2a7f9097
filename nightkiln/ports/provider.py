"""The seam between nightkiln and any place that rents out GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from nightkiln.core.model import Lease, LeaseId, Need, Offer, Ticket, Usd
from nightkiln.ports.worker import Rendered, Worker


class Provider(Protocol):
    """Five idempotent verbs inside an async context that owns pollers, limits and keys.

    A provider never retries what can cost money twice and never picks another
    offer: retrying, routing and spending are decided once, in the scheduler.
    """

    @property
    def name(self) -> str:
        """The word that names it in catalogs, flags and tables."""

    @property
    def bills(self) -> bool:
        """Whether it costs money: then a budget is mandatory."""

    @property
    def can_list(self) -> bool:
        """Whether ``owned`` asks the service; else the journal's open tickets answer for it."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def offers(self, need: Need, *, limit: int) -> Sequence[Offer]:
        """What could be had now, at most ``limit``; no side effect.

        Raises:
            ProviderError: the service did not answer. Never an empty list instead.
        """

    async def rent(
        self, offer: Offer, lease_id: LeaseId, need: Need, *, expires_at_s: float
    ) -> Lease:
        """Start it, labelled ``lease_id``, mortal at ``expires_at_s`` (epoch seconds).

        A second call returns the same lease.

        Raises:
            OfferGone: somebody else took it. Ordinary.
            ProviderError: the service failed.
        """

    def connect(self, lease: Lease) -> AbstractAsyncContextManager[Worker]:
        """Yield a worker once it really renders, within ``lease.offer.startup_s``.

        Raises:
            WorkerLost: it did not come up.
        """

    async def release(self, lease_ids: Sequence[LeaseId]) -> None:
        """Stop paying, verified. Succeeds for leases that are already gone."""

    async def owned(self) -> Sequence[LeaseId]:
        """Every lease still billed to us, also those that a dead run forgot.

        Raises:
            ProviderError: rather than returning a short list.
        """


@dataclass(frozen=True, slots=True)
class Billed:
    """Something that a provider bills us for right now, as the provider says. Untrusted."""

    lease_id: LeaseId  # from its label
    fleet: str  # from its label: which of our set-ups it belongs to
    contract: str  # the provider's own name for it
    usd_per_hour: Usd  # with its disk
    since_s: float | None  # epoch seconds; None: the provider does not say
    status: str  # the provider's own word
    gpu: str = "unknown"
    machine: str = ""


@runtime_checkable
class Inventory(Protocol):
    """A provider that can say more of what it bills us for than which leases."""

    async def billed(self) -> Sequence[Billed]:
        """Everything with a label of ours, of every fleet and batch; all pages.

        Raises:
            ProviderError: rather than returning a short list.
        """


@dataclass(frozen=True, slots=True)
class Used:
    """For how long a lease was billed, as its provider saw it."""

    gpu_s: float  # at the full rate, an idle window after the last job included
    storage_s: float


@runtime_checkable
class Telling(Protocol):
    """A provider that can say how far the start of a lease has come."""

    def doing(self, lease_id: LeaseId) -> str:
        """In a few words for people, such as ``fetching 2.1 of 6.9 GB``; empty: nothing to say."""


@runtime_checkable
class Metered(Protocol):
    """A provider that watches how its leases stand, and so knows what of their lives is billed."""

    def used(self, lease_id: LeaseId) -> Used | None:
        """So far, or all in all once it is released; also of a lease that never came up.

        None: unknown; then all of its life counts, but for what its worker says of loading.
        """


@dataclass(frozen=True, slots=True)
class Charge:
    """What a provider has billed for one lease so far; it may still grow after the release."""

    lease_id: LeaseId
    gpu: Usd
    storage: Usd
    traffic_in: Usd
    traffic_out: Usd
    other: Usd = Decimal(0)

    @property
    def usd(self) -> Usd:
        return self.gpu + self.storage + self.traffic_in + self.traffic_out + self.other


@runtime_checkable
class Charges(Protocol):
    """A provider whose bills can be read."""

    async def charges(self, *, since_s: float) -> Sequence[Charge]:
        """What was billed for leases of ours that cost something after ``since_s`` (epoch seconds).

        Raises:
            ProviderError: rather than returning a short list.
        """


@runtime_checkable
class Recalls(Protocol):
    """A provider whose tickets outlive the process: what was paid for can be had later."""

    async def recall(self, ticket: Ticket, *, within_s: float) -> Rendered | None:
        """What an earlier process has submitted and not fetched; None: nothing that can be used.

        What is not finished after ``within_s`` is cancelled: whatever this returns, nothing more
        is paid for the ticket. Works before anything is rented.

        Raises:
            ProviderError: the service did not say.
        """
