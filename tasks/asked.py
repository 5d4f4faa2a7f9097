"""What the parameters of a flow ask the library for."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime

from nightkiln.catalog import Catalog
from nightkiln.retrying import Retry, retry_of
from nightkiln.settings import Settings
from nightkiln.store.choosing import Wanted
from nightkiln.wiring import Request, batch_name, chosen_catalog
from tasks.catalog_params import CatalogParams
from tasks.names import begun
from tasks.params import RetryParams, RunParams


def catalog_of(params: CatalogParams, settings: Settings) -> Catalog:
    """The catalog, of which only what the parameters choose counts.

    Raises:
        BadInput: it cannot be read.
    """
    return chosen_catalog(
        params.catalog,
        overrides=params.overrides,
        limit=params.limit if params.limit > 0 else None,
        select=params.select or None,
        settings=settings,
    )


def request_of(
    params: RunParams,
    settings: Settings,
    *,
    is_nightly: bool,
    began: datetime | None = None,
) -> Request:
    """One run, as the form asks for it; a night has the date on which its flow run began first.

    ``began``: when that was, for whoever asks about another flow run; None: of this one.

    Raises:
        BadInput: the catalog cannot be read, or the time zone is none.
    """
    request = Request(
        catalog_of(params, settings),
        name=params.name or None,
        is_nightly=is_nightly,
        is_fresh=params.is_fresh,
    )
    if not is_nightly:
        return request
    first = began if began is not None else begun()
    name = batch_name(request, settings, now_s=first.timestamp())
    return replace(request, name=name)


def retry_asked(params: RetryParams, settings: Settings) -> Retry:
    """The jobs of a batch that are to be rendered again.

    Raises:
        BadInput: the catalog cannot be read, the store has no such batch, or the condition is none.
        StoreUnusable: there is no store, or it cannot be read.
    """
    return retry_of(
        request_of(params, settings, is_nightly=False),
        settings,
        Wanted(params.where or None),
        is_reseed=params.reseed,
        is_forced=params.force,
        now_s=time.time(),
    )
