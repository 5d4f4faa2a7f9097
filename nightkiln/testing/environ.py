"""Variables of this process, for the time being."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def environ(changes: Mapping[str, str], *, without: str = "") -> Iterator[None]:
    """Set these; of those there are, hide what begins with ``without``. All comes back."""
    before = dict(os.environ)
    if without:
        for name in [name for name in os.environ if name.startswith(without)]:
            del os.environ[name]
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
