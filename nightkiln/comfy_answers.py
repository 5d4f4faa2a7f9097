"""Reads what a ComfyUI server answers. Everything in it is a stranger's and is checked here.

Pure functions from JSON to our words; the shapes are those seen from ComfyUI 0.3.75.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nightkiln.core.errors import RenderFailed
from nightkiln.core.faults import fault_of_exception, fault_of_rejection
from nightkiln.core.model import Fault

FILES_MAX = 1000  # output files of one job
TEXT_MAX = 500  # characters of a stranger's message that we keep
NAME_MAX = 1024  # characters of a node's id, or of a file's or folder's name
STAMP_MAX = 1 << 53  # milliseconds; more is no time, and may be more than a float can hold


@dataclass(frozen=True, slots=True)
class ViewName:
    """How the server names one output file; only ever sent back to the server that said it."""

    node: str
    filename: str
    subfolder: str
    folder: str  # output | temp


@dataclass(frozen=True, slots=True)
class Finished:
    """A history entry of a job that succeeded."""

    files: tuple[ViewName, ...]
    gpu_s: float | None  # by the server's own timestamps
    is_echo: bool  # nothing was executed: the files are those of an earlier prompt


def text(value: Any) -> str:
    """A stranger's text, made short and printable."""
    kept = str(value)[: TEXT_MAX * 2]
    return " ".join("".join(c if c.isprintable() else " " for c in kept).split())[:TEXT_MAX]


def rejection(answer: Any) -> RenderFailed:
    """Why ``POST /prompt`` refused a graph, from its body (HTTP 400, or 200 with node errors)."""
    error = _mapping(_mapping(answer).get("error"))
    details: list[str] = []
    types: set[str] = set()
    for node_id, node in list(_mapping(_mapping(answer).get("node_errors")).items())[:20]:
        name = _mapping(node).get("class_type", "node")
        for item in _list(_mapping(node).get("errors"))[:20]:
            types.add(str(_mapping(item).get("type")))
            message, detail = _mapping(item).get("message", ""), _mapping(item).get("details", "")
            details.append(f"{name} {node_id}: {message}: {detail}")
    fault, kind = fault_of_rejection(frozenset(types), str(error.get("type")))
    said = "; ".join(details) if details else f"{error.get('message')} {error.get('details', '')}"
    return RenderFailed(f"the worker refused the graph: {text(said)}", fault=fault, kind=kind)


def finished(entry: Any) -> Finished:
    """What a history entry says.

    Raises:
        RenderFailed: the job ended in an error, was interrupted, or left no file.
    """
    status = _mapping(_mapping(entry).get("status"))
    messages = [(str(m[0]), _mapping(m[1])) for m in _list(status.get("messages")) if _is_pair(m)]
    if status.get("status_str") != "success":
        raise _failure(messages)
    files = tuple(_files(_mapping(_mapping(entry).get("outputs"))))
    if not files:
        raise RenderFailed(
            "the job finished without any output file", fault=Fault.UNKNOWN, kind="no_outputs"
        )
    graph = _list(_mapping(entry).get("prompt"))
    nodes = len(_mapping(graph[2])) if len(graph) > 2 else 0  # noqa: PLR2004 - [number, id, graph, ..]
    cached = next((fields for name, fields in messages if name == "execution_cached"), {})
    is_echo = nodes > 0 and len(_list(cached.get("nodes"))) >= nodes
    return Finished(files, _gpu_s(messages), is_echo)


def _failure(messages: list[tuple[str, Mapping[str, Any]]]) -> RenderFailed:
    name, fields = messages[-1] if messages else ("", {})
    if name == "execution_interrupted":
        return RenderFailed("interrupted at the worker", fault=Fault.MACHINE, kind="interrupted")
    kind, message = str(fields.get("exception_type", "")), str(fields.get("exception_message", ""))
    fault, short = fault_of_exception(kind, message)
    where = f"{fields.get('node_type', 'a node')} {fields.get('node_id', '')}"
    return RenderFailed(text(f"{where}: {kind}: {message}"), fault=fault, kind=short)


def _files(outputs: Mapping[str, Any]) -> Iterator[ViewName]:
    """Files that were saved; where a job saved none, its previews."""
    found = list(_named(outputs))
    if len(found) > FILES_MAX:
        raise RenderFailed(
            f"{len(found)} output files, more than {FILES_MAX}", fault=Fault.JOB, kind="too_many"
        )
    saved = [file for file in found if file.folder == "output"]
    yield from saved or found


def _named(outputs: Mapping[str, Any]) -> Iterator[ViewName]:
    """Every named file of every kind (images, gifs, audio, video, ...), in node order."""
    for node_id in sorted(outputs, key=_node_order):
        for items in _mapping(outputs[node_id]).values():
            for item in _list(items):
                fields = _mapping(item)
                filename, folder = fields.get("filename"), fields.get("type")
                subfolder = fields.get("subfolder") or ""
                names = (node_id, filename, subfolder)
                if filename and folder in ("output", "temp") and all(map(_is_name, names)):
                    yield ViewName(node_id, str(filename), str(subfolder), str(folder))


def _is_name(value: Any) -> bool:
    """Whether it can be sent and stored: JSON can spell half a character, UTF-8 cannot."""
    if not isinstance(value, str) or len(value) > NAME_MAX:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _node_order(node_id: str) -> tuple[int, str]:
    return (int(node_id) if node_id.isdecimal() and len(node_id) < 10 else 1 << 40, node_id)  # noqa: PLR2004


def _gpu_s(messages: list[tuple[str, Mapping[str, Any]]]) -> float | None:
    """Seconds between the first and the last message; they carry milliseconds."""
    stamps = [fields.get("timestamp") for _, fields in messages]
    numbers = [s for s in stamps if isinstance(s, int | float) and 0 <= s <= STAMP_MAX]
    if len(numbers) < 2:  # noqa: PLR2004 - a beginning and an end
        return None
    return max(0.0, (numbers[-1] - numbers[0]) / 1000)


def queued_ids(queue: Any) -> tuple[frozenset[str], frozenset[str]]:
    """Prompt ids that run and that wait, from ``GET /queue``."""
    return _ids(queue, "queue_running"), _ids(queue, "queue_pending")


def _ids(queue: Any, key: str) -> frozenset[str]:
    items = _list(_mapping(queue).get(key))
    return frozenset(str(item[1]) for item in items if isinstance(item, list) and len(item) > 1)


def uploaded_name(answer: Any) -> str:
    """The name to bind for an uploaded file; the server may have changed ours."""
    name, subfolder = _mapping(answer).get("name"), _mapping(answer).get("subfolder")
    if not isinstance(name, str) or not name:
        raise RenderFailed(f"upload answered {text(answer)}", fault=Fault.MACHINE, kind="upload")
    return f"{subfolder}/{name}" if isinstance(subfolder, str) and subfolder else name


def gpu_name(stats: Any) -> str | None:
    """The first device of ``GET /system_stats``; None when this is no ComfyUI's answer."""
    if not isinstance(_mapping(stats).get("system"), dict):
        return None
    devices = _list(_mapping(stats).get("devices"))
    name = text(_mapping(devices[0]).get("name", "unknown")) if devices else "unknown"
    # "cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync" -> the part people know it by.
    return name.removeprefix("cuda:0 ").split(" : ")[0][:100] or "unknown"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2  # noqa: PLR2004 - [name, fields]
