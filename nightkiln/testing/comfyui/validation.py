"""Checks a graph as ComfyUI does before it queues it, with the same replies."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from nightkiln.nodes import ANY_TYPE
from nightkiln.testing.comfyui.definitions import UPLOADED

Reason: TypeAlias = dict[str, Any]

LIST_TOLD_MAX = 20  # a longer list of choices is not repeated in a reply
_CONVERTED: dict[str, Callable[[Any], Any]] = {
    "INT": int,
    "FLOAT": float,
    "STRING": str,
    "BOOLEAN": bool,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may run, and what is wrong with the rest."""

    outputs: list[str]
    error: Reason | None = None  # why nothing may run
    node_errors: dict[str, Any] = field(default_factory=dict)


def validate(
    graph: Any,
    definitions: dict[str, Any],
    has_upload: Callable[[str], bool],
    *,
    targets: Collection[str] | None = None,
) -> Verdict:
    """Check every output node and what it depends on; numbers in the graph are converted.

    Raises whatever Python raises for a graph of an impossible shape: ComfyUI answers 500.
    """
    candidates = []
    for node_id in graph:
        node = graph[node_id]
        if "class_type" not in node:
            message = "Cannot execute because a node is missing the class_type property."
            return _impossible("invalid_prompt", message, f"Node ID '#{node_id}'")
        definition = definitions.get(node["class_type"])
        if definition is None:
            message = f"Cannot execute because node {node['class_type']} does not exist."
            return _impossible("invalid_prompt", message, f"Node ID '#{node_id}'")
        if definition["output_node"] and (targets is None or node_id in targets):
            candidates.append(node_id)
    if not candidates:
        return _impossible("prompt_no_outputs", "Prompt has no outputs", "")
    return _Validator(graph, definitions, has_upload).outputs(candidates)


def _impossible(kind: str, message: str, details: str) -> Verdict:
    return Verdict([], _reason(kind, message, details))


def _reason(kind: str, message: str, details: str, **extra: Any) -> Reason:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


class _Wrong(Exception):
    """One input is wrong."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason["message"])
        self.reason = reason


class _Validator:
    """Goes through one graph; every node is judged once."""

    def __init__(
        self, graph: Any, definitions: dict[str, Any], has_upload: Callable[[str], bool]
    ) -> None:
        self._graph, self._definitions, self._has_upload = graph, definitions, has_upload
        self._judged: dict[str, tuple[bool, list[Reason]]] = {}

    def outputs(self, candidates: list[str]) -> Verdict:
        good: list[str] = []
        node_errors: dict[str, Any] = {}
        details: list[str] = []
        for output in candidates:
            try:
                is_good, reasons = self._node(output)
            except Exception as error:  # noqa: BLE001 - ComfyUI tells the client of any
                is_good, reasons = False, [_exception("exception_during_validation", "", error)]
                self._judged[output] = (False, reasons)
            if is_good:
                good.append(output)
                continue
            details += [f"{reason['message']}: {reason['details']}" for reason in reasons]
            self._tell(output, node_errors)
        if good:
            return Verdict(good, None, node_errors)
        message = "Prompt outputs failed validation"
        failed = _reason("prompt_outputs_failed_validation", message, "\n".join(details))
        return Verdict([], failed, node_errors)

    def _tell(self, output: str, node_errors: dict[str, Any]) -> None:
        """Every node found wrong so far is said to concern this output."""
        for node_id, (is_good, reasons) in self._judged.items():
            if is_good or not reasons:
                continue
            kind = self._graph[node_id]["class_type"]
            told = node_errors.setdefault(
                node_id, {"errors": reasons, "dependent_outputs": [], "class_type": kind}
            )
            told["dependent_outputs"].append(output)

    def _node(self, node_id: str) -> tuple[bool, list[Reason]]:
        if node_id in self._judged:
            return self._judged[node_id]
        inputs, kind = self._graph[node_id]["inputs"], self._graph[node_id]["class_type"]
        sections = self._definitions[kind]["input"]
        reasons: list[Reason] = []
        is_good = True
        for name, spec in (sections["required"] | sections["optional"]).items():
            try:
                if name not in inputs:
                    reasons += [_missing(name)] if name in sections["required"] else []
                elif isinstance(inputs[name], list):
                    is_good = self._link(name, spec, inputs[name]) and is_good
                else:
                    self._literal(name, spec, inputs, kind)
            except _Wrong as wrong:
                reasons.append(wrong.reason)
        self._judged[node_id] = (is_good and not reasons, reasons)
        return self._judged[node_id]

    def _link(self, name: str, spec: list[Any], value: list[Any]) -> bool:
        """Whether what it is linked to is good."""
        if len(value) != 2:  # noqa: PLR2004 - node id, slot
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            extra = {"input_name": name, "input_config": spec, "received_value": value}
            raise _Wrong(_reason("bad_linked_input", message, name, **extra))
        source, slot = value
        received = tuple(self._definitions[self._graph[source]["class_type"]]["output"])[slot]
        if not _is_accepted(received, spec[0]):
            message = "Return type mismatch between linked nodes"
            details = f"{name}, received_type({received}) mismatch input_type({spec[0]})"
            extra = {"input_name": name, "input_config": spec, "received_type": received}
            reason = _reason("return_type_mismatch", message, details, **extra)
            reason["extra_info"]["linked_node"] = value
            raise _Wrong(reason)
        try:
            return self._node(source)[0]
        except Exception as error:  # noqa: BLE001 - ComfyUI tells the client of any
            reason = _exception("exception_during_inner_validation", name, error)
            reason["extra_info"] |= {"input_config": spec, "linked_node": value}
            self._judged[source] = (False, [reason])
            return False

    def _literal(self, name: str, spec: list[Any], inputs: dict[str, Any], kind: str) -> None:
        type_, facts = spec
        value = inputs[name]
        if isinstance(value, dict) and "__value__" in value:
            value = inputs[name] = value["__value__"]
        if isinstance(type_, str) and type_ in _CONVERTED:
            value = inputs[name] = _converted(name, spec, value)
        if kind in UPLOADED and UPLOADED[kind][0] == name:
            if not self._has_upload(value):
                message = "Custom validation failed for node"
                details = f"{name} - Invalid {UPLOADED[kind][1]} file: {value}"
                raise _Wrong(_reason("custom_validation_failed", message, details, input_name=name))
            return
        _check_range(name, spec, value)
        # A choice of the newer kind is looked at only when the node runs.
        if isinstance(type_, list) and "multiselect" not in facts and value not in type_:
            raise _Wrong(_not_in_list(name, spec, value))


def _missing(name: str) -> Reason:
    return _reason("required_input_missing", "Required input is missing", name, input_name=name)


def _is_accepted(received: str, wanted: Any) -> bool:
    if not isinstance(wanted, str):
        return received == "COMBO"
    offered, accepted = set(received.split(",")), set(wanted.split(","))
    return ANY_TYPE in offered | accepted or not offered.isdisjoint(accepted)


def _converted(name: str, spec: list[Any], value: Any) -> Any:
    try:
        return _CONVERTED[spec[0]](value)
    except Exception as error:
        message = f"Failed to convert an input value to a {spec[0]} value"
        extra = {"input_name": name, "input_config": spec, "received_value": value}
        reason = _reason("invalid_input_type", message, f"{name}, {value}, {error}", **extra)
        reason["extra_info"]["exception_message"] = str(error)
        raise _Wrong(reason) from error


def _check_range(name: str, spec: list[Any], value: Any) -> None:
    facts = spec[1]
    extra = {"input_name": name, "input_config": spec, "received_value": value}
    if "min" in facts and value < facts["min"]:
        message = f"Value {value} smaller than min of {facts['min']}"
        raise _Wrong(_reason("value_smaller_than_min", message, name, **extra))
    if "max" in facts and value > facts["max"]:
        message = f"Value {value} bigger than max of {facts['max']}"
        raise _Wrong(_reason("value_bigger_than_max", message, name, **extra))


def _not_in_list(name: str, spec: list[Any], value: Any) -> Reason:
    is_long = len(spec[0]) > LIST_TOLD_MAX
    told = f"(list of length {len(spec[0])})" if is_long else str(spec[0])
    return _reason(
        "value_not_in_list",
        "Value not in list",
        f"{name}: '{value}' not in {told}",
        input_name=name,
        input_config=None if is_long else spec,
        received_value=value,
    )


def _exception(kind: str, name: str, error: Exception) -> Reason:
    where = "inner node" if name else "node"
    reason = _reason(kind, f"Exception when validating {where}", str(error))
    reason["extra_info"] = {
        "exception_type": type(error).__qualname__,
        "traceback": traceback.format_tb(error.__traceback__),
    }
    if name:
        reason["extra_info"] |= {"input_name": name, "exception_message": str(error)}
    return reason
