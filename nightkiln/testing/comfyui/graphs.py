"""What a graph says about the pictures it makes: what shapes them, how many, how large."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from nightkiln.core.model import Graph

SIZE = (512, 512)  # pixels, where no node says
_NAMES = frozenset({"filename_prefix"})  # inputs that shape no pixel

Content = Callable[[str, str, Any], Any]  # class, input, value -> what it stands for


def links(node: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Its linked inputs: input, id of the node it is linked to, slot."""
    return [
        (name, value[0], value[1])
        for name, value in node["inputs"].items()
        if isinstance(value, list)
    ]


class Digests:
    """What each node of one graph stands for; node numbering plays no part.

    ``content`` says what a literal stands for: the digest of a file instead of its name.
    """

    def __init__(self, graph: Graph, content: Content) -> None:
        self._graph, self._content = graph, content
        self._known: dict[tuple[str, bool], str] = {}
        self._named: dict[str, bool] = {}

    def signature(self, node_id: str) -> str:
        """What the cache goes by: everything that the node is given."""
        return self._digest(node_id, keeps_names=True)

    def pixels(self, node_id: str) -> str:
        """What shapes the pixels: the same without the names of files to save."""
        return self._digest(node_id, keeps_names=False)

    def _digest(self, node_id: str, *, keeps_names: bool) -> str:
        known = self._known.get((node_id, keeps_names))
        if known is not None:
            return known
        if not keeps_names and not self._has_names(node_id):
            return self._digest(node_id, keeps_names=True)
        node = self._graph[node_id]
        kind = node["class_type"]
        parts = [
            (name, [self._digest(value[0], keeps_names=keeps_names), value[1]])
            if isinstance(value, list)
            else (name, self._content(kind, name, value))
            for name, value in sorted(node["inputs"].items())
            if keeps_names or name not in _NAMES
        ]
        digest = hashlib.sha256(json.dumps([kind, parts]).encode()).hexdigest()
        self._known[node_id, keeps_names] = digest
        return digest

    def _has_names(self, node_id: str) -> bool:
        """Whether the node, or one before it, has an input that shapes no pixel."""
        if node_id not in self._named:
            node = self._graph[node_id]
            self._named[node_id] = not _NAMES.isdisjoint(node["inputs"]) or any(
                self._has_names(source) for _, source, _ in links(node)
            )
        return self._named[node_id]


def batch(graph: Graph, node_id: str) -> int:
    """How many pictures come out of a node."""
    node = graph[node_id]
    before = [batch(graph, source) for _, source, _ in links(node)]
    if node["class_type"] == "ImageBatch":
        return sum(before)
    most = max(before, default=1)
    if node["class_type"] in {"RepeatImageBatch", "RepeatLatentBatch"}:
        return most * _integer(node, "amount", 1)
    return max(most, _integer(node, "batch_size", 1))


def size(graph: Graph, node_id: str) -> tuple[int, int]:
    """Width and height as the nearest node says that has both."""
    return _size(graph, node_id) or SIZE


def _size(graph: Graph, node_id: str) -> tuple[int, int] | None:
    node = graph[node_id]
    width, height = _integer(node, "width", 0), _integer(node, "height", 0)
    if width and height:
        return width, height
    found = (_size(graph, source) for _, source, _ in links(node))
    return next((size for size in found if size is not None), None)


def _integer(node: dict[str, Any], name: str, otherwise: int) -> int:
    value = node["inputs"].get(name)
    return value if isinstance(value, int) else otherwise


def run_order(graph: Graph, outputs: list[str], is_cached: Callable[[str], bool]) -> list[str]:
    """The nodes that must run for the outputs, each after what it needs; outputs early.

    A cached output is in it, because its result is told again; what only it needs is not.

    Raises:
        RecursionError: nodes are linked in a circle.
    """
    order: dict[str, None] = {}

    def visit(node_id: str) -> None:
        if not is_cached(node_id):
            for _, source, _ in links(graph[node_id]):
                if source not in order and not is_cached(source):
                    visit(source)
        order[node_id] = None

    for node_id in outputs:
        visit(node_id)
    return list(order)
