"""Whether the app on Modal is there and for the right environment, asked before a run begins.

At three in the morning is too late to hear that nothing was deployed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from nightkiln.catalog import Catalog
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.terms import Fallback
from nightkiln.places import MODAL, modal_of, modal_terms, modal_token
from nightkiln.ports.provider import Provider
from nightkiln.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SeenApp:
    """An app as far as it shows itself; ``problem`` says in one line what to do."""

    app: str
    version: int | None = None
    gpus: tuple[str, ...] = ()
    usd_per_hour: Mapping[str, float] | None = None  # of a container, by GPU
    basis: str = ""  # where prices come from
    problem: str | None = None  # nothing can be rendered on it
    is_missing: bool = False  # it is not there, or for something else: not for this catalog
    is_silent: bool = False  # the service did not answer: it may in a minute
    others: tuple[str, ...] = ()  # a run goes on with these, in spite of a problem

    def as_object(self) -> dict[str, Any]:
        """For programs."""
        return {
            "provider": MODAL,
            "app": self.app,
            "version": self.version,
            "gpus": list(self.gpus),
            "usd_per_hour": dict(self.usd_per_hour) if self.usd_per_hour is not None else None,
            "basis": self.basis,
            "problem": self.problem,
        }

    def line(self) -> str:
        """For people."""
        if self.problem is not None and self.others:
            how = "until it answers" if self.is_silent else "without it"
            return f"{self.problem}; the run goes on with {' and '.join(self.others)} {how}"
        if self.problem is not None:
            return self.problem
        prices = self.usd_per_hour if self.usd_per_hour is not None else {}
        told = ", ".join(f"{gpu} {usd:.2f} USD an hour" for gpu, usd in prices.items())
        shown = f"v{self.version}" if self.version is not None else "of unknown version"
        return f"{MODAL}: app {self.app} {shown} is for this environment; {told} ({self.basis})"


async def seen_app(settings: Settings, *, digest: str, is_to_render: bool = False) -> SeenApp:
    """The app, seen without starting a container; raises nothing.

    ``is_to_render``: see also whether its workspace may call anything, which takes credit.
    """
    from nightkiln.providers.modal import Kind, ModalFailed

    terms = modal_terms(settings)
    try:
        async with modal_of(settings, digest=digest) as provider:
            deployed = await provider.ready()
            prices = await provider.todays_prices()
            if is_to_render:
                await provider.may_call()
    except ModalFailed as error:
        missing = error.kind in {Kind.NOT_DEPLOYED, Kind.OTHER_ENVIRONMENT}
        silent = error.is_transient
        return SeenApp(terms.app, problem=str(error), is_missing=missing, is_silent=silent)
    usd = {
        gpu: float(prices.usd_per_s(gpu, cpu=terms.cpu, memory_mib=terms.memory_mib)) * 3600
        for gpu in deployed.gpus
    }
    return SeenApp(terms.app, deployed.version, deployed.gpus, usd, prices.basis)


async def app_there(settings: Settings) -> tuple[str, bool | None]:
    """What app is deployed, in words, and whether there is one; raises nothing.

    None: nobody says.
    """
    from nightkiln.providers.modal import Kind, ModalFailed
    from nightkiln.providers.modal.service import ModalService

    try:
        service = ModalService(*modal_token(settings), modal_terms(settings))
        try:
            seen = await service.seen()
        finally:
            await service.close()
    except ModalFailed as error:
        return str(error), False if error.kind is Kind.NOT_DEPLOYED else None
    built_for = ", ".join(seen.environments) or "nothing that this version knows"
    return f"version {seen.version} is deployed, for environment {built_for}", True


def rented_before(
    found: Mapping[str, Provider],
    used: Mapping[str, Provider],
    settings: Settings,
    catalog: Catalog,
) -> Mapping[str, Provider]:
    """Providers whose results an earlier run may have paid for, though this one rents none there.

    Modal keeps them for days, whether or not its app is there and anything more may be spent on it.
    """
    others = {name: one for name, one in found.items() if name not in used}
    if MODAL not in found and settings.has_modal:
        others[MODAL] = modal_of(settings, digest=catalog.environment.digest)
    return others


async def usable(
    found: Mapping[str, T], settings: Settings, catalog: Catalog
) -> tuple[Mapping[str, T], SeenApp | None]:
    """The providers, by name, without Modal where its app cannot be used; what was seen of it.

    Where it only does not answer now, it stays: a run asks again. Where there is no token it is not
    among the providers, and said to be missing all the same if it was asked for.

    Raises:
        BadInput: it cannot be used, and there is nobody else that may be.
    """
    others = {name: one for name, one in found.items() if name != MODAL}
    is_wanted = MODAL in found or MODAL in settings.providers
    if not is_wanted or (settings.fallback is Fallback.NEVER and others):
        return others, None
    seen = await seen_app(settings, digest=catalog.environment.digest, is_to_render=True)
    if seen.problem is None:
        return found, seen
    if not others or settings.fallback is Fallback.ONLY:
        raise BadInput([Problem("provider", seen.problem)])
    seen = replace(seen, others=tuple(others))
    return (found if seen.is_silent else others), seen
