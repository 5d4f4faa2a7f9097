"""One prompt on its way through the nodes."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nightkiln.testing.comfyui import graphs
from nightkiln.testing.comfyui.definitions import RAISE, SLEEP, UPLOADED
from nightkiln.testing.comfyui.faults import SLOW_FACTOR, SLOW_S_MIN
from nightkiln.testing.comfyui.files import Files, Place, StoredFile, annotated
from nightkiln.testing.comfyui.outputs import NodeError, Saver, Saving, Told
from nightkiln.testing.comfyui.queue import Item, WorkerDied
from nightkiln.testing.comfyui.reports import Report

STEPS_TOLD_MAX = 1000  # of one node; ComfyUI tells all
UNCACHED = "SaveImageWebsocket"
_OOM_TIP = (
    "\nThis error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked"
    " before you might have accidentally set the batch_size to a large number."
)
_CUDA = "CUDA error: an illegal memory access was encountered\n"


class Interrupted(Exception):
    """Somebody asked for the running prompt to stop."""


@dataclass(slots=True)
class Bench:
    """What every prompt on this machine works with."""

    files: Files
    saver: Saver
    definitions: Mapping[str, Any]
    render_s: float
    die: Callable[[], None]  # the whole process ends
    interrupt: asyncio.Event = field(default_factory=asyncio.Event)
    cache: dict[str, Told | None] = field(default_factory=dict)  # by signature

    async def pause(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            Interrupted: somebody asked for it meanwhile.
        """
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.interrupt.wait(), seconds)
        else:
            await asyncio.sleep(0)
        if self.interrupt.is_set():
            self.interrupt.clear()
            raise Interrupted

    def upload(self, name: str) -> StoredFile | None:
        """The uploaded file of that name, which may lie in a subfolder."""
        path, folder = annotated(name, "input")
        subfolder, _, filename = path.rpartition("/")
        return self.files.get(Place(filename, subfolder, folder))

    def content(self, kind: str, name: str, value: Any) -> Any:
        """What a literal stands for in a digest: an uploaded file for its content."""
        if kind in UPLOADED and UPLOADED[kind][0] == name:
            file = self.upload(str(value))
            return file.sha256 if file is not None else value
        return value


class Execution:
    """Runs the nodes that are not cached, and says what happens."""

    def __init__(
        self, bench: Bench, report: Report, item: Item, *, faults: frozenset[str], number: int
    ) -> None:
        self._bench, self._report = bench, report
        _, self._prompt_id, self._graph, self._extra, self._outputs = item
        self._faults, self._number = faults, number
        self._digests = graphs.Digests(self._graph, bench.content)
        self.ran: list[str] = []

    async def run(self) -> None:
        self._report.message("execution_start")
        every = graphs.run_order(self._graph, self._outputs, lambda _: False)
        signatures = {node_id: self._signature(node_id) for node_id in every}
        # The cache keeps what the prompt before this one left, as far as this one can use it.
        known = self._bench.cache
        cache = {mark: known[mark] for mark in signatures.values() if mark in known}
        self._bench.cache = cache
        cached = [node_id for node_id in self._graph if signatures.get(node_id) in cache]
        self._report.message("execution_cached", {"nodes": cached})
        order = (
            graphs.run_order(self._graph, self._outputs, lambda node: node in cached)
            if cached
            else every
        )
        heavy = self._heavy([node_id for node_id in order if node_id not in cached])
        for node_id in order:
            mark = signatures[node_id]
            if mark not in cache:  # two nodes of one graph may share a signature
                try:
                    cache[mark] = await self._node(node_id, is_heavy=node_id == heavy)
                except WorkerDied:
                    raise
                except Exception as error:  # noqa: BLE001 - ComfyUI tells whatever a node raises
                    self._failed(node_id, error)
                    return
                self.ran.append(node_id)
            self._report.finished(node_id, cache[mark])
        self._report.message("execution_success")

    def _signature(self, node_id: str) -> str:
        if self._graph[node_id]["class_type"] == UNCACHED:
            return f"{self._prompt_id} {node_id}"
        return self._digests.signature(node_id)

    def _heavy(self, order: list[str]) -> str | None:
        """The node that takes the time and meets the trouble: a sampler, else what runs first."""
        samplers = [node for node in order if "Sampler" in self._graph[node]["class_type"]]
        return next(iter([*samplers, *order]), None)

    async def _node(self, node_id: str, *, is_heavy: bool) -> Told | None:
        kind, inputs = self._graph[node_id]["class_type"], self._graph[node_id]["inputs"]
        self._report.started(node_id)
        _check_newer_choices(self._bench.definitions[kind], inputs)
        if kind == SLEEP:
            await self._steps(node_id, inputs["seconds"], inputs["steps"])
        elif kind == RAISE:
            self._raise(inputs["kind"], inputs["tag"])
        if is_heavy:
            if node_id not in self._outputs:  # saving again under another name is quick
                steps = inputs.get("steps")
                await self._steps(node_id, self._seconds(), steps if isinstance(steps, int) else 1)
            self._break()
        return self._save(node_id) if node_id in self._outputs else None

    def _save(self, node_id: str) -> Told | None:
        info = self._extra.get("extra_pnginfo")
        saving = Saving(
            self._graph,
            node_id,
            self._digests.pixels(node_id),
            info if isinstance(info, dict) else {},
            self._faults,
            self._number,
        )
        told = self._bench.saver.save(saving)
        for number, picture in enumerate(saving.pictures):
            self._report.step(node_id, number, len(saving.pictures))
            self._report.picture(struct.pack(">II", 1, 2) + b"".join(picture))  # preview, PNG
        return None if "no-outputs" in self._faults else told

    def _seconds(self) -> float:
        render_s = self._bench.render_s
        return max(SLOW_S_MIN, render_s * SLOW_FACTOR) if "slow" in self._faults else render_s

    async def _steps(self, node_id: str, seconds: float, steps: int) -> None:
        """Take the time, in steps that are told one by one where anybody listens."""
        steps = min(steps, STEPS_TOLD_MAX) if seconds or self._report.has_listeners else 1
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        for step in range(1, steps + 1):
            await self._bench.pause(started_s + seconds * step / steps - loop.time())
            if steps > 1:
                self._report.step(node_id, step, steps)

    def _break(self) -> None:
        """Fail as planned."""
        if "error" in self._faults:
            self._raise("value", "")
        if "oom" in self._faults:
            self._raise("oom", "")
        if "cuda" in self._faults:
            raise NodeError("RuntimeError", _CUDA)
        if "interrupted" in self._faults:
            raise Interrupted

    def _raise(self, kind: str, tag: str) -> None:
        if kind == "kill":
            self._bench.die()
        if kind in {"kill", "exit"}:
            raise WorkerDied
        if kind == "oom":
            message = f"out of memory on purpose {tag}"
            raise NodeError("torch.OutOfMemoryError", message + _OOM_TIP)
        if kind == "oserror":
            raise NodeError("OSError", "[Errno 28] No space left on device\n")
        raise NodeError("ValueError", f"on purpose {tag}\n")

    def _failed(self, node_id: str, error: Exception) -> None:
        node = self._graph[node_id]
        fields: dict[str, Any] = {
            "node_id": node_id,
            "node_type": node["class_type"],
            "executed": list(self.ran),
        }
        if isinstance(error, Interrupted):
            self._report.message("execution_interrupted", fields)
            return
        given = {k: [str(v)] for k, v in node["inputs"].items() if not isinstance(v, list)}
        fields |= {
            "exception_message": str(error) if isinstance(error, NodeError) else f"{error}\n",
            "exception_type": error.kind if isinstance(error, NodeError) else type(error).__name__,
            "traceback": ['  File "/stand-in/nodes.py", line 1, in run\n'],
            "current_inputs": given,
            "current_outputs": list(self.ran),
        }
        self._report.message("execution_error", fields)


def _check_newer_choices(definition: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """What validation leaves to the node itself."""
    for name, (type_, facts) in definition["input"]["required"].items():
        is_newer = isinstance(type_, list) and "multiselect" in facts
        if is_newer and type_ and name in inputs and inputs[name] not in type_:
            raise NodeError("ValueError", f"{name}: {inputs[name]} is not possible\n")
