"""What a Prefect server answers to the questions of these tests."""

from __future__ import annotations

import os
from typing import Any

import httpx


async def events_of(batch: str) -> list[dict[str, Any]]:
    """Every event about a batch that the server has kept, oldest first."""
    wanted = {"resource": {"id": [f"nightkiln.batch.{batch}"]}, "order": "ASC"}
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            f"{os.environ['PREFECT_API_URL']}/events/filter",
            json={"filter": wanted, "limit": 50},
        )
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()["events"]
    return found
