"""Fills the volume of models: each file under its own checksum, and only if it has that one."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from workers.modal_plan import place_of

CHUNK_BYTES = 4 * 1024 * 1024
SILENCE_S_MAX = 60.0
TRIES_MAX = 6
PAUSE_S = 2.0  # doubled with each try
WORTH_REPEATING = frozenset({408, 425, 429, 500, 502, 503, 504})


class Unfit(Exception):
    """A model cannot be had, or is not what the catalog says."""


def fill(root: Path, models: list[dict[str, Any]], *, pause_s: float = PAUSE_S) -> list[str]:
    """Have every model in the volume; what was fetched for that, by path.

    Each has ``path``, ``sha256`` or None, ``url``, and ``address``, where it is to be had now: the
    url, or a signed one. A file gets its name only when it is whole and right.

    Raises:
        Unfit: one of them is not to be had as it should be.
    """
    fetched = []
    for model in models:
        final = root / place_of(model["path"], model["sha256"], model["url"])
        if not final.is_file():
            final.parent.mkdir(parents=True, exist_ok=True)
            _fetch(model, final, pause_s)
            fetched.append(model["path"])
    return fetched


def _fetch(model: dict[str, Any], final: Path, pause_s: float) -> None:
    part = final.with_name(final.name + ".part")
    for tries in range(TRIES_MAX):
        if tries:
            time.sleep(pause_s * 2 ** (tries - 1))
        try:
            found = _download(model["address"], part)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in WORTH_REPEATING:
                said = f"{model['path']} cannot be had: HTTP {error.code}"
                raise Unfit(said) from None  # its message may hold a signed address
            continue
        except (OSError, http.client.HTTPException):
            continue
        if model["sha256"] not in {None, found}:
            part.unlink()
            raise Unfit(f"{model['path']} has sha256 {found}, not that of the catalog")
        part.replace(final)
        return
    raise Unfit(f"{model['path']} did not come whole in {TRIES_MAX} tries")


def _download(url: str, part: Path) -> str:
    """Write a file anew; its sha256."""
    if not url.startswith(("https://", "http://")):
        raise Unfit("the address of a model is not one of the web")
    digest, size = hashlib.sha256(), 0
    request = urllib.request.Request(url, headers={"User-Agent": "nightkiln"})  # noqa: S310
    with (
        urllib.request.urlopen(request, timeout=SILENCE_S_MAX) as reply,  # noqa: S310
        part.open("wb") as file,
    ):
        length = reply.headers.get("Content-Length")
        while chunk := reply.read(CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    if length is not None and size != int(length):
        raise http.client.IncompleteRead(b"", int(length) - size)
    return digest.hexdigest()
