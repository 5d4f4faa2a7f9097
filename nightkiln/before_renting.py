"""What is looked at before any money is spent: the account, and what machines are to be given."""

from __future__ import annotations

import asyncio

from nightkiln.catalog import Catalog
from nightkiln.core.errors import BadInput, Problem
from nightkiln.credit import SeenAccount, check_account, seen_account
from nightkiln.dispatch import tell
from nightkiln.places import goods_of
from nightkiln.ports.observer import Observer
from nightkiln.settings import Settings

MODELS_S_MAX = 60.0  # for the hosts of private models to say where the files are


async def ready_to_rent(settings: Settings, catalog: Catalog, *, has_others: bool) -> SeenAccount:
    """See that machines can be rented for a catalog; the account that will pay for them.

    ``has_others``: there are workers beside rented machines.

    Raises:
        BadInput: the account cannot be used, or no machine can be given one of the models.
    """
    seen = await seen_account(settings)
    check_account(seen, has_others=has_others)
    await _check_models(settings, catalog)
    return seen


async def _check_models(settings: Settings, catalog: Catalog) -> None:
    """Ask for every private model as a machine would need it: a refusal costs nothing here."""
    from nightkiln.machine.signed import refusals

    goods = await asyncio.to_thread(goods_of, settings, catalog)
    try:
        async with asyncio.timeout(MODELS_S_MAX):
            problems = await refusals(goods)
    except TimeoutError:
        what = f"the hosts of private models did not answer in {MODELS_S_MAX:.0f} s"
        problems = [Problem("environment.models", what, "try again later")]
    if problems:
        raise BadInput(problems)


async def look_ahead(
    catalog: Catalog, settings: Settings, observer: Observer, *, has_others: bool
) -> None:
    """See, before anything is started, that machines can be rented, and tell the worst case."""
    seen = await ready_to_rent(settings, catalog, has_others=has_others)
    told = "\n".join(seen.lines(settings.budget))
    await tell(observer, "account", {"told": told, **seen.as_object()})
