"""Small private files that are written once and agreed on by every process that asks."""

from __future__ import annotations

import os
from pathlib import Path
from secrets import token_hex

from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import OsDisk, private_folder, trouble, write_all

BYTES_MAX = 64 * 1024


def keep_once(path: Path, data: bytes) -> bytes:
    """Write ``data`` (0600) unless there is something already; what is there now, durable.

    Of several that write at the same time, one wins and all are told the same. Blocks.

    Raises:
        StoreUnusable: the folder cannot be read or written.
    """
    draft = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        private_folder(path.parent, OsDisk())
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_all(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return read_bounded(path) or data
        finally:
            draft.unlink()
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreUnusable(trouble(error, path)) from error
    return data


def read_bounded(path: Path) -> bytes | None:
    """What the file holds, at most ``BYTES_MAX`` of it; None: there is none. Blocks.

    Raises:
        StoreUnusable: it is there and cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(BYTES_MAX)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreUnusable(trouble(error, path)) from error


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
