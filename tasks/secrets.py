"""Keys and tokens out of Prefect's Secret blocks, for the settings of one flow run.

Handed on as settings alone: never in a parameter, which Prefect stores in clear, and never in the
environment, where other flow runs of this process, and its children, would find them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from prefect.blocks.system import Secret

from nightkiln.core.errors import BadInput, Problem


@dataclass(frozen=True, slots=True)
class Kind:
    """What a block of one kind holds, and which settings that is."""

    parameter: str
    how: str
    settings: Mapping[str, str]  # name in the block -> setting
    needed: frozenset[str]
    alone: str = ""  # the name that a text which is no object stands for


S3 = Kind(
    "s3_block",
    'the JSON object {"access_key_id": ..., "secret_access_key": ...}; docs/how-to/s3.md',
    {
        name: f"s3_{name}"
        for name in (
            "access_key_id",
            "secret_access_key",
            "session_token",
            "endpoint_url",
            "region",
        )
    },
    frozenset({"access_key_id", "secret_access_key"}),
)
VAST = Kind(
    "vast_block",
    'the API key, or the JSON object {"api_key": ..., "hf_token": ..., "civitai_token": ...}; '
    "docs/how-to/vast.md",
    {"api_key": "vast_api_key", "hf_token": "hf_token", "civitai_token": "civitai_token"},
    frozenset({"api_key"}),
    alone="api_key",
)
MODAL = Kind(
    "modal_block",
    'the JSON object {"token_id": ..., "token_secret": ...}; docs/how-to/modal.md',
    {"token_id": "modal_token_id", "token_secret": "modal_token_secret"},
    frozenset({"token_id", "token_secret"}),
)


class NamesBlocks(Protocol):
    """Parameters that name blocks."""

    @property
    def s3_block(self) -> str: ...
    @property
    def vast_block(self) -> str: ...
    @property
    def modal_block(self) -> str: ...


async def secrets_of(params: NamesBlocks) -> dict[str, str]:
    """What the blocks that the parameters name set, by the names of settings.

    Raises:
        BadInput: there is no such block, or it holds something else.
    """
    return {
        **await s3_given(params.s3_block),
        **await _given(VAST, params.vast_block),
        **await _given(MODAL, params.modal_block),
    }


async def s3_given(block: str) -> dict[str, str]:
    """What this Secret block sets about an object store; "" sets nothing.

    Raises:
        BadInput: there is no such block, or it holds something else.
    """
    return await _given(S3, block)


async def _given(kind: Kind, block: str) -> dict[str, str]:
    if not block:
        return {}
    where, how = f"{kind.parameter} {block!r}", f"a Secret block that holds {kind.how}"
    try:
        found: Any = await Secret.aload(block)  # its type is lost on the way
        held = found.get()
    except ValueError as error:
        raise BadInput([Problem(where, "there is no such block", how)]) from error
    there = _object_in(held, kind.alone)
    is_known = kind.needed <= there.keys() <= kind.settings.keys()
    if not is_known or not all(isinstance(value, str) for value in there.values()):
        # Nothing of what it holds is shown, nor chained: it may be a secret all the same.
        raise BadInput([Problem(where, "it holds something else", how)])
    return {kind.settings[name]: value for name, value in there.items()}


def _object_in(held: Any, alone: str) -> dict[str, Any]:
    """What a block holds by name; what is null is not there, and nothing if it is no object."""
    try:
        given = json.loads(held) if isinstance(held, str) else held
    except ValueError:
        given = {alone: held} if alone else None
    if not isinstance(given, dict):
        return {}
    return {name: value for name, value in given.items() if value is not None}
