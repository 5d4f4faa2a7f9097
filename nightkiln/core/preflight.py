"""A workflow against node definitions, before anything is rendered."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches

from nightkiln.core.errors import Problem
from nightkiln.core.graph import describe, link, upstream
from nightkiln.core.model import Graph
from nightkiln.core.specs import (
    Definitions,
    Spec,
    choice_fix,
    inputs_of,
    spec_of,
    value_problem,
)
from nightkiln.core.workflow import Target

_EXPORT_AGAIN = "correct it in ComfyUI and export again"
_SAVE_DEFINITIONS = "nightkiln object-info save --worker-url URL -o nodes.json beside catalog.yaml"
_NEVER_A_VALUE = frozenset(
    {"CLIP", "CLIP_VISION", "CONDITIONING", "CONTROL_NET", "IMAGE", "LATENT", "MASK", "MODEL"}
    | {"GUIDER", "NOISE", "SAMPLER", "SIGMAS", "STYLE_MODEL", "VAE"}
)  # other types may be a custom node's own widgets


def graph_problems(
    graph: Graph, definitions: Definitions, *, where: str, bound: Collection[Target] = ()
) -> list[Problem]:
    """Everything in a workflow that a worker with these definitions would refuse.

    Values of ``bound`` inputs are not looked at: rows replace them. Links to nowhere and circles
    are found when the workflow is read.
    """
    unknown = [node for node in graph if graph[node]["class_type"] not in definitions.nodes]
    problems = [_unknown(graph, node, definitions, where) for node in unknown]
    outputs = [
        node
        for node in graph
        if definitions.nodes.get(graph[node]["class_type"], {}).get("output_node")
    ]
    if not outputs and not unknown:
        fix = "add a Save Image node, and export again"
        problems.append(Problem(where, "has no output node: nothing would be saved", fix))
    # ComfyUI looks only at what its outputs need; a class we do not know may be one.
    needed = upstream(graph, outputs) if outputs and not unknown else set(graph)
    for node in graph:
        if node in needed and node not in unknown:
            problems += _node_problems(graph, node, definitions, where=where, bound=bound)
    for node, key in bound:
        if node not in needed:
            what = f"nothing is made from {describe(graph, node)}, so its {key!r} changes nothing"
            problems.append(Problem(where, what, "connect it, or leave the binding out"))
    return problems


def _unknown(graph: Graph, node: str, definitions: Definitions, where: str) -> Problem:
    kind = str(graph[node]["class_type"])
    near = get_close_matches(kind, definitions.nodes, n=1, cutoff=0.8)
    if not definitions.is_stock:
        fix = "install the custom node that brings it"
    elif definitions.custom_nodes:
        fix = f"your custom nodes are not stock: {_SAVE_DEFINITIONS}"
    else:
        fix = f"declare what brings it under environment.custom_nodes, and {_SAVE_DEFINITIONS}"
    return Problem(
        f"{where} {describe(graph, node)}",
        f"the node class {kind!r} is not among {definitions.source}",
        (f"did you mean {near[0]!r}? else " if near else "") + fix,
    )


def _node_problems(
    graph: Graph, node: str, definitions: Definitions, *, where: str, bound: Collection[Target]
) -> Iterator[Problem]:
    body = graph[node]
    place = f"{where} {describe(graph, node)}"
    required = definitions.nodes[body["class_type"]].get("input", {}).get("required", {})
    for key, (kind, _) in required.items():
        if key not in body["inputs"] and not _is_dynamic(kind):
            spec = spec_of(definitions, body["class_type"], key)
            fix = f"{spec.takes}; {_EXPORT_AGAIN}" if spec is not None else _EXPORT_AGAIN
            yield Problem(place, f"the input {key!r} is missing", fix)
    for key, value in body["inputs"].items():
        spec = spec_of(definitions, body["class_type"], key)
        if spec is None or (node, key) in bound:
            continue
        if (source := link(value)) is not None:
            yield from _link_problems(graph, spec, source, definitions, place=f"{place} {key}")
        elif spec.kind in _NEVER_A_VALUE:
            yield Problem(
                f"{place} {key}", f"{value!r} is not a link", f"{spec.takes}; {_EXPORT_AGAIN}"
            )
        elif (what := value_problem(spec, value, is_exact=False)) is not None:
            fix = choice_fix(spec, definitions) if spec.kind == "COMBO" else spec.takes
            yield Problem(f"{place} {key}", what, fix)


def _link_problems(
    graph: Graph, spec: Spec, source: tuple[str, int], definitions: Definitions, *, place: str
) -> Iterator[Problem]:
    node, slot = source
    if node not in graph or graph[node]["class_type"] not in definitions.nodes:
        return  # told elsewhere
    given = definitions.nodes[graph[node]["class_type"]].get("output", [])
    origin = describe(graph, node)
    if not 0 <= slot < len(given):
        what = f"is linked to output {slot} of {origin}, which has {len(given)}"
        yield Problem(place, what, f"outputs count from 0; {_EXPORT_AGAIN}")
    elif not _fits(given[slot], spec.kind):
        what = f"takes {spec.kind}, and output {slot} of {origin} gives {given[slot]}"
        yield Problem(place, what, _EXPORT_AGAIN)


def _fits(given: str, taken: str) -> bool:
    """Whether an output may feed an input; both may list types, ``*`` is any."""
    if "*" in {given, taken} or taken == "COMBO" or _is_dynamic(given) or _is_dynamic(taken):
        return True
    return bool(_types(given) & _types(taken))


def _is_dynamic(kind: object) -> bool:
    """Whether a type stands for inputs that grow or match; their parts have names of their own."""
    return str(kind).startswith("COMFY_")


def _types(kinds: str) -> set[str]:
    return {kind.strip() for kind in kinds.split(",")}


def binding_problems(
    graph: Graph,
    targets: Iterable[Target],
    definitions: Definitions,
    *,
    where: str,
    is_file: bool,
) -> Iterator[Problem]:
    """Bindings into inputs that take no such thing."""
    for node, key in targets:
        kind = str(graph[node]["class_type"])
        if kind not in definitions.nodes:
            continue
        spec = spec_of(definitions, kind, key)
        grows = any(_is_dynamic(one) for one, _ in inputs_of(definitions, kind).values())
        if spec is None and not grows:
            known = ", ".join(inputs_of(definitions, kind))
            what = f"{kind} takes no input {key!r}"
            yield Problem(where, what, f"it takes: {known}")
        elif spec is not None and is_file and not spec.is_upload and spec.kind != "*":
            fix = "bind a file to a node that loads one, such as LoadImage.image"
            yield Problem(where, f"{spec.takes}, not a file", fix)
