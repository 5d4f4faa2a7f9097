"""A Modal that cannot be used: the night goes on without it, and says so before it begins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nightkiln.catalog.catalog import Environment
from nightkiln.night import ALL_DONE
from nightkiln.places import VAST
from nightkiln.testing.hybrid import HybridScene

NOT_USABLE: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "not deployed": ({"deploys": None}, "the app is not deployed; run: nightkiln modal deploy"),
    "for another environment": (
        {"deploys": Environment("0.3.60")},
        "the app is deployed for another environment; run: nightkiln modal deploy",
    ),
    "no token": ({"has_token": False}, "there is no token; set MODAL_TOKEN_ID"),
    "out of credit": ({"modal_faults": ("no_credit",)}, "the workspace has no credit left"),
}


def _suite(name: str) -> pytest.MarkDecorator:
    """For another environment is as if not deployed; which of the two is said is what differs."""
    return pytest.mark.long if name == "for another environment" else pytest.mark.nights


@pytest.mark.parametrize("why", [pytest.param(name, marks=_suite(name)) for name in NOT_USABLE])
async def test_hybrid_a_modal_that_cannot_be_used_is_missed_at_the_start(
    why: str, tmp_path: Path
) -> None:
    how, said = NOT_USABLE[why]
    async with HybridScene(tmp_path, jobs=6, by="60s", **how) as scene:
        outcome = await scene.run()

        receipt = scene.receipt(outcome)
        print(receipt)
        told = [json.loads(line) for line in scene.told().splitlines()]
        [app] = [line for line in told if line["event"] == "app"]
        assert said in app["told"]
        assert app["told"].endswith("; the run goes on with vast without it")
        events = [line["event"] for line in told]
        assert events.index("app") < events.index("planned")
        assert outcome.exit_code == ALL_DONE, scene.told()
        assert await scene.broken() == []
        assert receipt.of(VAST).jobs == 6
        assert scene.modal.billing.usd == 0
