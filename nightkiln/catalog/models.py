"""Models that lie on this computer, and whether a rented disk can hold all that a catalog needs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from math import ceil
from pathlib import Path

from nightkiln.catalog.catalog import CATALOG_FILE, Catalog, ModelFile
from nightkiln.core.errors import Problem

SENT_BYTES_MAX = 2 * 10**9  # to each machine, from here: a LoRA, not a checkpoint
BYTES_PER_GB = 1e9
DISK_SPARE_GB = 4.0  # of a rented disk: ComfyUI's own files, packages of custom nodes, results
READ_AT_ONCE = 2**20  # bytes
FILES_REMEMBERED = 64  # digests kept while the process lives: a catalog is read more than once
UPLOAD_FIX = "put it where machines can download it, and give its url"


def local_model(model: ModelFile, path: Path, *, where: str) -> ModelFile | Problem:
    """A model with the size and the digest of the file here that it is; or what is wrong with it.

    Reads all of it, once while the process lives.
    """
    try:
        path = path.resolve(strict=True)
        facts = path.stat()
        if not path.is_file():
            return Problem(where, f"{path} is no file", "give the path of a model file")
        if facts.st_size > SENT_BYTES_MAX or facts.st_size == 0:
            most = f"{SENT_BYTES_MAX / BYTES_PER_GB:g} GB"
            what = f"{path.name} has {facts.st_size / BYTES_PER_GB:.2f} GB; up to {most} are sent"
            return Problem(where, what, UPLOAD_FIX)
        found = _sha256(path, facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror or error}"
        return Problem(where, what, "a path is relative to the catalog's folder")
    if model.sha256 not in {None, found}:
        what = f"{path.name} has another sha256 than the catalog says: {found}"
        return Problem(where, what, "correct sha256, or leave it out: it is worked out")
    return replace(model, sha256=found, gb=facts.st_size / BYTES_PER_GB, file=path)


@lru_cache(FILES_REMEMBERED)
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    """Of a file's content; size and time of change say that it is still the same file."""
    del size, changed_ns
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(READ_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def disk_problems(catalog: Catalog) -> Iterator[Problem]:
    """A disk that is too small for the models costs money on every machine, and renders nothing.

    Of models whose size nobody says, nothing is known here.
    """
    disk_gb = catalog.need.disk_gb
    models_gb = sum(model.gb or 0.0 for model in catalog.environment.models)
    if disk_gb is not None and disk_gb < models_gb + DISK_SPARE_GB:
        what = (
            f"{disk_gb:g} GB cannot hold {models_gb:.1f} GB of models and {DISK_SPARE_GB:g} GB "
            "for everything else"
        )
        fix = f"at least {ceil(models_gb + DISK_SPARE_GB)}, or auto"
        yield Problem(f"{CATALOG_FILE}: needs.disk_gb", what, fix)
