"""Where a page finds the file under a key of the store."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote, urlsplit

from nightkiln.blobs import check_key

Link: TypeAlias = Callable[[str], str]  # a key of the store -> an address for the page


def relative_link(root: Path, folder: Path) -> Link:
    """From a page in ``folder`` to the files of a store in ``root``: both can move together."""
    way = quote(Path(os.path.relpath(root.absolute(), folder.absolute())).as_posix())

    def link(key: str) -> str:
        return f"{way}/{quote(check_key(key))}"

    return link


def origin_of(address: str) -> str | None:
    """What a Content-Security-Policy has to name for ``address``; None for a relative one."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else None
