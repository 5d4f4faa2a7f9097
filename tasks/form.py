"""What every box of a form is.

Prefect draws a form from the JSON schema, and its server checks parameters against the same: so
patterns, bounds and choices stand in the fields, and what is wrong is refused before a run exists.
A default that is made by a function is not in the schema, and the form would show nothing, so every
default is a literal. A field that may be None is drawn as two tabs, so "not given" is empty or 0.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

TEXT = r"^[^\r\n]*$"  # one line
BLOCK = r"^([a-z0-9][a-z0-9-]*)?$"  # name of a block
ZONE = r"^([A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2})?$"
USD_MAX = 1_000_000
# Where fields stand, whichever class brings them: what, by when, for how much, where, and the rest.
ORDER = (
    *("catalog", "store", "name", "where", "force", "reseed", "nights"),
    *("select", "limit", "overrides", "fresh", "by", "timezone", "budget"),
    *("approve_above_usd", "approve_within_minutes", "unanswered"),
    *("fallback", "late", "at_cap", "trust", "providers", "options", "market"),
    *("on_cancel", "controllers", "s3_block", "vast_block", "modal_block"),
)


def in_order(schema: dict[str, Any]) -> None:
    """Fields stand in the form in one order; those that have no place there, as in their class."""
    fields = schema["properties"]
    last = len(ORDER)
    ranks = {name: ORDER.index(name) if name in ORDER else last for name in fields}
    schema["properties"] = {name: fields[name] for name in sorted(fields, key=ranks.__getitem__)}
    for place, field in enumerate(schema["properties"].values()):
        field["position"] = place


class Form(BaseModel):
    """One box of a form."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=in_order)


class KeyBlocks(Form):
    """What names the keys of those who rent machines out."""

    vast_block: str = Field(
        "",
        pattern=BLOCK,
        title="Key of Vast.ai",
        description="Name of a Secret block with the API key. Empty: VAST_API_KEY, where the flow "
        "runs.",
    )
    modal_block: str = Field(
        "",
        pattern=BLOCK,
        title="Token of Modal",
        description="Name of a Secret block with the token. Empty: MODAL_TOKEN_ID and "
        "MODAL_TOKEN_SECRET, where the flow runs.",
    )
