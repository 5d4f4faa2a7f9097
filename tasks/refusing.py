"""How a night ends that finds another one at work."""

from __future__ import annotations

from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from nightkiln.core.errors import ClaimHeld
from tasks.events import emitted


def refused(error: ClaimHeld) -> State[None]:
    """Cancelled, for nothing has failed, and an event that notifications can hang on."""
    why = str(error)
    emitted("nightkiln.night.refused", batch=error.batch, why=why)
    return Cancelled(message=why)
