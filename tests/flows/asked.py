"""What a Prefect server answers to the questions of these tests."""

from __future__ import annotations

import os
from typing import Any

import httpx


async def events_of(batch: str) -> list[dict[str, Any]]:
    """Every event about a batch that the server has kept, oldest first."""
    return await _events_about(f"nightkiln.batch.{batch}")


async def failures_of(run_id: object) -> list[dict[str, Any]]:
    """What was told of the failure of a flow run."""
    return await _events_about(f"nightkiln.run.{run_id}")


async def _events_about(resource_id: str) -> list[dict[str, Any]]:
    wanted = {"resource": {"id": [resource_id]}, "order": "ASC"}
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            f"{os.environ['PREFECT_API_URL']}/events/filter",
            json={"filter": wanted, "limit": 50},
        )
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()["events"]
    return found
