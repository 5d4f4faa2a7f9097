"""``nightkiln doctor``: what is here, what is missing, what to do about it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import duckdb
import httpx
import typer
from rich.console import Console

from nightkiln import __version__
from nightkiln import comfy_answers as answers
from nightkiln.blobs.s3_place import SCHEME
from nightkiln.catalog import load_catalog, plan_jobs, scratch
from nightkiln.cli.findings import Finding
from nightkiln.cli.options import (
    BudgetOption,
    JsonOption,
    StoreOption,
    UploadOption,
    WorkerUrlOption,
)
from nightkiln.cli.rented import rented
from nightkiln.core.errors import BadInput, NightkilnError
from nightkiln.core.monthly import FIX
from nightkiln.night import ALL_DONE, BAD_INPUT
from nightkiln.settings import Settings, load_settings
from nightkiln.store.store import Store
from nightkiln.wiring import month_now, open_store

PACKAGES = ("duckdb", "pyarrow", "httpx", "prefect", "vastai", "modal", "s3fs")
KEYS = ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "AWS_ACCESS_KEY_ID")
IMAGE_BYTES = 2_000_000  # a 1024 x 1024 PNG of a photograph-like image, with its metadata
ANSWER_S_MAX = 5.0
WAY_BYTES_MIN = 1_000_000_000  # for files on their way to an object store, and journals
CLOCK_EARLIEST_S = 1_767_225_600.0  # 2026-01-01: a clock before that is not set


def doctor(
    catalog: Annotated[
        Path | None,
        typer.Argument(metavar="CATALOG", help="Compare the free space with what this one needs."),
    ] = None,
    *,
    store: StoreOption = None,
    worker_url: WorkerUrlOption = None,
    budget: BudgetOption = None,
    upload: UploadOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at versions, store, money, free space, workers, rented machines, keys and the clock.

    Each line is ok, bad with what to do about it, or without a mark where neither applies. A store
    that is not there yet is made; one in an object store is tried: it must refuse to create what is
    there and, with --upload direct, what has another SHA-256 than was signed. A worker has 5
    seconds to answer. With a key of Vast.ai (never shown), its account is asked for credit and
    permissions: all prepaid credit is the worst case, and more than twice the budget is a needless
    one. With a token of Modal, its app is looked for, and with CATALOG, whether it was built for
    that; no container is started.

    Example: nightkiln doctor catalogs/parti --worker-url http://127.0.0.1:8188 --store results

    Exit codes: 0 nothing is bad, 2 something is.
    """
    settings = load_settings(store=store, worker_urls=worker_url, budget=budget, upload=upload)
    findings = [
        *_versions(),
        *_store(settings, catalog),
        *_month(settings),
        *_workers(settings),
        *rented(settings, digest=_digest(catalog)),
        *_keys(),
        _clock(time.time()),
    ]
    console = Console(soft_wrap=True, highlight=False)
    for finding in findings:
        if as_json:
            typer.echo(json.dumps(asdict(finding)))
            continue
        mark = {True: "[green]ok[/green]  ", False: "[red]bad[/red] ", None: "    "}
        console.print(mark[finding.is_good], end="")
        console.print(f"{finding.what}: {finding.said}", markup=False)
        if finding.is_good is False and finding.fix:
            console.print(f"       {finding.fix}", markup=False)
    is_ill = any(finding.is_good is False for finding in findings)
    raise typer.Exit(BAD_INPUT if is_ill else ALL_DONE)


def _versions() -> Iterator[Finding]:
    yield Finding("nightkiln", None, f"{__version__} on Python {platform.python_version()}")
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    yield Finding("packages", None, ", ".join(found))


def _store(settings: Settings, catalog: Path | None) -> Iterator[Finding]:
    try:
        store = open_store(settings, create=True)
        store.prepare(now_s=time.time(), is_direct=settings.is_direct)
    except NightkilnError as error:
        # What is wrong with an object store, its own words say.
        is_far = settings.store.startswith(SCHEME)
        fix = "" if is_far else "choose another place with --store, or make this one writable"
        yield Finding("store", False, str(error), fix)
        return
    yield Finding("store", True, f"{store.uri} is writable, and what is created is created once")
    if settings.is_direct:
        yield Finding("direct upload", True, "it takes what was signed, and refuses other bytes")
        if settings.has_modal:
            yield _forms(store)
    yield _room(store, catalog)


def _forms(store: Store) -> Finding:
    """Whether containers on Modal can bring results, too; else they come through here."""
    assert store.uploads is not None, "it was prepared for that"
    try:
        why_not = store.uploads.form_objection()
    except NightkilnError as error:
        why_not = str(error)
    said = f"its results come through this computer: {why_not}" if why_not else "it takes forms"
    return Finding("direct upload from Modal", None if why_not else True, said)


def _month(settings: Settings) -> Iterator[Finding]:
    """What of the month's money is left, where there is a limit."""
    try:
        month = month_now(settings)
    except NightkilnError as error:
        yield Finding("month", False, str(error), "without it no night begins that costs money")
        return
    if month is not None:
        yield Finding("month", month.left > 0, month.told(), FIX)


def _room(store: Store, catalog: Path | None) -> Finding:
    """Room for the results where they lie, or pass through on their way to an object store."""
    free = shutil.disk_usage(store.staging).free
    if store.is_remote:
        said = f"{free / 1e9:.1f} GB free at {store.staging} for what is on its way to the store"
        fix = f"free some there; {WAY_BYTES_MIN / 1e9:.0f} GB are enough for any batch"
        return Finding("free space", free >= WAY_BYTES_MIN, said, fix)
    need, why = _need_bytes(catalog)
    fix = f"free {(need - free) / 1e9:.1f} GB, or render fewer rows with --limit"
    return Finding("free space", free >= need, f"{free / 1e9:.1f} GB free{why}", fix)


def _need_bytes(catalog: Path | None) -> tuple[int, str]:
    """What a batch of this catalog will take, were every job one large image."""
    if catalog is None:
        return 0, ""
    try:
        loaded = load_catalog(catalog)
        with scratch() as con:
            jobs = plan_jobs(con, loaded, batch="doctor").jobs
    except (BadInput, duckdb.Error) as error:
        return 0, f"; the need of {catalog} cannot be told: {error}"
    need = jobs * IMAGE_BYTES
    return need, f", {need / 1e9:.1f} GB for {jobs} jobs at {IMAGE_BYTES / 1e6:.0f} MB each"


def _digest(catalog: Path | None) -> str | None:
    """Of the environment that a catalog asks for; what is wrong with it is told elsewhere."""
    if catalog is None:
        return None
    try:
        return load_catalog(catalog).environment.digest
    except BadInput:
        return None


def _workers(settings: Settings) -> Iterator[Finding]:
    if not settings.worker_urls:
        yield Finding("workers", None, "none given (--worker-url)")
    for url in settings.worker_urls:
        address = url if "://" in url else f"http://{url}"
        try:
            sent_s = time.time()
            answer = httpx.get(f"{address}/system_stats", timeout=ANSWER_S_MAX, trust_env=False)
            gpu = answers.gpu_name(answer.json()) if answer.is_success else None
            took_ms = 1000 * (time.time() - sent_s)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            yield Finding(f"worker {url}", False, repr(error), "is ComfyUI running there?")
            continue
        said = f"{gpu}, answers in {took_ms:.0f} ms" if gpu else f"HTTP {answer.status_code}"
        yield Finding(f"worker {url}", gpu is not None, said, "this is no ComfyUI")


def _keys() -> Iterator[Finding]:
    for name in KEYS:
        yield Finding(name, None, "present" if os.environ.get(name) else "not set")


def _clock(now_s: float) -> Finding:
    is_set = now_s >= CLOCK_EARLIEST_S
    said = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    return Finding("clock", is_set, said, "set the machine's clock; dates name nightly batches")
