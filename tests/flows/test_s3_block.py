"""Credentials of an object store from a Prefect block: there while a run needs them, then gone."""

from __future__ import annotations

import json
import os
import uuid
from typing import Any

import pytest

from nightkiln.core.errors import BadInput
from nightkiln.settings import load_settings

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HELD = {"access_key_id": "AKIA", "secret_access_key": "never told", "region": "eu-central-1"}


async def saved(value: Any) -> str:
    """The name of a new Secret block."""
    from prefect.blocks.system import Secret

    name = f"s3-{uuid.uuid4().hex}"
    await Secret(value=value).save(name)
    return name


@pytest.mark.parametrize("is_text", [False, True], ids=["an object", "its text"])
async def test_a_blocks_credentials_are_those_of_the_settings_as_long_as_a_run_lasts(
    *, is_text: bool
) -> None:
    from tasks.secrets import s3_secrets

    block = await saved(json.dumps(HELD) if is_text else HELD)

    async with s3_secrets(block):
        access = load_settings().s3_access

    assert (access.access_key_id, access.secret_access_key) == ("AKIA", "never told")
    assert access.region == "eu-central-1"
    assert load_settings().s3_access.secret_access_key == ""
    assert not [name for name in os.environ if name.startswith("NIGHTKILN_S3_")]


@pytest.mark.parametrize("held", ["never told", '["never told"]', {"key": "never told"}])
async def test_a_block_that_holds_something_else_is_refused_and_not_shown(held: Any) -> None:
    from tasks.secrets import s3_secrets

    block = await saved(held)

    with pytest.raises(BadInput, match="holds something else") as refused:
        async with s3_secrets(block):
            raise AssertionError("it was taken")

    assert "never told" not in f"{refused.value} {refused.value.__cause__}"


async def test_a_block_that_is_not_there_is_told_by_its_name() -> None:
    from tasks.secrets import s3_secrets

    with pytest.raises(BadInput, match=r"no-such-block.*Secret block"):
        async with s3_secrets("no-such-block"):
            raise AssertionError("it was taken")
