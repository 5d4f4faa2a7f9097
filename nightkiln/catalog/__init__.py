"""Catalogs: a folder with catalog.yaml, prompts and a ComfyUI workflow."""

from __future__ import annotations

from nightkiln.catalog.again import reseed_jobs
from nightkiln.catalog.catalog import Catalog, CatalogInput, Environment, ModelFile, Past, Prompts
from nightkiln.catalog.checks import check
from nightkiln.catalog.columns import Planned, plan_jobs
from nightkiln.catalog.definitions import definitions_for, fetch_definitions
from nightkiln.catalog.identity import catalog_digest
from nightkiln.catalog.jobs import PLANNED, stream_jobs
from nightkiln.catalog.reading import load_catalog, read_catalog
from nightkiln.catalog.rows import count_rows, load_rows, scratch
from nightkiln.catalog.sharing import count_shares, keep_share
from nightkiln.catalog.spread import spread

__all__ = [
    "PLANNED",
    "Catalog",
    "CatalogInput",
    "Environment",
    "ModelFile",
    "Past",
    "Planned",
    "Prompts",
    "catalog_digest",
    "check",
    "count_rows",
    "count_shares",
    "definitions_for",
    "fetch_definitions",
    "keep_share",
    "load_catalog",
    "load_rows",
    "plan_jobs",
    "read_catalog",
    "reseed_jobs",
    "scratch",
    "spread",
    "stream_jobs",
]
