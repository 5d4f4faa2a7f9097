"""What the service answers, and how it says no."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: text goes out as plain text, everything else as JSON."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""  # by itself: what the body is

    @property
    def content(self) -> bytes:
        text = self.body if isinstance(self.body, str) else json.dumps(self.body, default=_plain)
        return text.encode()

    @property
    def type(self) -> str:
        ordinary = "text/plain" if isinstance(self.body, str) else "application/json"
        return self.content_type or ordinary


class Refused(Exception):
    """The service says no."""

    def __init__(self, status: int, error: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.reply = Reply({"success": False, "error": error, "msg": message, **more}, status)


def succeeded(**more: Any) -> Reply:
    """What most calls answer."""
    return Reply({"success": True, **more})


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{type(value).__name__} in an answer")
