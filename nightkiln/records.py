"""Small JSON records, a file each: durable, whole, their owner's only. Everything blocks."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import Disk, private_folder, trouble

RECORD_BYTES_MAX = 64 * 1024


def keep(path: Path, value: Any, disk: Disk) -> None:
    """Durable when this returns; whoever reads meanwhile finds the old record or the new one.

    Raises:
        StoreUnusable: it cannot be written.
    """
    draft = path.with_suffix(".new")
    try:
        private_folder(path.parent, disk)
        draft.unlink(missing_ok=True)  # of a process that died
        disk.write(draft, json.dumps(value, sort_keys=True).encode())
        disk.sync(draft)
        disk.replace(draft, path)
        disk.sync_folder(path.parent)
    except OSError as error:
        raise StoreUnusable(trouble(error, path)) from error


def drop(path: Path, disk: Disk) -> None:
    """No record, whether or not there was one.

    Raises:
        StoreUnusable: it cannot be removed.
    """
    try:
        with suppress(FileNotFoundError):
            disk.unlink(path)
    except OSError as error:
        raise StoreUnusable(trouble(error, path)) from error


def records_in(folder: Path) -> list[Path]:
    """The files of all records, sorted.

    Raises:
        StoreUnusable: the folder cannot be read.
    """
    try:
        return sorted(folder.glob("*.json"))
    except OSError as error:
        raise StoreUnusable(trouble(error, folder)) from error


def read(path: Path) -> Any:
    """What a record holds; None: it is not there, damaged, or too large to be one.

    Raises:
        StoreUnusable: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return json.loads(file.read(RECORD_BYTES_MAX + 1))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    except OSError as error:
        raise StoreUnusable(trouble(error, path)) from error
