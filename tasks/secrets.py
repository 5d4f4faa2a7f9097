"""Credentials of an object store out of a Prefect block, for the settings of one flow run."""

from __future__ import annotations

import json
from typing import Any

from prefect.blocks.system import Secret

from nightkiln.core.errors import BadInput, Problem

NEEDED = frozenset({"access_key_id", "secret_access_key"})
KNOWN = NEEDED | {"session_token", "endpoint_url", "region"}
HOW = (
    "a Secret block that holds the JSON object "
    '{"access_key_id": ..., "secret_access_key": ...}; docs/how-to/s3.md'
)


async def s3_given(block: str) -> dict[str, str]:
    """What this Secret block sets, by the names of settings; "" sets nothing.

    Handed on as settings alone: never in a parameter, which Prefect stores in clear, and never in
    the environment, where other flow runs of this process, and its children, would find it.

    Raises:
        BadInput: there is no such block, or it holds something else.
    """
    return await _held(block) if block else {}


async def _held(block: str) -> dict[str, str]:
    try:
        found: Any = await Secret.aload(block)  # its type is lost on the way
        held = found.get()
    except ValueError as error:
        raise BadInput([Problem(f"s3_block {block!r}", "there is no such block", HOW)]) from error
    try:
        given = json.loads(held) if isinstance(held, str) else held
    except ValueError:
        given = None
    # Nothing of what it holds is shown, nor chained: it may be a secret all the same.
    wrong = BadInput([Problem(f"s3_block {block!r}", "it holds something else", HOW)])
    if not isinstance(given, dict):
        raise wrong
    there = {name: value for name, value in given.items() if value is not None}
    is_known = NEEDED <= there.keys() <= KNOWN
    if not is_known or not all(isinstance(value, str) for value in there.values()):
        raise wrong
    return {f"s3_{name}": value for name, value in there.items()}
