"""A ComfyUI graph in API format: parsed, walked, described.

``{"3": {"class_type": "KSampler", "inputs": {"seed": 7, "model": ["4", 0]},
"_meta": {"title": "KSampler"}}}``: an input is a value or a link, and a link is
``[node id, output slot]``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.model import Graph

WORKFLOW_BYTES_MAX = 8 * 2**20  # the largest export seen in the wild is under 1 MB
NODES_MAX = 10_000

_HOW_TO_EXPORT = "in ComfyUI: Workflow > Export (API), and use that file"


def parse(text: str, *, where: str = "workflow") -> Graph:
    """The graph in an API-format export.

    Raises:
        BadInput: not JSON, not a graph, or the editor's own format; says how to export.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput([Problem(where, f"not JSON: {error}", _HOW_TO_EXPORT)]) from error
    if not isinstance(found, dict):
        raise BadInput([Problem(where, "not a workflow: not a JSON object", _HOW_TO_EXPORT)])
    if isinstance(found.get("nodes"), list) and isinstance(found.get("links"), list):
        what = "this is the editor's own (UI) format, which cannot be rendered"
        raise BadInput([Problem(where, what, _HOW_TO_EXPORT)])
    if not found or len(found) > NODES_MAX:
        what = f"{len(found)} nodes; a workflow has 1 to {NODES_MAX}"
        raise BadInput([Problem(where, what, _HOW_TO_EXPORT)])
    problems = [
        problem for node, body in found.items() for problem in _misshapen(node, body, where)
    ]
    if problems:
        raise BadInput(problems)
    return found


def _misshapen(node: str, body: Any, where: str) -> Iterator[Problem]:
    if not isinstance(body, dict) or not isinstance(body.get("class_type"), str):
        yield Problem(f"{where} node {node}", "has no class_type", _HOW_TO_EXPORT)
    elif not isinstance(body.get("inputs"), dict):
        yield Problem(f"{where} node {node}", "has no inputs object", _HOW_TO_EXPORT)


def title(graph: Graph, node: str) -> str:
    """What the editor shows above the node: its title, else its class."""
    meta = graph[node].get("_meta")
    shown = meta.get("title") if isinstance(meta, dict) else None
    return shown if isinstance(shown, str) and shown else str(graph[node]["class_type"])


def describe(graph: Graph, node: str) -> str:
    """A node as messages name it: ``node 3 "Sampler" (KSampler)``."""
    shown, kind = title(graph, node), graph[node]["class_type"]
    return f'node {node} "{shown}"' + ("" if shown == kind else f" ({kind})")


def link(value: Any) -> tuple[str, int] | None:
    """The (node id, output slot) that an input is linked to; None for a plain value."""
    match value:
        case [str(node), int(slot)] if not isinstance(slot, bool):
            return node, slot
    return None


def links(graph: Graph) -> Iterator[tuple[str, str, str, int]]:
    """Every link as (node, input, source node, source slot)."""
    for node, body in graph.items():
        for key, value in body["inputs"].items():
            if (source := link(value)) is not None:
                yield node, key, *source


def broken_links(graph: Graph, *, where: str) -> list[Problem]:
    """Links to nodes that are not there, and links that go round in a circle."""
    problems = [
        Problem(
            f"{where} {describe(graph, node)}",
            f"input {key!r} is linked to node {source}, which does not exist",
            "reconnect it in ComfyUI and export again",
        )
        for node, key, source, _ in links(graph)
        if source not in graph
    ]
    try:
        order(graph)
    except CycleError as error:
        circle = " -> ".join(str(node) for node in error.args[1])
        what = f"nodes feed each other in a circle: {circle}"
        problems.append(Problem(where, what, "break the circle in ComfyUI and export again"))
    return problems


def order(graph: Graph) -> list[str]:
    """Nodes, each after those that it is linked to.

    Raises:
        CycleError: there is no such order.
    """
    sorter = TopologicalSorter[str](dict.fromkeys(graph, ()))
    for node, _, source, _ in links(graph):
        if source in graph:
            sorter.add(node, source)
    return list(sorter.static_order())


def upstream(graph: Graph, nodes: Iterable[str]) -> set[str]:
    """``nodes`` and everything that they are made from."""
    sources: dict[str, list[str]] = {}
    for node, _, source, _ in links(graph):
        sources.setdefault(node, []).append(source)
    found: set[str] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += sources.get(node, [])
    return found
