"""What Prefect is told of a batch or a run, so that automations and notifications can hang on it.

``tasks.event_table`` is the contract.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL

from tasks.event_table import EVENTS

PREFIX = "nightkiln."
TEXT_CHARS_MAX = 500  # of one value: an event is a line, and what is long is in the store
ITEMS_MAX = 20  # of a list or a mapping in a payload

_log = logging.getLogger(__name__)


def emitted(name: str, *, batch: str, **payload: Any) -> bool:
    """Whether this was handed over to Prefect; never blocks and never raises.

    Prefect sends it from a thread of its own, and drops it when its server stays away. Outside a
    flow run and without a server's address nothing is sent: Prefect would start a server for it.
    ``payload``: fields that ``EVENTS`` names for this event; any others are left out.
    """
    return _sent(name, f"{PREFIX}batch.{batch}", batch, payload)


def emitted_of_run(name: str, **payload: Any) -> bool:
    """As ``emitted``, of the flow run that this happens in, which may have no batch."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        return False
    run, flow = context.flow_run, context.flow.name
    return _sent(name, f"{PREFIX}run.{run.id}", run.name, {"flow": flow, **payload})


def _sent(name: str, resource_id: str, shown: str, payload: Mapping[str, Any]) -> bool:
    try:
        fields = EVENTS[name]
        unknown = payload.keys() - fields.keys()
        if unknown:
            _log.warning("event %s has no fields %s; see EVENTS", name, ", ".join(sorted(unknown)))
        said = {key: _plain(value) for key, value in payload.items() if key in fields}
        run = _flow_run()
        if run is None and not PREFECT_API_URL.value():
            return False
        resource = {
            "prefect.resource.id": resource_id,
            "prefect.resource.name": shown,
        }
        related = [run] if run is not None else []
        return emit_event(name, resource, related=related, payload=said) is not None
    except Exception:  # noqa: BLE001 - an event is a courtesy; the batch goes on without it
        _log.debug("Prefect could not be told of %s", name, exc_info=True)
        return False


def _flow_run() -> dict[str, str] | None:
    """The run that this happens in, as an event names what it is related to."""
    flow, task = FlowRunContext.get(), TaskRunContext.get()
    run = flow.flow_run if flow is not None else None
    found = run.id if run is not None else task.task_run.flow_run_id if task is not None else None
    if found is None:
        return None
    name = {"prefect.resource.name": run.name} if run is not None else {}
    return {
        "prefect.resource.id": f"prefect.flow-run.{found}",
        "prefect.resource.role": "flow-run",
        **name,
    }


def _plain(value: Any) -> Any:
    """A small JSON-safe value; money as a number, whatever else as text."""
    match value:
        case None | bool() | int():
            return value
        case float() | Decimal():
            return float(value) if math.isfinite(value) else None
        case str():
            return value[:TEXT_CHARS_MAX]
        case Mapping():
            return {str(key): _plain(one) for key, one in list(value.items())[:ITEMS_MAX]}
        case Sequence():
            return [_plain(one) for one in list(value)[:ITEMS_MAX]]
        case _:
            return str(value)[:TEXT_CHARS_MAX]
