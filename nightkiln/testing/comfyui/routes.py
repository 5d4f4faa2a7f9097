"""The HTTP surface of the stand-in: every path, also under ``/api``."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from aiohttp import web

from nightkiln.testing.comfyui.definitions import told
from nightkiln.testing.comfyui.execution import Bench
from nightkiln.testing.comfyui.faults import FaultPlan
from nightkiln.testing.comfyui.queue import PromptQueue
from nightkiln.testing.comfyui.sockets import FEATURES, Hub
from nightkiln.testing.comfyui.validation import validate
from nightkiln.testing.comfyui.views import Views

VERSION = "0.3.75"
BODY_MAX = FEATURES["max_upload_size"]
MODEL_FOLDERS = ("checkpoints", "loras", "vae", "text_encoders", "diffusion_models", "embeddings")
MEMORY_BYTES = 24 * 1024**3  # of the GPU that is not there
TROUBLE = "500 Internal Server Error\n\nServer got itself in trouble"

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes:
    """Answers requests."""

    def __init__(
        self,
        queue: PromptQueue,
        hub: Hub,
        bench: Bench,
        plan: FaultPlan,
        *,
        definitions: dict[str, Any],
        checkpoints: tuple[str, ...],
        gpu_name: str,
    ) -> None:
        self._queue, self._hub, self._bench, self._plan = queue, hub, bench, plan
        self._definitions, self._checkpoints = definitions, checkpoints
        self._gpu_name = gpu_name
        self._number = 0
        self.submitted: list[str] = []  # prompt ids, in order

    def application(self) -> web.Application:
        application = web.Application(client_max_size=BODY_MAX, middlewares=[_in_trouble])
        views = Views(self._bench.files)
        gets: dict[str, Handler] = {
            "/": self._root,
            "/ws": self._hub.handle,
            "/view": views.view,
            "/prompt": self._depth,
            "/queue": self._told_queue,
            "/history": self._told_history,
            "/history/{prompt_id}": self._told_entry,
            "/system_stats": self._system,
            "/features": self._features,
            "/object_info": self._object_info,
            "/object_info/{node_class}": self._object_info,
            "/models": self._models,
            "/models/{folder}": self._models,
            "/embeddings": self._embeddings,
            "/stand-in": self._stand_in,
        }
        posts: dict[str, Handler] = {
            "/prompt": self._submit,
            "/queue": self._change_queue,
            "/history": self._change_history,
            "/interrupt": self._interrupt,
            "/free": self._free,
            "/upload/image": views.upload,
        }
        for prefix in ("", "/api"):
            for path, handler in gets.items():
                application.router.add_get(prefix + path, handler)
            for path, handler in posts.items():
                application.router.add_post(prefix + path, handler)
        return application

    async def _root(self, _: web.Request) -> web.Response:
        return web.Response(text="nightkiln's stand-in for ComfyUI\n")

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        number = self._next_number(body)
        if "prompt" not in body:
            message = "No prompt provided"
            error = {"type": "no_prompt", "message": message, "details": message, "extra_info": {}}
            return web.json_response({"error": error, "node_errors": {}}, status=400)
        prompt_id = str(body.get("prompt_id", uuid.uuid4()))
        verdict = validate(
            body["prompt"],
            self._definitions,
            lambda name: self._bench.upload(name) is not None,
            targets=body.get("partial_execution_targets"),
        )
        if verdict.error is not None:
            refusal = {"error": verdict.error, "node_errors": verdict.node_errors}
            return web.json_response(refusal, status=400)
        extra = body.get("extra_data", {})
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        extra.pop("auth_token_comfy_org", None)
        extra.pop("api_key_comfy_org", None)
        extra["create_time"] = int(time.time() * 1000)
        faults = self._plan.next_accepted(body["prompt"])
        outputs, node_errors = verdict.outputs, verdict.node_errors
        if "partial-node-errors" in faults:
            node_errors = _one_dropped(body["prompt"], outputs[-1])
            outputs = outputs[:-1]
        self._queue.put((number, prompt_id, body["prompt"], extra, outputs))
        self.submitted.append(prompt_id)
        if "lost-reply" in faults and request.transport is not None:
            request.transport.abort()
        if "server-error" in faults:
            raise web.HTTPInternalServerError(text=TROUBLE)
        accepted = {"prompt_id": prompt_id, "number": number, "node_errors": node_errors}
        return web.json_response(accepted)

    def _next_number(self, body: Any) -> float:
        if "number" in body:
            return float(body["number"])
        is_front = "front" in body and body["front"]
        number = -self._number if is_front else self._number
        self._number += 1
        return number

    async def _depth(self, _: web.Request) -> web.Response:
        return web.json_response({"exec_info": {"queue_remaining": self._queue.remaining}})

    async def _told_queue(self, _: web.Request) -> web.Response:
        return web.json_response(self._queue.told())

    async def _change_queue(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("clear"):
            self._queue.clear()
        for prompt_id in body.get("delete", ()):
            self._queue.delete(prompt_id)
        return web.Response()

    async def _told_history(self, request: web.Request) -> web.Response:
        count = request.query.get("max_items")
        offset = int(request.query.get("offset", -1))
        return web.json_response(
            self._queue.latest(int(count) if count is not None else None, offset)
        )

    async def _told_entry(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["prompt_id"]
        history = self._queue.history
        return web.json_response({prompt_id: history[prompt_id]} if prompt_id in history else {})

    async def _change_history(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("clear"):
            self._queue.history.clear()
        for prompt_id in body.get("delete", ()):
            self._queue.history.pop(prompt_id, None)
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        try:
            prompt_id = (await request.json()).get("prompt_id")
        except ValueError:
            prompt_id = None
        running = self._queue.running
        if not prompt_id or (running is not None and running[1] == prompt_id):
            self._bench.interrupt.set()
        return web.Response()

    async def _free(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("free_memory"):
            self._bench.cache = {}  # a running prompt keeps its own to its end
        return web.Response()

    async def _system(self, _: web.Request) -> web.Response:
        is_cpu = self._gpu_name == "cpu"
        name = "cpu" if is_cpu else f"cuda:0 {self._gpu_name} : cudaMallocAsync"
        memory = dict.fromkeys(
            ("vram_total", "vram_free", "torch_vram_total", "torch_vram_free"), MEMORY_BYTES
        )
        system = {
            "os": "posix",
            "ram_total": MEMORY_BYTES,
            "ram_free": MEMORY_BYTES,
            "comfyui_version": VERSION,
            "required_frontend_version": None,
            "installed_templates_version": None,
            "required_templates_version": None,
            "python_version": sys.version,
            "pytorch_version": "stand-in",
            "embedded_python": False,
            "argv": ["main.py"],
        }
        device: dict[str, Any] = {"name": name, "type": "cpu" if is_cpu else "cuda"}
        device |= {"index": None if is_cpu else 0, **memory}
        return web.json_response({"system": system, "devices": [device]})

    async def _features(self, _: web.Request) -> web.Response:
        return web.json_response(FEATURES)

    async def _object_info(self, request: web.Request) -> web.Response:
        wanted = request.match_info.get("node_class")
        names = self._definitions if wanted is None else self._definitions.keys() & {wanted}
        return web.json_response({name: told(name, self._definitions[name]) for name in names})

    async def _models(self, request: web.Request) -> web.Response:
        folder = request.match_info.get("folder")
        if folder is None:
            return web.json_response(MODEL_FOLDERS)
        if folder not in MODEL_FOLDERS:
            raise web.HTTPNotFound(text="")
        return web.json_response(self._checkpoints if folder == "checkpoints" else [])

    async def _embeddings(self, _: web.Request) -> web.Response:
        return web.json_response([])

    async def _stand_in(self, _: web.Request) -> web.Response:
        """How much it has rendered since it began, which ComfyUI itself tells nobody."""
        return web.json_response({"executed": self._plan.executed})


def _one_dropped(graph: dict[str, Any], output: str) -> dict[str, Any]:
    error = {
        "type": "required_input_missing",
        "message": "Required input is missing",
        "details": "images",
        "extra_info": {"input_name": "images"},
    }
    kind = graph[output]["class_type"]
    return {output: {"errors": [error], "dependent_outputs": [output], "class_type": kind}}


@web.middleware
async def _in_trouble(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer as ComfyUI does to a body of another shape than it takes for granted."""
    try:
        return await handler(request)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise web.HTTPInternalServerError(text=TROUBLE) from None
