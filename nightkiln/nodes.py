"""Node definitions: what ComfyUI's node classes take and give, reduced to the facts.

The shape is that of ComfyUI's own ``/object_info``, without its prose::

    {"KSampler": {"input": {"required": {"steps": ["INT", {"default": 20, "min": 1, "max": 10000}],
                                         "scheduler": [["simple", "karras"], {}],
                                         "model": ["MODEL", {}]},
                            "optional": {}},
                  "output": ["LATENT"], "output_node": false}}

An input is always a pair ``[type, facts]``; a choice has the list of its values as its type. An
empty list means that the values depend on the machine (model files, uploads), so that any value
may be right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

ANY_TYPE = "*"  # ComfyUI's own word for an input that takes whatever is linked to it
FACTS = (
    "default",
    "min",
    "max",
    "multiselect",
    "forceInput",
    "image_upload",
    "audio_upload",
    "video_upload",
    "file_upload",
)


@cache
def _shipped() -> str:
    return resources.files("nightkiln").joinpath("data/nodes.json").read_text(encoding="utf-8")


def stock_definitions() -> dict[str, Any]:
    """The definitions of a ComfyUI 0.3.75 without models, uploads or custom nodes.

    A fresh copy with each call, so that a caller may add to it.
    """
    definitions: dict[str, Any] = json.loads(_shipped())
    return definitions


def compact(object_info: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce a reply of ``/object_info`` to the facts; idempotent.

    The reply comes from a worker, so nothing in it is trusted to have a shape: a class that is
    no object is left out, an input that cannot be read takes anything.
    """
    return {
        str(name): _compact_class(definition)
        for name, definition in object_info.items()
        if isinstance(definition, Mapping)
    }


def _compact_class(definition: Mapping[str, Any]) -> dict[str, Any]:
    sections = _mapping(definition.get("input"))
    output = definition.get("output")
    return {
        "input": {
            section: {
                str(name): _compact_input(spec)
                for name, spec in _mapping(sections.get(section)).items()
            }
            for section in ("required", "optional")
        },
        "output": [_type_name(kind) for kind in output] if isinstance(output, list) else [],
        "output_node": definition.get("output_node") is True,
    }


def _compact_input(spec: Any) -> list[Any]:
    if not isinstance(spec, list) or not spec:
        return [ANY_TYPE, {}]
    kind, details = spec[0], _mapping(spec[1] if len(spec) > 1 else None)
    if kind == "COMBO":  # the newer way to write a choice; both mean the same
        kind = details.get("options")
        kind = kind if isinstance(kind, list) else []
    if not isinstance(kind, list):
        kind = _type_name(kind)
    return [kind, {fact: details[fact] for fact in FACTS if fact in details}]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _type_name(kind: Any) -> str:
    if isinstance(kind, list):
        return "COMBO"
    return kind if isinstance(kind, str) else ANY_TYPE
