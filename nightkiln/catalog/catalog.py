"""A catalog that has been read: frozen, checked for shape, not yet for content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.model import Graph, Need, Trust, Value
from nightkiln.core.plan import SeedRule
from nightkiln.core.workflow import Template
from nightkiln.ports.blobs import Blobs

if TYPE_CHECKING:
    import duckdb

CATALOG_FILE = "catalog.yaml"
SEED_INPUTS = frozenset({"seed", "noise_seed"})  # what stock samplers call it


@dataclass(frozen=True, slots=True)
class CatalogInput:
    """One entry under ``inputs``: where a column, or a constant, goes."""

    name: str
    to: tuple[str, ...]
    default: Value | None = None  # never a seed rule's word
    is_file: bool = False
    seed_rule: SeedRule = SeedRule.GIVEN
    is_constant: bool = False  # overridden: a column of this name is not read


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model that the workflow reads, below ComfyUI's models folder."""

    path: str
    url: str | None = None
    sha256: str | None = None
    gb: float | None = None  # to download; None: the catalog does not say
    file: Path | None = None  # here, to be sent to each machine; there, or told when it was read


@dataclass(frozen=True, slots=True)
class Environment:
    """What the pixels depend on beside the workflow."""

    comfyui: str | None = None
    custom_nodes: tuple[tuple[str, str], ...] = ()  # (repo, ref)
    models: tuple[ModelFile, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 over versions and checksums; where a model comes from does not matter."""
        return digest_of(
            {
                "comfyui": self.comfyui,
                "custom_nodes": sorted(self.custom_nodes),
                "models": sorted([model.path, model.sha256 or ""] for model in self.models),
            }
        )


@dataclass(frozen=True, slots=True)
class Prompts:
    """Where the rows come from: a path, glob or URI of Parquet, or a query."""

    path: str | None = None
    sql: str | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """A store as a catalog may use it: its views in queries, its pictures as input files."""

    attach: Callable[[duckdb.DuckDBPyConnection, str], None]  # the views, under that name
    blobs: Blobs
    folder: Path | None  # where the blobs lie, if that is a local folder


@dataclass(frozen=True, slots=True)
class Catalog:
    """A folder with prompts, a workflow, and what joins them."""

    folder: Path
    name: str
    prompts: Prompts
    workflow: str  # file name, for messages
    inputs: tuple[CatalogInput, ...]  # sorted by name
    graph: Graph
    template: Template
    variants: int = 1
    need: Need = field(default_factory=Need)
    environment: Environment = field(default_factory=Environment)
    is_private: bool = False  # which is also in ``need.trust``
    reuse: str = "store"  # store | never
    blank: str = "fault"  # fault | allow
    decode: str = "all"  # all | sample
    limit: int | None = None  # only the first rows
    rows: tuple[int, ...] | None = None  # of those only these, by number; each is there
    select: str | None = None  # a query that gives the rows instead; it may ask ``prompts``
    past: Past | None = field(default=None, compare=False, repr=False)

    @property
    def seed(self) -> CatalogInput | None:
        """The input that variants count up, if the catalog binds one."""
        derived = [item for item in self.inputs if item.seed_rule is not SeedRule.GIVEN]
        named = [item for item in self.inputs if seed_targets(item)]
        return next(iter(derived + named), None)

    def with_limit(self, limit: int | None) -> Catalog:
        """The same catalog, of which only the first ``limit`` rows count."""
        return replace(self, limit=limit)

    def with_trust(self, trust: Trust) -> Catalog:
        """The same catalog, which asks at least so much of who runs its machines."""
        if Trust(self.need.trust).is_enough(trust):
            return self
        return replace(self, need=replace(self.need, trust=trust.value))

    def with_rows(self, rows: Sequence[int]) -> Catalog:
        """The same catalog, of which only the rows of these numbers count."""
        return replace(self, rows=tuple(rows))

    def with_overrides(self, overrides: Mapping[str, Value]) -> Catalog:
        """The same catalog with some inputs held constant for every row, whatever columns say.

        A text is read as the kind of value that it replaces, so a command line can pass
        ``steps=4`` as it stands.

        Raises:
            BadInput: there is no such input, or the text is no such value.
        """
        inputs = {item.name: item for item in self.inputs}
        problems = []
        for name, value in overrides.items():
            if name not in inputs:
                problems.append(self._unknown_input(name))
                continue
            changed = _overridden(inputs[name], value, self._kind(inputs[name]))
            if isinstance(changed, Problem):
                problems.append(changed)
            else:
                inputs[name] = changed
        if problems:
            raise BadInput(problems)
        return replace(self, inputs=tuple(inputs.values()))

    def _unknown_input(self, name: str) -> Problem:
        names = [item.name for item in self.inputs]
        near = get_close_matches(name, names, n=1)
        fix = f"did you mean {near[0]}?" if near else f"inputs: {', '.join(names)}"
        return Problem(f"--set {name}", f"{CATALOG_FILE} has no such input", fix)

    def _kind(self, item: CatalogInput) -> type:
        """The type of what stands in the workflow now; text where nothing does."""
        graph = self.template.graph
        targets = self.template.targets.get(item.name, ())
        return next((type(graph[node]["inputs"][key]) for node, key in targets), str)


def _overridden(item: CatalogInput, value: Value, kind: type) -> CatalogInput | Problem:
    if isinstance(value, str) and value in set(SeedRule) - {SeedRule.GIVEN}:
        return replace(item, default=None, seed_rule=SeedRule(value), is_constant=True)
    if isinstance(value, str) and kind in {bool, int, float} and not item.is_file:
        parsed = _parsed(value, kind)
        if parsed is None:
            what = f"{value!r} is not {'true or false' if kind is bool else 'a number'}"
            return Problem(f"--set {item.name}", what, "the workflow has such a value there")
        value = parsed
    return replace(item, default=value, seed_rule=SeedRule.GIVEN, is_constant=True)


def _parsed(text: str, kind: type) -> Value | None:
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower())
    try:
        number = float(text)
        exact = int(text) if number.is_integer() and text.lstrip("+-").isdigit() else number
    except ValueError:
        return None
    return exact if isfinite(number) else None


def seed_targets(item: CatalogInput) -> bool:
    """Whether the input goes where samplers take their seed."""
    return any(selector.rpartition(".")[2] in SEED_INPUTS for selector in item.to)


def digest_of(value: object) -> str:
    """sha256 hex over a value's one JSON spelling."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
