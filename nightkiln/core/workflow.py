"""A ComfyUI workflow as a template: name its inputs, digest it, bind a job into it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.graph import broken_links, describe, link, order, parse, title
from nightkiln.core.model import BoundFile, BoundJob, Graph, Job
from nightkiln.core.outputs import outputs_expected

__all__ = ["Binding", "Target", "Template", "outputs_expected", "parse", "resolve", "select"]

SELECTORS_SHOWN_MAX = 12  # candidates listed in one message

Target: TypeAlias = tuple[str, str]  # (node id, input name)

IGNORED_INPUTS = frozenset({"filename_prefix"})  # where a file is put says nothing about its pixels


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a value of the catalog goes: selectors such as ``KSampler.seed``."""

    to: tuple[str, ...]
    is_file: bool = False  # the value is a file that is uploaded first


class Template:
    """A graph with named holes; ``bind`` fills them.

    Raises:
        BadInput: selectors that name nothing or too much, links to nowhere, a cycle.
    """

    def __init__(
        self, graph: Graph, bindings: Mapping[str, Binding], *, where: str = "workflow"
    ) -> None:
        targets, problems = resolve(graph, bindings, where=where)
        problems += broken_links(graph, where=where)
        if problems:
            raise BadInput(problems)
        self.graph = graph
        self.bindings = dict(bindings)
        self.targets: Mapping[str, tuple[Target, ...]] = targets
        self.digest = _digest(graph, targets)

    def bind(self, job: Job) -> BoundJob:
        """The graph that renders ``job``; pure, and copies only the nodes that change.

        A file input holds ``<sha256><suffix>`` until the worker puts in the name that the
        upload came back under.
        """
        graph = dict(self.graph)
        for name, targets in self.targets.items():
            file = job.files.get(name)
            value = job.values[name] if file is None else file.sha256 + file.suffix
            for node, key in targets:
                body = graph[node]
                graph[node] = {**body, "inputs": {**body["inputs"], key: value}}
        files = tuple(BoundFile(file, self.targets[name]) for name, file in job.files.items())
        return BoundJob(job.id, graph, files, outputs_expected(graph))


def resolve(
    graph: Graph, bindings: Mapping[str, Binding], *, where: str
) -> tuple[dict[str, tuple[Target, ...]], list[Problem]]:
    """The targets of every binding, and what is wrong with the others."""
    targets: dict[str, tuple[Target, ...]] = {}
    problems: list[Problem] = []
    owner: dict[Target, str] = {}
    for name, binding in bindings.items():
        found = []
        for selector in binding.to:
            target = select(graph, selector, where=f"{where}: inputs.{name}")
            if isinstance(target, Problem):
                problems.append(target)
            elif owner.setdefault(target, name) != name:
                what = f"{selector} is already bound by inputs.{owner[target]}"
                problems.append(Problem(f"{where}: inputs.{name}", what, "bind it once"))
            else:
                found.append(target)
        targets[name] = tuple(dict.fromkeys(found))
    return targets, problems


def select(graph: Graph, selector: str, *, where: str = "workflow") -> Target | Problem:
    """The input that ``<title or class or id>.<input>`` names, or why there is not exactly one."""
    nodes: list[str] = []
    for head, key in _splits(selector):
        nodes = _named(graph, head)
        if len(nodes) == 1:
            return _input(graph, nodes[0], key, where)
        if nodes:
            listed = _listed(f"{node}.{key}" for node in nodes)
            return Problem(where, f"{head!r} names {len(nodes)} nodes", f"say which: {listed}")
    listed = _listed(sorted({title(graph, node) for node in graph}))
    return Problem(where, f"{selector!r} names no node", f"<node>.<input>; nodes: {listed}")


def _splits(selector: str) -> Iterator[tuple[str, str]]:
    """Ways to read ``a.b.c``: titles and inputs may both hold dots; the last one goes first."""
    parts = selector.split(".")
    for at in range(len(parts) - 1, 0, -1):
        yield ".".join(parts[:at]), ".".join(parts[at:])


def _named(graph: Graph, name: str) -> list[str]:
    by_title = [node for node in graph if title(graph, node) == name]
    by_class = [node for node in graph if graph[node]["class_type"] == name]
    return by_title or by_class or [node for node in graph if node == name]


def _input(graph: Graph, node: str, key: str, where: str) -> Target | Problem:
    inputs = graph[node]["inputs"]
    if key not in inputs:
        free = _listed(sorted(name for name, value in inputs.items() if link(value) is None))
        return Problem(where, f"{describe(graph, node)} has no input {key!r}", f"it has: {free}")
    if (source := link(inputs[key])) is not None:
        origin = describe(graph, source[0]) if source[0] in graph else f"node {source[0]}"
        what = f"{key!r} of {describe(graph, node)} is linked, not a value"
        return Problem(where, what, f"bind the value at its source, {origin}")
    return node, key


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = len(shown) - SELECTORS_SHOWN_MAX
    return ", ".join(shown[:SELECTORS_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _digest(graph: Graph, targets: Mapping[str, tuple[Target, ...]]) -> str:
    """sha256 over what the nodes do and how they hang together, whatever their ids are."""
    holes = {target: name for name, some in targets.items() for target in some}
    digests: dict[str, str] = {}
    for node in order(graph):
        body = graph[node]
        inputs = []
        for key in sorted(body["inputs"].keys() - IGNORED_INPUTS):
            value = body["inputs"][key]
            if (node, key) in holes:
                inputs.append([key, "bound", holes[node, key]])
            elif (source := link(value)) is not None:
                inputs.append([key, "link", digests[source[0]], source[1]])
            else:
                inputs.append([key, "value", _plain(value)])
        digests[node] = _sha256([body["class_type"], inputs])
    return _sha256(sorted(digests.values()))


def _plain(value: Any) -> Any:
    """JSON with one spelling per number: 20.0 is written 20, as a browser would."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {key: _plain(item) for key, item in value.items()}
    return value


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
