"""Where node definitions come from: a worker, a saved copy, or those shipped with the package."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from nightkiln.catalog.catalog import Catalog
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.specs import Definitions
from nightkiln.nodes import compact, stock_definitions

SAVED_FILE = "nodes.json"  # beside catalog.yaml: taken without being asked for
OBJECT_INFO_BYTES_MAX = 64 * 2**20  # a worker with hundreds of custom nodes sends a few MB
TIMEOUT_S = 60.0  # a first call makes a worker look through all its model folders


def definitions_for(
    catalog: Catalog, *, worker_url: str | None = None, saved: Path | None = None
) -> Definitions:
    """The definitions to check a catalog against.

    Those of ``worker_url``, else of ``saved``, else of a nodes.json beside catalog.yaml, else
    the stock ones.

    Raises:
        BadInput: the worker does not answer with definitions, or the file holds none.
    """
    beside = catalog.folder / SAVED_FILE
    models = tuple(model.path for model in catalog.environment.models)
    custom = tuple(repo for repo, _ in catalog.environment.custom_nodes)
    if worker_url is not None:
        nodes, source = fetch_definitions(worker_url), f"the nodes of {worker_url}"
    elif saved is not None or beside.is_file():
        path = saved if saved is not None else beside
        nodes, source = read_definitions(path), f"the nodes in {path}"
    else:
        return Definitions(
            stock_definitions(),
            "the stock nodes",
            is_stock=True,
            models=models,
            custom_nodes=custom,
        )
    return Definitions(nodes, source, models=models, custom_nodes=custom)


def read_definitions(path: Path) -> dict[str, Any]:
    """The definitions in a file, compact or as a worker sent them.

    Raises:
        BadInput: there are none.
    """
    fix = "nightkiln object-info save --worker-url URL writes such a file"
    try:
        if path.stat().st_size > OBJECT_INFO_BYTES_MAX:
            raise BadInput([Problem(str(path), "is too large for node definitions", fix)])
        return _definitions(path.read_bytes(), where=str(path), fix=fix)
    except OSError as error:
        raise BadInput([Problem(str(path), f"cannot be read: {error.strerror}", fix)]) from error


def fetch_definitions(worker_url: str) -> dict[str, Any]:
    """What a running ComfyUI says of its nodes, reduced to the facts.

    Raises:
        BadInput: it does not answer, or with something else.
    """
    fix = "is ComfyUI running there?"
    try:
        with (
            httpx.Client(timeout=TIMEOUT_S, verify=_trusted()) as client,
            client.stream("GET", worker_url.rstrip("/") + "/object_info") as reply,
        ):
            reply.raise_for_status()
            body = bytearray()
            for chunk in reply.iter_bytes():
                body += chunk
                if len(body) > OBJECT_INFO_BYTES_MAX:
                    raise BadInput([Problem(worker_url, "its /object_info does not end", fix)])
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        what = f"did not tell its nodes: {error or type(error).__name__}"
        raise BadInput([Problem(worker_url, what, fix)]) from error
    return _definitions(bytes(body), where=f"{worker_url}/object_info", fix=fix)


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates of this system: to read them takes longer than a worker takes to answer."""
    return httpx.create_ssl_context()


def _definitions(body: bytes, *, where: str, fix: str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadInput([Problem(where, f"not JSON: {error}", fix)]) from error
    nodes = compact(found) if isinstance(found, Mapping) else {}
    if not nodes:
        raise BadInput([Problem(where, "holds no node definitions", fix)])
    return nodes
