"""The key pair with which one batch enters its machines."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import trouble
from nightkiln.machine.once import keep_once, read_bounded

ALGORITHM = "ssh-ed25519"
COMMENT = "nightkiln"  # all that a machine learns of us
_SAFE = re.compile(r"[A-Za-z0-9._-]{1,200}")  # the batch's name becomes a file name


@dataclass(frozen=True, slots=True)
class BatchKeys:
    """An Ed25519 key pair. The private half never leaves this computer, nor any repr."""

    batch: str
    public: str  # one line, as authorized_keys has it
    path: Path
    private: asyncssh.SSHKey = field(repr=False, compare=False)

    @classmethod
    def of(cls, folder: Path, batch: str) -> BatchKeys:
        """The pair of this batch, made if there is none; a later run finds the same. Blocks.

        ``folder`` is private to the user (``<state>/keys``).

        Raises:
            StoreUnusable: the folder cannot be read or written.
        """
        assert _SAFE.fullmatch(batch), "batches are named in letters that file names may have"
        path = folder / batch
        private = _loaded(path)
        if private is None:
            made = asyncssh.generate_private_key(ALGORITHM, comment=COMMENT)
            private = asyncssh.import_private_key(keep_once(path, made.export_private_key()))
        public = private.export_public_key().decode().strip()
        return cls(batch, public, path, private)


def drop_key(folder: Path, batch: str) -> None:
    """Forget the private half, once no machine is entered with it any more. Idempotent. Blocks.

    Raises:
        StoreUnusable: the folder cannot be written.
    """
    _drop(folder / batch)


def _loaded(path: Path) -> asyncssh.SSHKey | None:
    data = read_bounded(path)
    if data is None:
        return None
    try:
        path.chmod(0o600)  # whatever a backup or an umask has made of it
        return asyncssh.import_private_key(data)
    except asyncssh.KeyImportError:
        _drop(path)  # damaged, it opens no machine any more
        return None
    except OSError as error:
        raise StoreUnusable(trouble(error, path)) from error


def _drop(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreUnusable(trouble(error, path)) from error
