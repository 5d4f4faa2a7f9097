"""The seam between nightkiln and any place that rents out GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol, Self

from nightkiln.core.model import Lease, LeaseId, Need, Offer
from nightkiln.ports.worker import Worker


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
