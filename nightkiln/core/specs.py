"""What one input of a node class takes: the same for a value in a workflow and for a column.

Definitions have the shape of ``nightkiln.nodes``: class -> its inputs, each a pair of type and
facts, its outputs' types, and whether it is an output node.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from nightkiln.core.model import Value

CHOICES_SHOWN_MAX = 8
MODEL_SUFFIXES = (
    ".safetensors",
    ".sft",
    ".ckpt",
    ".pt",
    ".pth",
    ".bin",
    ".gguf",
    ".onnx",
    ".pkl",
)
_PLAIN_KINDS = {
    "INT": "a whole number",
    "FLOAT": "a number",
    "STRING": "text",
    "BOOLEAN": "true or false",
    "COMBO": "one of a list",
}


@dataclass(frozen=True, slots=True)
class Definitions:
    """What node classes take and give, and who says so."""

    nodes: Mapping[str, Any]
    source: str  # "the stock nodes", "the nodes of http://...", for messages
    is_stock: bool = False  # no models, no uploads, no custom nodes
    models: tuple[str, ...] = ()  # paths that the environment declares
    custom_nodes: tuple[str, ...] = ()  # repositories that the environment declares

    @property
    def declared(self) -> frozenset[str]:
        """Declared models as nodes name them: ``checkpoints/a/x.pt`` is ``a/x.pt``."""
        return frozenset(path.partition("/")[2] for path in self.models)


@dataclass(frozen=True, slots=True)
class Spec:
    """What one input of a node class takes."""

    label: str  # "KSampler.steps"
    kind: str  # INT, FLOAT, STRING, BOOLEAN, COMBO, or the type of a link
    choices: tuple[Value, ...] | None = None  # None: anything goes
    only_models: bool = False  # of the values, only names of model files must be among choices
    minimum: float | None = None
    maximum: float | None = None
    is_upload: bool = False  # takes the name of an uploaded file

    @property
    def is_plain(self) -> bool:
        """Whether it takes a value; else it takes a link, or we cannot tell."""
        return self.kind in _PLAIN_KINDS

    @property
    def takes(self) -> str:
        """For messages: what would be right."""
        if self.choices is not None:
            return f"{self.label} takes {_some(self.choices)}"
        words = _PLAIN_KINDS.get(self.kind, f"a link of type {self.kind}")
        if self.minimum is not None and self.maximum is not None:
            words += f" from {self.minimum} to {self.maximum}"
        return f"{self.label} takes {words}"


def inputs_of(definitions: Definitions, class_type: str) -> dict[str, Any]:
    """Every input of a class: name -> (type, facts)."""
    sections = definitions.nodes.get(class_type, {}).get("input", {})
    return {**sections.get("optional", {}), **sections.get("required", {})}


def spec_of(definitions: Definitions, class_type: str, key: str) -> Spec | None:
    """What an input takes; None if the class is unknown or has no such input."""
    inputs = inputs_of(definitions, class_type)
    if key not in inputs:
        return None
    kind, facts = inputs[key]
    label = f"{class_type}.{key}"
    if isinstance(kind, list):
        return _choice(definitions, label, kind, facts)
    low, high = (facts.get(fact) if kind in {"INT", "FLOAT"} else None for fact in ("min", "max"))
    return Spec(
        label,
        kind,
        minimum=low if isinstance(low, int | float) else None,
        maximum=high if isinstance(high, int | float) else None,
    )


def _choice(
    definitions: Definitions, label: str, kind: list[Any], facts: Mapping[str, Any]
) -> Spec:
    is_upload = any(fact.endswith("_upload") and value for fact, value in facts.items())
    values = tuple(value for value in kind if isinstance(value, str | int | float))
    is_open = is_upload or (definitions.is_stock and not definitions.models)
    if facts.get("multiselect") or (not values and is_open):
        return Spec(label, "COMBO", is_upload=is_upload)
    choices = (*values, *sorted(definitions.declared - set(values)))
    return Spec(label, "COMBO", choices=choices, only_models=not values, is_upload=is_upload)


def value_problem(spec: Spec, value: Any, *, is_exact: bool) -> str | None:
    """What is wrong with a value for an input; None if it will do.

    ``is_exact`` is for our own values; in a workflow ComfyUI takes "64" for 64.
    """
    if not spec.is_plain:
        return None
    if value is None or isinstance(value, list | dict):
        return None if spec.kind == "COMBO" and value is not None else f"{value!r} is not a value"
    if spec.kind == "COMBO":
        return None if is_among(spec, value) else _not_in_list(spec, value)
    if is_exact and not _is_exactly(spec.kind, value):
        return f"{value!r} is not {_PLAIN_KINDS[spec.kind]}"
    return _number_problem(spec, value) if spec.kind in {"INT", "FLOAT"} else None


def _number_problem(spec: Spec, value: Any) -> str | None:
    try:
        number = float(value) if spec.kind == "FLOAT" else int(value)
    except (ValueError, OverflowError):
        return f"{value!r} is not {_PLAIN_KINDS[spec.kind]}"
    return None if is_within(spec, number) else f"{value} is out of range"


def _is_exactly(kind: str, value: Any) -> bool:
    match kind:
        case "INT":
            whole = isinstance(value, float) and value.is_integer()
            return whole or (isinstance(value, int) and not isinstance(value, bool))
        case "FLOAT":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "BOOLEAN":
            return isinstance(value, bool)
    return isinstance(value, str)


def is_within(spec: Spec, number: float) -> bool:
    """Whether a number is in an input's range; NaN never is."""
    low = spec.minimum if spec.minimum is not None else -float("inf")
    high = spec.maximum if spec.maximum is not None else float("inf")
    return low <= number <= high


def is_among(spec: Spec, value: Any) -> bool:
    """Whether a value is in an input's list, with either slash."""
    if spec.choices is None or value in spec.choices:
        return True
    if not isinstance(value, str):
        return False
    is_model = value.lower().endswith(MODEL_SUFFIXES)
    return value.replace("\\", "/") in spec.choices or (spec.only_models and not is_model)


def _not_in_list(spec: Spec, value: Any) -> str:
    near = get_close_matches(str(value), [str(one) for one in spec.choices or ()], n=1)
    return f"{value!r} is not in the list" + (f"; did you mean {near[0]!r}?" if near else "")


def _some(values: Collection[Value]) -> str:
    shown = ", ".join(repr(value) for value in list(values)[:CHOICES_SHOWN_MAX])
    more = len(values) - CHOICES_SHOWN_MAX
    return (shown or "nothing here") + (f" and {more} more" if more > 0 else "")


def choice_fix(spec: Spec, definitions: Definitions) -> str:
    """What to do about a value that is not in a list."""
    if spec.is_upload:
        return "a workflow cannot bring files along: bind it with kind: file"
    listed = [str(choice).lower() for choice in spec.choices or ()]
    if not spec.only_models and not any(name.endswith(MODEL_SUFFIXES) for name in listed):
        return spec.takes
    put = "" if definitions.is_stock else "put the file on the worker, or "
    return f"{spec.takes}; {put}declare it under environment.models"
