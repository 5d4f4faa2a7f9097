"""What a file in a store may be called."""

from __future__ import annotations

import re

from nightkiln.core.errors import StoreUnusable

KEY_CHARS_MAX = 900  # an object store takes 1024 bytes, its prefix among them

_PART = r"[A-Za-z0-9_=+@-][A-Za-z0-9._=+@-]{0,199}"
# No part of a key starts with a dot: ``..`` and our own temporary files cannot be named.
_KEY = re.compile(rf"{_PART}(/{_PART})*")


def is_key(text: str) -> bool:
    """Whether ``text`` can be a key."""
    return len(text) <= KEY_CHARS_MAX and _KEY.fullmatch(text) is not None


def check_key(key: str) -> str:
    """``key``, if it can be one.

    Raises:
        StoreUnusable: it could lead out of the store, or no object store would take it.
    """
    if not is_key(key):
        raise StoreUnusable(f"{key[:200]!r} cannot be the name of a file in a store")
    return key
