"""A real ComfyUI on every machine of the simulated market."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nightkiln.night import ALL_DONE
from nightkiln.testing.vast_market.rules import Rules
from nightkiln.testing.vast_market.scene import HURRY, VastScene
from nightkiln.testing.vast_market.ssh_body import PORT_WORD

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "real-comfyui"
SPEED = 30.0  # of the story; a real ComfyUI starts as fast as it does


@pytest.mark.real
async def test_a_rented_machine_renders_what_a_real_comfyui_renders(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "start", "--port", PORT_WORD]
    rules = Rules(speed=SPEED, limits_scale=HURRY)
    async with VastScene(tmp_path, rules=rules, leases_max=1, comfy=command) as scene:
        outcome = await scene.run()

        assert outcome.exit_code == ALL_DONE, scene.told()
        assert await scene.broken() == []
