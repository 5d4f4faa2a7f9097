"""Folders that last as long as a command, and do not outlive a killed one for long.

Whoever makes one holds a lock in it, which the system takes away when the process ends, however it
ends. A folder whose lock is free belongs to nobody any more and is removed by the next one to come.
Process ids would not do: containers that share a disk do not share them, and they come again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import trouble

PREFIX = "nightkiln-"
LOCK = "nightkiln-temporary.lock"
SEEN_MAX = 10_000  # names looked at in search of what killed runs have left


@contextmanager
def temporary_folder(parent: Path | None = None, *, prefix: str = PREFIX) -> Iterator[Path]:
    """A new folder in ``parent`` (else where the system has such), gone when the context ends.

    Raises:
        StoreUnusable: it cannot be made.
    """
    try:
        place = parent if parent is not None else Path(tempfile.gettempdir())
    except OSError as error:
        raise StoreUnusable(f"{error.strerror}; set TMPDIR to a folder with room") from error
    try:
        sweep(place, prefix=prefix)
        made = tempfile.TemporaryDirectory(prefix=prefix, dir=place)
    except OSError as error:
        raise StoreUnusable(trouble(error, place)) from error
    with contextlib.ExitStack() as stack, made as name:
        _hold(Path(name), stack)
        yield Path(name)


def sweep(place: Path, *, prefix: str = PREFIX) -> int:
    """Remove folders in ``place`` whose makers are gone; how many."""
    name = re.compile(re.escape(prefix) + "[a-z0-9_]{8}")  # as tempfile makes them
    swept = 0
    with os.scandir(place) as entries:
        for entry in islice(entries, SEEN_MAX):
            if name.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                swept += _swept(Path(entry.path))
    return swept


def _hold(folder: Path, stack: contextlib.ExitStack) -> None:
    """Lock ``folder`` until the stack ends; without locks it is never taken for a leftover."""
    making = folder / (LOCK + ".new")
    with contextlib.suppress(OSError):
        file = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, file)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Only now may it be found: until it is held it would look like a leftover.
        making.rename(folder / LOCK)


def _swept(folder: Path) -> bool:
    try:
        file = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False  # not one of these, or not ours to touch
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return False  # its maker lives
    finally:
        os.close(file)
    return True
