"""Proposes what a catalog binds: reads a workflow the way its author would explain it.

Pure. ``nightkiln init`` writes the proposal down; a human may change it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from nightkiln.catalog.catalog import SEED_INPUTS
from nightkiln.catalog.columns import is_plain
from nightkiln.core.graph import link, title
from nightkiln.core.model import Graph, Value
from nightkiln.core.specs import MODEL_SUFFIXES, Definitions, spec_of
from nightkiln.core.workflow import IGNORED_INPUTS, Target, select

PROMPT_COLUMNS = ("prompt", "positive_prompt", "positive", "text", "caption", "description")
NEGATIVE_COLUMNS = ("negative", "negative_prompt")
# What an encoder calls its text: one input, or several that say the same.
TEXT_INPUTS = (("text",), ("text_g", "text_l"), ("clip_l", "t5xxl"), ("prompt",))
# Worth changing for one run with --set, where the workflow has exactly one of it.
SETTINGS = {"checkpoint": "ckpt_name", "width": "width", "height": "height", "steps": "steps"}
NOT_COLUMNS = IGNORED_INPUTS | {"id"}  # never bound for their name alone
MODEL_FOLDERS = {
    "ckpt_name": "checkpoints",
    "lora_name": "loras",
    "vae_name": "vae",
    "unet_name": "diffusion_models",
    "control_net_name": "controlnet",
    "style_model_name": "style_models",
    "model_name": "upscale_models",
} | {f"clip_name{number}": "text_encoders" for number in ("", "1", "2", "3", "4")}


@dataclass(frozen=True, slots=True)
class Proposed:
    """One entry for ``inputs``."""

    name: str
    to: tuple[str, ...]  # selectors
    default: Value | None = None
    is_file: bool = False
    why: str = ""  # for the comment beside it


@dataclass(frozen=True, slots=True)
class _Proposer:
    graph: Graph
    columns: Mapping[str, str]  # name -> DuckDB type
    definitions: Definitions


def propose(
    graph: Graph, columns: Mapping[str, str], definitions: Definitions
) -> tuple[Proposed, ...]:
    """What to bind: prompt, negative, seed, columns that are named like an input, settings."""
    proposer = _Proposer(graph, columns, definitions)
    found: list[Proposed] = []
    taken: set[Target] = set()
    for name, targets, proposed in _candidates(proposer):
        is_free = bool(targets) and not taken & set(targets)
        if is_free and name.lower() not in {one.name.lower() for one in found}:
            taken |= set(targets)
            found.append(proposed)
    return tuple(found)


def _candidates(proposer: _Proposer) -> Iterator[tuple[str, list[Target], Proposed]]:
    """Everything that may be bound, the surest first."""
    graph, columns = proposer.graph, proposer.columns
    positive = _texts(graph, "positive")
    prompt = _column(columns, PROMPT_COLUMNS) or _only_text(columns)
    if prompt is not None:
        yield _entry(graph, prompt, positive, why="the text that the picture is made from")
    negative = [target for target in _texts(graph, "negative") if target not in positive]
    name = _column(columns, NEGATIVE_COLUMNS) or NEGATIVE_COLUMNS[0]
    yield _entry(graph, name, negative, default=_value(graph, negative), why="what to avoid")
    seeds = [
        (node, key)
        for node, body in graph.items()
        for key, value in body["inputs"].items()
        if key in SEED_INPUTS and isinstance(value, int)
    ]
    yield _entry(graph, "seed", seeds, default="derived", why="follows from the row")
    for name, kind in columns.items():
        yield from _named_like_an_input(proposer, name, kind)
    for name, key in SETTINGS.items():
        one = _single(graph, key)
        yield _entry(
            graph, name, one, default=_value(graph, one), why=f"--set {name}=... changes it"
        )


def _entry(
    graph: Graph, name: str, targets: list[Target], *, default: Value | None = None, why: str = ""
) -> tuple[str, list[Target], Proposed]:
    selectors = tuple(selector(graph, target) for target in targets)
    return name, targets, Proposed(name, selectors, default, why=why)


def _column(columns: Mapping[str, str], names: Iterable[str]) -> str | None:
    by_name = {column.lower(): column for column in columns}
    return next((by_name[name] for name in names if name in by_name), None)


def _only_text(columns: Mapping[str, str]) -> str | None:
    texts = [name for name, kind in columns.items() if kind == "VARCHAR"]
    return texts[0] if len(texts) == 1 else None


def _named_like_an_input(
    proposer: _Proposer, name: str, kind: str
) -> Iterator[tuple[str, list[Target], Proposed]]:
    graph = proposer.graph
    targets = _single(graph, SETTINGS.get(name.lower(), name.lower()))
    if name.lower() in NOT_COLUMNS or not targets:
        return
    ((node, key),) = targets
    value = graph[node]["inputs"][key]
    spec = spec_of(proposer.definitions, str(graph[node]["class_type"]), key)
    if spec is not None and spec.is_upload:
        proposed = Proposed(name, (selector(graph, targets[0]),), is_file=True, why="input files")
        yield name, targets, proposed
    elif is_plain(kind) is not isinstance(value, str):
        yield _entry(graph, name, targets, default=value, why="a column of that name")


def _single(graph: Graph, key: str) -> list[Target]:
    """The one node input of this name that holds a value; none if there are several."""
    found = [
        (node, key)
        for node, body in graph.items()
        if isinstance(body["inputs"].get(key), str | int | float)
    ]
    latents = [(node, key) for node, key in found if "Latent" in graph[node]["class_type"]]
    for some in (found, latents):  # a picture's size is its latent's, whatever is scaled later
        if len(some) == 1:
            return some
    return []


def _value(graph: Graph, targets: list[Target]) -> Value | None:
    value = next((graph[node]["inputs"][key] for node, key in targets), None)
    return value if isinstance(value, str | int | float) else None


def _texts(graph: Graph, side: str) -> list[Target]:
    """Where the text of one side (positive, negative) of the samplers is written."""
    starts = [
        source[0]
        for body in graph.values()
        if "latent_image" in body["inputs"] or "guider" in body["inputs"]
        if (source := link(body["inputs"].get(side, body["inputs"].get("guider")))) is not None
    ]
    for start in starts:
        if (found := _nearest_text(graph, start, side)) and _may_be(graph, found, side):
            return found
    named = [
        (node, "text")
        for node, body in graph.items()
        if isinstance(body["inputs"].get("text"), str) and side in title(graph, node).lower()
    ]
    return named if len(named) == 1 else []


def _may_be(graph: Graph, found: list[Target], side: str) -> bool:
    """A guider has one side only; the other must not be read into it."""
    return side == "positive" or "positive" not in title(graph, found[0][0]).lower()


def _nearest_text(graph: Graph, start: str, side: str) -> list[Target]:
    """The first node upstream, nearest first, that holds a text."""
    waiting, seen = [start], set[str]()
    while waiting:
        node = waiting.pop(0)
        if node in seen or node not in graph:
            continue
        seen.add(node)
        inputs = graph[node]["inputs"]
        for keys in TEXT_INPUTS:
            if all(isinstance(inputs.get(key), str) for key in keys):
                return [(node, key) for key in keys]
        # A node with both sides passes each on: stay on ours.
        ahead = [inputs[side]] if side in inputs else list(inputs.values())
        waiting += [source[0] for value in ahead if (source := link(value)) is not None]
    return []


def selector(graph: Graph, target: Target) -> str:
    """The friendliest selector that names an input: by title, else class, else id."""
    node, key = target
    names = (title(graph, node), str(graph[node]["class_type"]), node)
    fitting = (f"{name}.{key}" for name in names if select(graph, f"{name}.{key}") == target)
    return next(fitting, f"{node}.{key}")


def models(graph: Graph, definitions: Definitions) -> tuple[str, ...]:
    """The model files that a workflow names, below ComfyUI's models folder."""
    found: dict[str, None] = {}  # in the workflow's order, each once
    for body in graph.values():
        for key, value in body["inputs"].items():
            spec = spec_of(definitions, str(body["class_type"]), key)
            is_choice = spec is None or spec.kind == "COMBO"
            if is_choice and isinstance(value, str) and value.lower().endswith(MODEL_SUFFIXES):
                folder = MODEL_FOLDERS.get(key, key.removesuffix("_name"))
                found[f"{folder}/{value}".replace("\\", "/")] = None
    return tuple(found)
