"""Credentials of an object store out of a Prefect block, for as long as a flow run needs them."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from prefect.blocks.system import Secret

from nightkiln.core.errors import BadInput, Problem

NEEDED = frozenset({"access_key_id", "secret_access_key"})
KNOWN = NEEDED | {"session_token", "endpoint_url", "region"}
HOW = (
    "a Secret block that holds the JSON object "
    '{"access_key_id": ..., "secret_access_key": ...}; docs/how-to/s3.md'
)


@asynccontextmanager
async def s3_secrets(block: str) -> AsyncIterator[None]:
    """Settings made inside have the credentials of this Secret block; "" changes nothing.

    They are handed over in the environment of this process, where the settings look, and taken
    out of it again: never in a parameter, which Prefect stores in clear.

    Raises:
        BadInput: there is no such block, or it holds something else.
    """
    given = await _given(block) if block else {}
    names = {f"NIGHTKILN_S3_{name.upper()}": value for name, value in given.items()}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


async def _given(block: str) -> Mapping[str, str]:
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
    if not isinstance(given, dict) or not NEEDED <= given.keys() <= KNOWN:
        raise BadInput([Problem(f"s3_block {block!r}", "it holds something else", HOW)])
    return {name: str(value) for name, value in given.items()}
