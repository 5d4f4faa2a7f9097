"""What is wrong in the form, or from a program, is refused by the server before a run exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.room.room import Room

pytestmark = [pytest.mark.prefect, pytest.mark.room]

FIELDS = {
    "limit": -5,
    "budget": "a lot",
    "late": "perhaps",
    "fallback": "sometimes",
    "no_such_field": 1,
}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("deployment", ["nightly", "adhoc"])
async def test_bad_parameters_are_refused_before_there_is_a_run_and_the_field_is_named(
    deployment: str, field: str, room: Room, tmp_path: Path
) -> None:
    before = {run["id"] for run in await room.runs()}
    params: dict[str, Any] = {"catalog": str(tmp_path), field: FIELDS[field]}

    answer = await room.try_run(deployment, params)

    assert answer.is_client_error, answer.text
    assert field in answer.text
    assert {run["id"] for run in await room.runs()} == before


async def test_so_are_those_of_the_reaper(room: Room) -> None:
    answer = await room.try_run("reap", {"most": 0})

    assert answer.is_client_error, answer.text
    assert "most" in answer.text
