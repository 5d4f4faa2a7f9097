"""Secrets from Prefect blocks: there while a run needs them, then gone."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from nightkiln.core.errors import BadInput
from nightkiln.settings import load_settings
from nightkiln.testing.waiting import until
from tests.docs.shown import free_port

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HELD = {
    "access_key_id": "AKIA",
    "secret_access_key": "never told",
    "session_token": None,
    "region": "eu-central-1",
}


async def saved(value: Any) -> str:
    """The name of a new Secret block."""
    from prefect.blocks.system import Secret

    name = f"s3-{uuid.uuid4().hex}"
    await Secret(value=value).save(name)
    return name


@pytest.mark.parametrize("is_text", [False, True], ids=["an object", "its text"])
@pytest.mark.parametrize("params", ["BatchParams", "MaintainParams", "ReapParams"])
async def test_a_blocks_credentials_are_those_of_one_flow_runs_settings_and_nowhere_else(
    *, params: str, is_text: bool
) -> None:
    from tasks.maintain import MaintainParams
    from tasks.params import BatchParams
    from tasks.reap import ReapParams
    from tasks.secrets import s3_given

    made: dict[str, Any] = {
        "BatchParams": BatchParams(catalog=Path("catalog")),
        "MaintainParams": MaintainParams(),
        "ReapParams": ReapParams(),
    }
    block = await saved(json.dumps(HELD) if is_text else HELD)

    settings = made[params].settings(**await s3_given(block))

    access = settings.s3_access
    assert (access.access_key_id, access.secret_access_key) == ("AKIA", "never told")
    assert (access.region, access.session_token) == ("eu-central-1", "")
    assert "never told" not in f"{settings!r} {settings.model_dump_json()} {dict(os.environ)}"
    assert load_settings().s3_access.secret_access_key == ""


@pytest.mark.parametrize(
    "held",
    [
        "never told",
        '["never told"]',
        {"key": "never told"},
        {**HELD, "session_token": ["never told"]},
    ],
)
async def test_a_block_that_holds_something_else_is_refused_and_not_shown(held: Any) -> None:
    from tasks.secrets import s3_given

    block = await saved(held)

    with pytest.raises(BadInput, match="holds something else") as refused:
        await s3_given(block)

    assert "never told" not in f"{refused.value} {refused.value.__cause__}"


async def test_a_block_that_is_not_there_is_told_by_its_name() -> None:
    from tasks.secrets import s3_given

    with pytest.raises(BadInput, match=r"no-such-block.*Secret block"):
        await s3_given("no-such-block")


async def test_keys_and_tokens_are_those_of_one_flow_runs_settings_and_nowhere_else() -> None:
    from tasks.params import BatchParams
    from tasks.secrets import secrets_of

    key = await saved("never-told-key")
    token = await saved({"token_id": "ak-1", "token_secret": "never-told-token"})
    params = BatchParams(catalog=Path("catalog"), vast_block=key, modal_block=token)

    settings = params.settings(**await secrets_of(params))

    told = [settings.vast_api_key, settings.modal_token_id, settings.modal_token_secret]
    assert [one.get_secret_value() if one is not None else None for one in told] == [
        "never-told-key", "ak-1", "never-told-token",
    ]  # fmt: skip
    shown = f"{params!r} {settings!r} {settings.model_dump_json()} {dict(os.environ)}"
    assert "never-told" not in shown


async def test_a_key_may_come_with_those_of_the_hosts_of_models() -> None:
    from tasks.params import BatchParams
    from tasks.secrets import secrets_of

    block = await saved({"api_key": "a-key", "hf_token": "a-token", "civitai_token": None})

    given = await secrets_of(BatchParams(catalog=Path("catalog"), vast_block=block))

    assert given == {"vast_api_key": "a-key", "hf_token": "a-token"}


async def test_a_block_with_half_a_token_is_refused_by_the_name_of_its_field() -> None:
    from tasks.params import BatchParams
    from tasks.secrets import secrets_of

    block = await saved({"token_id": "ak-1"})

    with pytest.raises(BadInput, match=r"modal_block.*holds something else"):
        await secrets_of(BatchParams(catalog=Path("catalog"), modal_block=block))


async def test_a_key_that_a_run_has_used_is_in_nothing_that_prefect_keeps_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service is away, so whatever could tell of the key has its say."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    from flows.reap import reap
    from tasks.reap import ReapParams

    monkeypatch.setenv("NIGHTKILN_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("NIGHTKILN_VAST_URL", f"http://127.0.0.1:{free_port()}")
    block = await saved("never-told-key")
    flow: Any = reap

    state = await flow(ReapParams(vast_block=block), return_state=True)

    assert state.is_failed()
    assert "vast: not known what is billed" in state.message
    run_id = state.state_details.flow_run_id
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))
    async with get_client() as client:
        kept = [(await client.read_flow_run(run_id)).model_dump_json()]

        async def has_ended() -> bool:
            logs = [log.message for log in await client.read_logs(wanted)]
            kept[1:] = logs
            return any("Finished in state" in message for message in logs)

        await until(has_ended)
    assert block in kept[0]
    assert "never-told" not in " ".join(kept)
