"""Which providers a run may rent from, made from the settings; secrets go from there to them.

Nothing is asked and nothing is imported for a provider that is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import EntryPoints, entry_points
from typing import TYPE_CHECKING

from pydantic import SecretStr

from nightkiln.catalog import Catalog
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.terms import Fallback
from nightkiln.ports.provider import Inventory, Provider
from nightkiln.providers.local import LocalProvider
from nightkiln.settings import Settings
from nightkiln.traffic import models_gb
from nightkiln.vast_settings import KINDS

if TYPE_CHECKING:  # the service's SDK and SSH take seconds to load
    from nightkiln.machine.goods import Goods
    from nightkiln.providers.modal import ModalProvider, ModalTerms
    from nightkiln.providers.vast import VastProvider, VastTerms

LOCAL, VAST, MODAL = "local", "vast", "modal"
PLUGINS = "nightkiln.providers"  # entry points of packages that bring a provider
GET_A_KEY = "set VAST_API_KEY to a key of your account; docs/how-to/vast.md says which permissions"
GET_TOKENS = (
    "set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET; docs/how-to/modal.md goes through the set-up"
)
HOUR_S = 3600.0


def provider_names(settings: Settings) -> tuple[str, ...]:
    """Names of the providers to use: those asked for, else those that are set up.

    A key alone makes nobody pay: beside workers of one's own, machines are rented only where there
    is a budget for them.

    Raises:
        BadInput: there is none, or there is none of that name, or one is not set up.
    """
    named = tuple(dict.fromkeys(settings.providers))
    known = tuple(dict.fromkeys((LOCAL, VAST, MODAL, *(each.name for each in _plugins()))))
    if unknown := [name for name in named if name not in known]:
        what, fix = f"there is no provider {unknown[0]!r}", f"one of {', '.join(known)}"
        raise BadInput([Problem("--provider", what, fix)])
    if LOCAL in named and not settings.worker_urls:
        fix = "give --worker-url http://127.0.0.1:8188, or set NIGHTKILN_WORKER_URLS"
        raise BadInput([Problem("--provider local", "no worker to render on", fix)])
    if VAST in named and settings.vast_api_key is None:
        raise BadInput([Problem("--provider vast", "there is no API key", GET_A_KEY)])
    if named == (MODAL,) and not settings.has_modal:
        raise BadInput([Problem("--provider modal", "there is no token", GET_TOKENS)])
    if named:  # without its token Modal is left out, which a run says as it begins
        return tuple(name for name in named if name != MODAL or settings.has_modal)
    found = [LOCAL] if settings.worker_urls else []
    if settings.vast_api_key is not None and (settings.budget is not None or not found):
        found.append(VAST)
    if settings.has_modal and settings.budget and settings.fallback is not Fallback.NEVER:
        found.append(MODAL)
    if not found:
        fix = (
            "give --worker-url http://127.0.0.1:8188 or set NIGHTKILN_WORKER_URLS; to rent "
            f"machines, {GET_A_KEY}"
        )
        raise BadInput([Problem("--worker-url", "no worker to render on", fix)])
    return tuple(found)


def providers(settings: Settings, catalog: Catalog | None = None) -> Mapping[str, Provider]:
    """Every provider to use; ``catalog`` says what rented machines are given.

    Raises:
        BadInput: as ``provider_names`` does, or no rented machine can get what the catalog asks.
    """
    return {name: _made(name, settings, catalog) for name in provider_names(settings)}


def _made(name: str, settings: Settings, catalog: Catalog | None) -> Provider:
    if name == LOCAL:
        urls = settings.worker_urls
        return LocalProvider(urls, startup_s=settings.startup_s, stall_s=settings.stall_s)
    if name == VAST:
        return _vast(settings, vast_terms(settings), catalog)
    if name == MODAL:
        assert catalog is not None, "containers are built for a catalog"
        return modal_of(settings, digest=catalog.environment.digest)
    return _plugged_in(name)


def _plugins() -> EntryPoints:
    return entry_points(group=PLUGINS)


def plugged_in(settings: Settings) -> tuple[str, ...]:
    """Those asked for by name that another package brings."""
    known = {each.name for each in _plugins()} - {LOCAL, VAST, MODAL}
    return tuple(name for name in dict.fromkeys(settings.providers) if name in known)


def brought_along(settings: Settings) -> Mapping[str, Provider]:
    """The providers of ``plugged_in``."""
    return {name: _plugged_in(name) for name in plugged_in(settings)}


def _plugged_in(name: str) -> Provider:
    """A provider that another package brings; it takes its settings from wherever it likes."""
    [entry] = list(_plugins().select(name=name))[:1]
    made: Provider = entry.load()()
    return made


def that_bill(settings: Settings, *, list_s: float | None = None) -> Mapping[str, Provider]:
    """Every provider that is set up and can say what it bills, whatever a run would use.

    Without a key there is none, which is no error here. ``list_s``: how long a listing may take,
    with repeats; None: as long as a run waits.
    """
    others = {name: _plugged_in(name) for name in plugged_in(settings)}
    found: dict[str, Provider] = {
        name: it for name, it in others.items() if it.bills and isinstance(it, Inventory)
    }
    if settings.vast_api_key is not None:
        terms = vast_terms(settings)
        if list_s is not None:
            terms = replace(terms, limits=replace(terms.limits, list_s=list_s))
        found[VAST] = _vast(settings, terms, None)
    if settings.has_modal:
        found[MODAL] = modal_of(settings, digest="")
    return found


def modal_of(settings: Settings, *, digest: str) -> ModalProvider:
    """Modal's slots for an environment; without one only what was left there can be ended."""
    from nightkiln.providers.modal import ModalProvider

    return ModalProvider(
        *modal_token(settings), modal_terms(settings), state=settings.state_folder, digest=digest
    )


def modal_token(settings: Settings) -> tuple[str, str]:
    """The token's two halves; both empty: there is none."""
    halves = (settings.modal_token_id, settings.modal_token_secret)
    if not settings.has_modal:
        return ("", "")
    first, second = (half.get_secret_value() if half is not None else "" for half in halves)
    return (first, second)


def modal_terms(settings: Settings) -> ModalTerms:
    """How the app is built and used, as it is set."""
    from nightkiln.providers.modal import ModalTerms

    return ModalTerms(
        app=settings.modal_app,
        environment_name=settings.modal_environment,
        gpus=settings.modal_gpus,
        cpu=settings.modal_cpu,
        memory_mib=round(settings.modal_memory_gib * 1024),
        timeout_s=settings.modal_timeout_s,
        startup_timeout_s=settings.modal_startup_timeout_s,
        scaledown_s=settings.modal_scaledown_s,
        max_containers=settings.modal_max_containers,
        snapshot=settings.modal_snapshot,
        volume=settings.modal_volume,
        result_bytes_max=settings.modal_result_mb_max * 2**20,
        fleet=settings.fleet,
    )


def _vast(settings: Settings, terms: VastTerms, catalog: Catalog | None) -> VastProvider:
    from nightkiln.providers.vast import VastProvider

    assert settings.vast_api_key is not None, "chosen only where there is one"
    return VastProvider(
        settings.vast_api_key.get_secret_value(),
        terms,
        state=settings.state_folder,
        goods=goods_of(settings, catalog) if catalog is not None else None,
        models_gb=models_gb(catalog) if catalog is not None else 0.0,
    )


def vast_terms(settings: Settings) -> VastTerms:
    """What may be rented at Vast.ai, as it is set."""
    from nightkiln.providers.vast import VastTerms

    usual = VastTerms()
    return VastTerms(
        url=settings.vast_url,
        fleet=settings.fleet,
        kinds=tuple(KINDS[name] for name in settings.vast_kinds),
        usd_per_hour_max=float(settings.vast_usd_per_hour_max),
        bid_premium=settings.vast_bid_premium,
        image=settings.vast_image,
        image_gb=settings.image_gb if settings.image_gb is not None else usual.image_gb,
        launch=settings.vast_launch or None,
        comfy_folder=settings.vast_comfy_folder or None,
        is_verified=settings.vast_is_verified,
        reliability_min=settings.vast_reliability_min,
        mbps_down_min=settings.vast_mbps_down_min,
        mbps_up_min=settings.vast_mbps_up_min,
        disk_mb_per_s_min=settings.vast_disk_mb_per_s_min,
        direct_ports_min=settings.vast_direct_ports_min,
        cuda_min=settings.vast_cuda_min,
        compute_cap_min=settings.vast_compute_cap_min,
        duration_s_min=settings.vast_duration_h_min * HOUR_S,
        usd_per_gb_max=float(settings.vast_usd_per_gb_max),
        gpus=settings.vast_gpus,
        regions=settings.vast_regions,
        regions_not=settings.vast_regions_not,
        machines_not=settings.vast_machines_not,
        stall_s=settings.stall_s,
        deadman_s=settings.deadman_s,
    )


def goods_of(settings: Settings, catalog: Catalog) -> Goods:
    """What every machine is given; tokens stay here and sign addresses. Blocks.

    Raises:
        BadInput: no machine can be given it, which needs no asking to be known.
    """
    from nightkiln.machine.goods import Goods, Token
    from nightkiln.machine.scripts import provision_program

    hosts = (
        ("huggingface.co", "HF_TOKEN", settings.hf_token),
        ("civitai.com", "CIVITAI_TOKEN", settings.civitai_token),
    )
    tokens = [
        Token(host, variable, token.get_secret_value())
        for host, variable, token in hosts
        if isinstance(token, SecretStr)
    ]
    models = catalog.environment.models
    files = {model.path: model.file for model in models if model.file is not None}
    program = provision_program()
    return Goods.of(catalog.environment, program=program, files=files, tokens=tuple(tokens))
