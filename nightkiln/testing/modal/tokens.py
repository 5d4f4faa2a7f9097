"""Tokens that the SDK reads something out of; nobody signs or checks them here."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

_PADDING = "=" * 3  # more than enough; the surplus is ignored


def token(index: int) -> str:
    """What the SDK reads the index of an input out of, in the form of a JSON web token."""
    parts = ({"alg": "none", "typ": "JWT"}, {"idx": index})
    return ".".join([*(urlsafe_b64encode(json.dumps(one).encode()).decode() for one in parts), "x"])


def index_in(text: str) -> int:
    """The index that was put into a token."""
    _, payload, _ = text.split(".")
    return int(json.loads(urlsafe_b64decode(payload + _PADDING))["idx"])
