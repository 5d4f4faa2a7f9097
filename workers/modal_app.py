"""The app that renders on Modal: ComfyUI in containers, one prompt at a time in each.

``nightkiln modal deploy`` sends it, built for one environment (``modal_plan``). It imports
nothing of nightkiln: requests and replies are dicts with a version, and either side refuses the
other's where they do not match (workers/README.md has the contract). Importing it asks nobody.

Why it is as it is: a call is run again when its machine is taken away, also with ``retries=0``, so
nothing here is done twice to the world: a reply is all that a call makes, and what it posts with
forms of its own attempt, where a second run replaces what the first has left. A container that
crashed while it starts would be started again for ever, at our cost, so a start that fails is kept
in mind, and told to the call that brought it about. A call that nobody waits for any more
(``expires_at``) is not rendered.

The memory snapshot is off unless it is asked for: with a GPU it is alpha, restores are reported to
crash, after which the start is a full one all the same, and it does not speed up loading weights.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from shlex import quote
from typing import Any

import modal

from workers.modal_comfy import COMFY, VOLUME, Broken, Expired, Server, TooLarge
from workers.modal_models import fill
from workers.modal_plan import CONTRACT, VARIABLE, Plan, node_of, read_plan

PLAN = read_plan(os.environ.get(VARIABLE, "{}"))
PYTHON = "3.12"
TORCH = ("torch==2.9.1", "torchvision==0.24.1", "torchaudio==2.9.1")  # brings CUDA 12.8 along
COMFY_REPOSITORY = "https://github.com/comfyanonymous/ComfyUI"
DOWNLOAD_S_MAX = 4 * 3600
SNAPSHOT_OPTIONS = {"enable_gpu_snapshot": True}


def _comfy_image(plan: Plan) -> modal.Image:
    """Exactly the catalog's environment; what changes most often comes last."""
    image = (
        modal.Image.debian_slim(python_version=PYTHON)
        .apt_install("git", "libgl1", "libglib2.0-0")
        .run_commands(
            f"git clone --quiet --depth 1 --branch v{plan.comfyui} {COMFY_REPOSITORY} {COMFY}",
            f"pip install --no-cache-dir {' '.join(TORCH)} -r {COMFY}/requirements.txt",
        )
    )
    for repo, ref in plan.custom_nodes:
        folder = COMFY / "custom_nodes" / node_of(repo)
        where, needs = quote(str(folder)), quote(f"{folder}/requirements.txt")
        image = image.run_commands(  # "--": a ref that is none is no file instead
            f"git clone --quiet {quote(repo)} {where}"
            f" && git -C {where} checkout --quiet {quote(ref)} --",
            f"test ! -f {needs} || pip install -r {needs}",
        )
    return _with_our_code(image)


def _with_our_code(image: modal.Image) -> modal.Image:
    told = {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {}
    return image.env(told).add_local_python_source("workers")


app = modal.App("nightkiln", tags={"nightkiln-environment": PLAN.digest[:24]})
volume = modal.Volume.from_name(PLAN.volume, create_if_missing=True)
small = _with_our_code(modal.Image.debian_slim(python_version=PYTHON))


@app.cls(
    image=_comfy_image(PLAN),
    gpu=list(PLAN.gpus),
    cpu=PLAN.cpu,
    memory=PLAN.memory_mib,
    volumes={str(VOLUME): volume.read_only()},
    timeout=PLAN.timeout_s,
    startup_timeout=PLAN.startup_timeout_s,
    scaledown_window=PLAN.scaledown_s,
    min_containers=0,
    max_containers=PLAN.max_containers,
    retries=0,
    enable_memory_snapshot=PLAN.snapshot,
    experimental_options=SNAPSHOT_OPTIONS if PLAN.snapshot else {},
)
class Comfy:
    """One container with one ComfyUI."""

    @modal.enter(snap=PLAN.snapshot)
    def start(self) -> None:
        """Start ComfyUI; with a snapshot this is what is not done again."""
        self._t_enter = time.time()
        self._server = Server(PLAN)
        self._broken = ""
        try:
            self._server.start()
        except Broken as error:
            self._broken = str(error)

    @modal.enter(snap=False)
    def arrive(self) -> None:
        """What no two containers may share, also when both come from one snapshot."""
        if PLAN.snapshot:
            self._t_enter = time.time()
        self._container = os.environ.get("MODAL_TASK_ID", "") or f"local-{uuid.uuid4().hex}"
        self._calls = 0

    @modal.method()
    def render(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks, or say why not.

        Raises:
            RuntimeError: this container is broken; it takes no further call.
        """
        t_start = time.time()
        self._calls += 1
        try:
            answer = self._answered(request)
        except Broken as error:
            self._broken = str(error)
            if not modal.is_local():
                modal.experimental.stop_fetching_inputs()
            raise RuntimeError(f"nightkiln: this container is broken: {error}") from None
        return {
            "contract": CONTRACT,
            "environment": PLAN.digest,
            "commit": PLAN.commit,
            "tag": PLAN.tag,
            "container": self._container,
            "is_cold": self._calls == 1,
            "t_enter": self._t_enter,
            "t_start": t_start,
            "t_end": time.time(),
            **answer,
        }

    def _answered(self, request: dict[str, Any]) -> dict[str, Any]:
        refusal = _refusal(request)
        if refusal is not None:
            return {"status": "refused", "said": refusal}
        if time.time() >= request["expires_at"]:
            return {"status": "expired"}
        if self._broken:
            raise Broken(self._broken)
        stats = self._server.stats()
        if request["kind"] == "warm":
            return {"status": "done", "stats": stats}
        try:
            return {"status": "done", "stats": stats, **self._server.render(request)}
        except Expired:
            return {"status": "expired", "stats": stats}
        except TooLarge:
            return {"status": "too_large", "stats": stats}

    @modal.exit()
    def stop(self) -> None:
        """Leave nothing behind."""
        self._server.stop()


def _refusal(request: dict[str, Any]) -> str | None:
    """Why a request is not for this app; None: it is."""
    if request.get("contract") != CONTRACT:
        return f"it speaks contract {request.get('contract')!r}, and this app {CONTRACT}"
    if request.get("environment") != PLAN.digest:
        return f"it is for another environment; this app was built for {PLAN.digest[:12]}"
    return None


@app.function(
    image=small, volumes={str(VOLUME): volume}, timeout=DOWNLOAD_S_MAX, retries=0, max_containers=1
)
def download_models(models: list[dict[str, Any]]) -> list[str]:
    """Have these models in the volume, each checked; what was fetched for that."""
    fetched = fill(Path(VOLUME), models)
    volume.commit()
    return fetched


@app.function(image=small, name=PLAN.mark, timeout=PLAN.startup_timeout_s)
def about() -> dict[str, Any]:
    """What this version was built from. Its name alone answers, so nobody has to call it.

    Its timeout is how long a container of ``Comfy`` may start: the service tells a caller timeouts,
    and start-up timeouts only of web servers.
    """
    return {"contract": CONTRACT, "environment": PLAN.digest, "tag": PLAN.tag}
