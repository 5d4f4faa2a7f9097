"""``nightkiln quote``: what a batch will cost and when it will be done, before it is paid for."""

from __future__ import annotations

import json

import typer
from rich.console import Console

from nightkiln.cli.options import (
    BudgetOption,
    ByOption,
    CatalogArgument,
    FallbackOption,
    JsonOption,
    LimitOption,
    ProviderOption,
    SetOption,
    StoreOption,
    parsed_overrides,
)
from nightkiln.cli.rehearsing import MarketOption
from nightkiln.rehearse.answer import answer
from nightkiln.settings import load_settings
from nightkiln.wiring import chosen_catalog, month_now


def quote(
    catalog: CatalogArgument,
    *,
    by: ByOption = None,
    budget: BudgetOption = None,
    fallback: FallbackOption = None,
    market: MarketOption = "ordinary",
    provider: ProviderOption = None,
    store: StoreOption = None,
    limit: LimitOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a batch will cost and when it will be done; 20 seconds at most, for any size.

    A short rehearsal: few nights, and many jobs played as one. Prices and machines are those of a
    market file, not of today's offers; how long a job takes, too, until a run or `nightkiln try`
    has measured this workflow in the same store. Nothing is rented.

    Where a run with the same settings would rent at Vast.ai, its account and the hosts of private
    models are asked first, as such a run does: the worst case is told, all prepaid credit. Where it
    would use Modal, its app is looked for; what cannot be had is not counted on.

    Example: nightkiln quote catalogs/parti --by 07:00 --budget 12

    Exit codes: 0 quoted, also when it does not fit, and then it says what would; 2 bad input, or
    nothing could be rented.
    """
    settings = load_settings(
        store=store, providers=provider, by=by, budget=budget, fallback=fallback
    )
    chosen = chosen_catalog(
        catalog, overrides=parsed_overrides(overrides), limit=limit, settings=settings
    )
    found = answer(chosen, settings, market=market, month=month_now(settings))
    if as_json:
        typer.echo(json.dumps(found.as_object()))
        return
    console = Console(soft_wrap=True, highlight=False)
    facts = (f"  {name:9} {said}" for name, said in found.facts())
    for line in (found.head(), *facts, *found.advice()):
        console.print(line, markup=False)
