"""What makes two catalogs the same: the part of a batch's identity that they decide."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from nightkiln.catalog.catalog import Catalog, digest_of
from nightkiln.catalog.queries import local_files_in
from nightkiln.catalog.rows import (
    URI,
    filesystem,
    gist,
    parquet_files,
    prompts_label,
    remote_errors,
)
from nightkiln.core.errors import BadInput, Problem


def catalog_digest(catalog: Catalog) -> str:
    """sha256 hex over all that decides which jobs there are: rows, workflow, settings, limit.

    Reads the prompts: local files by content, remote ones by what their store says of them.

    Raises:
        BadInput: the prompts cannot be read.
    """
    rows = {} if catalog.rows is None else {"rows": list(catalog.rows)}
    selected = {} if catalog.select is None else {"select": _asked(catalog, catalog.select)}
    return digest_of(
        {
            "name": catalog.name,
            "template": catalog.template.digest,
            "environment": catalog.environment.digest,
            "inputs": [
                [item.name, item.default, item.is_file, item.seed_rule.value, item.is_constant]
                for item in catalog.inputs
            ],
            "variants": catalog.variants,
            "limit": catalog.limit,
            "prompts": _prompts(catalog),
            **rows,
            **selected,
        }
    )


def _prompts(catalog: Catalog) -> list[Any]:
    sql, path = catalog.prompts.sql, catalog.prompts.path
    try:
        if sql is not None:
            return _asked(catalog, sql)
        assert path is not None, "prompts are a path or a query"
        if (remote := URI.match(path)) is not None:
            return _remote(remote[1], path)
        return [_content(file) for file in parquet_files(catalog.folder, path)]
    except remote_errors() as error:
        where = prompts_label(catalog)
        raise BadInput([Problem(where, f"cannot be read: {gist(error)}")]) from error


def _asked(catalog: Catalog, sql: str) -> list[Any]:
    """A query and the files beside the catalog that it names; what a store answers may change."""
    return [sql, [_content(file) for file in local_files_in(catalog.folder, sql)]]


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remote(scheme: str, uri: str) -> list[Any]:
    source = filesystem(scheme)
    found = [source.info(path) for path in sorted(source.glob(uri))]
    return [[info["name"], info.get("size"), str(info.get("ETag", ""))] for info in found]
