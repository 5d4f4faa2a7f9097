"""Reads catalog.yaml and its workflow; finds everything that is wrong with them at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from nightkiln.catalog.catalog import (
    CATALOG_FILE,
    Catalog,
    CatalogInput,
    Environment,
    ModelFile,
    Prompts,
    seed_targets,
)
from nightkiln.catalog.models import local_model
from nightkiln.catalog.schema import CatalogFile, EnvironmentEntry, InputEntry, keys_at
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.graph import WORKFLOW_BYTES_MAX, broken_links
from nightkiln.core.model import Graph, Need, Trust
from nightkiln.core.plan import SeedRule
from nightkiln.core.workflow import Binding, Template, parse, resolve

CATALOG_BYTES_MAX = 2**20
_RULES = {rule.value: rule for rule in SeedRule if rule is not SeedRule.GIVEN}
_NO_TEMPLATE = Template({}, {})  # stands in where there are problems to tell


def load_catalog(folder: Path) -> Catalog:
    """The catalog in ``folder``: complete in shape; what its rows hold is preflight's to see.

    Raises:
        BadInput: with every problem found in catalog.yaml, the workflow and the bindings.
    """
    catalog, problems = read_catalog(folder)
    if catalog is None or problems:
        raise BadInput(problems)
    return catalog


def read_catalog(folder: Path) -> tuple[Catalog | None, list[Problem]]:
    """What can be read of the catalog, and what is wrong with it.

    The catalog is None if catalog.yaml cannot be read; beside problems it holds the bindings
    that are good, so that preflight can go on to the rows.
    """
    if folder.name == CATALOG_FILE:
        folder = folder.parent
    try:
        entries = _validated(_yaml(folder / CATALOG_FILE))
    except BadInput as error:
        return None, list(error.problems)
    inputs = tuple(_input(name, entries.inputs[name]) for name in sorted(entries.inputs))
    graph, problems = _graph(folder, entries.workflow)
    template, wrong = _template(graph, entries.workflow, inputs) if graph else (_NO_TEMPLATE, [])
    environment, missing = _environment(folder, entries.environment)
    catalog = Catalog(
        folder=folder.absolute(),
        name=entries.name,
        prompts=Prompts(entries.prompts.path, entries.prompts.sql),
        workflow=entries.workflow,
        inputs=inputs,
        graph=graph,
        template=template,
        variants=entries.variants.seeds,
        need=_need(entries),
        environment=environment,
        is_private=entries.private,
        reuse=entries.reuse,
        blank=entries.verify.blank,
        decode=entries.verify.decode,
    )
    return catalog, [*problems, *wrong, *missing, *_seed_problems(catalog)]


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key that stands twice is an error, not a silent loss."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.value in seen and isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key.value!r} stands here twice", key.start_mark
            )
        seen.add(str(key.value))
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _yaml(path: Path) -> Mapping[Any, Any]:
    text = _text(path, bytes_max=CATALOG_BYTES_MAX, fix="nightkiln init makes a catalog")
    try:
        found = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader with one check more
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path.name} line {mark.line + 1}" if mark is not None else path.name
        what = str(getattr(error, "problem", None) or error)
        raise BadInput([Problem(where, f"not YAML: {what}")]) from error
    if not isinstance(found, Mapping):
        raise BadInput([Problem(path.name, "is not a mapping of keys", "see catalogs/demo")])
    return found


def _text(path: Path, *, bytes_max: int, fix: str) -> str:
    """The text of a file of the catalog, within bounds."""
    try:
        if path.stat().st_size > bytes_max:
            what = f"is larger than {bytes_max // 2**20} MiB"
            raise BadInput([Problem(str(path), what, "this is not such a file")])
        return path.read_text(encoding="utf-8")
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise BadInput([Problem(str(path), what, fix)]) from error
    except UnicodeDecodeError as error:
        raise BadInput([Problem(str(path), "is not UTF-8 text", fix)]) from error


def _validated(found: Mapping[Any, Any]) -> CatalogFile:
    try:
        return CatalogFile.model_validate(dict(found))
    except ValidationError as error:
        raise BadInput([_problem(one) for one in error.errors(include_url=False)]) from error


def _problem(error: Mapping[str, Any]) -> Problem:
    """Pydantic's finding in the words of the file."""
    loc = tuple(error["loc"])
    where = f"{CATALOG_FILE}: " + (".".join(str(part) for part in loc) or "the whole")
    match error["type"]:
        case "extra_forbidden":
            known = keys_at(loc[:-1])
            near = get_close_matches(str(loc[-1]), known, n=1)
            fix = f"did you mean {near[0]}?" if near else f"keys here: {', '.join(known)}"
            return Problem(where, "there is no such key", fix)
        case "missing":
            return Problem(where, "is missing", "nightkiln schema catalog shows every key")
        case "string_type":
            return Problem(where, "must be a text", "put it in quotes")
    return Problem(where, str(error["msg"]).removeprefix("Value error, "))


def _input(name: str, entry: InputEntry) -> CatalogInput:
    rule = _RULES.get(entry.default) if isinstance(entry.default, str) else None
    return CatalogInput(
        name=name,
        to=entry.to,
        default=None if rule is not None else entry.default,
        is_file=entry.kind == "file",
        seed_rule=rule if rule is not None else SeedRule.GIVEN,
    )


def _need(entries: CatalogFile) -> Need:
    """What is private is for datacenters at least."""
    need = Need(**entries.needs.model_dump())
    return replace(need, trust=Trust.DATACENTER.value) if entries.private else need


def _environment(folder: Path, entry: EnvironmentEntry) -> tuple[Environment, list[Problem]]:
    """With size and digest of every model that lies here, and what is wrong with those."""
    models, problems = [], []
    for number, model in enumerate(entry.models):
        found = ModelFile(model.path, model.url, model.sha256, model.gb)
        if model.file is not None:
            where = f"{CATALOG_FILE}: environment.models.{number}.file"
            local = local_model(found, folder / model.file, where=where)
            problems += [local] if isinstance(local, Problem) else []
            found = found if isinstance(local, Problem) else local
        models.append(found)
    nodes = tuple((node.repo, node.ref) for node in entry.custom_nodes)
    return Environment(entry.comfyui, nodes, tuple(models)), problems


def _graph(folder: Path, workflow: str) -> tuple[Graph, list[Problem]]:
    try:
        fix = "in ComfyUI: Workflow > Export (API), and save it there"
        text = _text(folder / workflow, bytes_max=WORKFLOW_BYTES_MAX, fix=fix)
        return parse(text, where=workflow), []
    except BadInput as error:
        return {}, list(error.problems)


def _template(
    graph: Graph, workflow: str, inputs: tuple[CatalogInput, ...]
) -> tuple[Template, list[Problem]]:
    """The graph with those bindings that are good, and what is wrong with the others."""
    bindings = {item.name: Binding(item.to, is_file=item.is_file) for item in inputs}
    _, problems = resolve(graph, bindings, where=CATALOG_FILE)
    broken = broken_links(graph, where=workflow)
    if not problems and not broken:
        return Template(graph, bindings), []
    good: dict[str, Binding] = {}
    for name, binding in bindings.items():
        if not resolve(graph, {**good, name: binding}, where="")[1]:
            good[name] = binding
    return _NO_TEMPLATE if broken else Template(graph, good), problems + broken


def _seed_problems(catalog: Catalog) -> Iterator[Problem]:
    seeds = [item for item in catalog.inputs if item.seed_rule is not SeedRule.GIVEN]
    for item in seeds:
        where = f"{CATALOG_FILE}: inputs.{item.name}"
        if item.is_file:
            yield Problem(where, "a file cannot be derived", "give a path, or leave default out")
        if item is not seeds[0]:
            what = f"{seeds[0].name} is the seed already"
            fix = f"bind one seed to both: inputs.{seeds[0].name}: {{to: [...]}}"
            yield Problem(where, what, fix)
    given = [item.name for item in catalog.inputs if seed_targets(item)]
    if catalog.variants > 1 and not seeds and len(given) != 1:
        what = "variants need one seed input to count up" + (
            f"; there are {given}" if given else ""
        )
        fix = 'add: seed: {to: "KSampler.seed", default: derived}'
        yield Problem(f"{CATALOG_FILE}: variants", what, fix)
