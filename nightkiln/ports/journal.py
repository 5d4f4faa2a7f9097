"""What a run did that no store shows yet, in durable lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Journal(Protocol):
    """Append-only; a line is durable when ``append`` returns."""

    async def append(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Write one line ``{"kind": kind, **fields}`` (JSON) and wait until it is on disk."""

    async def close(self) -> None:
        """Flush and let go of the file. Idempotent."""
