"""What ``nightkiln doctor`` says of one thing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; ``is_good`` None where it is neither good nor bad."""

    what: str
    is_good: bool | None
    said: str
    fix: str = ""
