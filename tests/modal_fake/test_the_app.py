"""The app that is shipped, deployed by Modal's own command, in containers with a ComfyUI behind."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from nightkiln.catalog.catalog import Environment
from nightkiln.core.model import BoundJob, JobId
from nightkiln.providers.modal.contract import Asking
from nightkiln.providers.modal.deploying import MODULE, deploy_of, modal_command
from nightkiln.providers.modal.terms import ModalTerms
from nightkiln.testing.comfyui.process import real_process
from nightkiln.testing.modal import Comfy, StandIns
from nightkiln.testing.samples import text_to_image
from tests.modal_fake.yard import QUICK, SPEED, Yard, fake_modal

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / "build" / "comfyui" / "installed"
ENVIRONMENT = Environment("0.3.75")
TERMS = ModalTerms(gpus=("L40S", "A10"))
MIB = 1024 * 1024
RENDERS_S_MAX = 300.0
RENDERS_S = 30.0  # of the story, each: a container that is taken away after 1 s is in the middle
PNG = b"\x89PNG"
KINDS = ["stand-in", pytest.param("real", marks=pytest.mark.real)]


@dataclass(frozen=True, slots=True)
class Running:
    """A ComfyUI that runs already: all containers share it."""

    url: str


@contextmanager
def comfy(kind: str) -> Iterator[Comfy]:
    """What stands behind containers."""
    given = os.environ.get("NIGHTKILN_REAL_COMFYUI_URL")
    if kind == "stand-in":
        yield StandIns(SPEED, seconds_per_job=RENDERS_S)
        return
    if given is None and not INSTALLED.exists():
        pytest.skip("there is no real ComfyUI here; scripts/real-comfyui installs one")
    log = ROOT / "build" / "comfyui" / "server-modal.log"
    starting = real_process(ROOT / "scripts" / "real-comfyui", log=log)
    with starting if given is None else nullcontext(Running(given)) as server:

        @asynccontextmanager
        async def shared(gpu: str) -> AsyncIterator[Running]:
            assert gpu in TERMS.gpus
            yield Running(server.url)

        yield shared


def deployed(yard: Yard) -> Any:
    """The method that renders, of the app as it was deployed."""
    import modal

    deploy = deploy_of(ENVIRONMENT, TERMS, commit="c0ffee")
    words = ["deploy", "-m", MODULE, "--name", TERMS.app, "--tag", deploy.tag]
    done = modal_command(words, token=yard.fake.token, plan=deploy.plan, is_quiet=True)
    assert done.returncode == 0
    return modal.Cls.from_name(TERMS.app, "Comfy", client=yard.client)().render


def request(prompt: str) -> dict[str, Any]:
    graph = text_to_image()
    graph["2"]["inputs"]["text"] = prompt
    asking = Asking(ENVIRONMENT.digest, 64 * MIB)
    job = BoundJob(JobId("0" * 64), graph)
    return asking.render(job, (), expires_at_s=time.time() + RENDERS_S_MAX)


@pytest.mark.nights
@pytest.mark.parametrize("kind", KINDS)
def test_it_renders_also_when_its_container_is_taken_away_meanwhile(kind: str) -> None:
    rules = replace(QUICK, limit_s_min=RENDERS_S_MAX)
    with comfy(kind) as behind, fake_modal(rules=rules, comfy=behind) as yard:
        render = deployed(yard)
        yard.fake.add_faults("preempted")

        calls = [render.spawn(request(prompt)) for prompt in ("a fox at dawn", "a pot of tea")]

        answers = [call.get(timeout=RENDERS_S_MAX) for call in calls]
        assert [one["status"] for one in answers] == ["done", "done"]
        contents = [file["content"] for one in answers for file in one["files"]]
        assert [content[:4] for content in contents] == [PNG, PNG]
        assert contents[0] != contents[1]
        assert sum(yard.seen(call).runs for call in calls) == 3
        assert {one["container"] for one in answers} <= {
            one.container_id for one in yard.containers(TERMS.app)
        }
