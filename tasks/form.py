"""What every box of a form is.

Prefect draws a form from the JSON schema, and its server checks parameters against the same: so
patterns, bounds and choices stand in the fields, and what is wrong is refused before a run exists.
A default that is made by a function is not in the schema, and the form would show nothing, so every
default is a literal. A field that may be None is drawn as two tabs, so "not given" is empty or 0.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

TEXT = r"^[^\r\n]*$"  # one line
BLOCK = r"^([a-z0-9][a-z0-9-]*)?$"  # name of a block
ZONE = r"^([A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2})?$"
USD_MAX = 1_000_000
PLACE_STEP = 10


def in_order(schema: dict[str, Any]) -> None:
    """Fields stand in the form as they do in the class, unless one says its own place."""
    for index, field in enumerate(schema["properties"].values()):
        field.setdefault("position", PLACE_STEP * index)


class Form(BaseModel):
    """One box of a form."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=in_order)
