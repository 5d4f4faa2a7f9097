"""Tells whoever listens of a run that fails and leaves no receipt: a receipt is told by its batch.

Prefect's own event of a failed run would not do: every failed job makes a run Failed, of which the
receipt tells already.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.schemas.objects import State
from prefect.states import Failed

from tasks.events import emitted_of_run

EVENT = "nightkiln.run.failed"


def failed(error: Exception) -> State[None]:
    """The end of a run that could do nothing; its message says what to do."""
    return told(Failed(message=str(error)))


def told(state: State[None]) -> State[None]:
    """The same state; if it is Failed, an event has told of it."""
    if state.is_failed():
        emitted_of_run(EVENT, why=state.message)
    return state


@contextmanager
def telling_of_failure() -> Iterator[None]:
    """What nobody has reckoned with is told, and raised on: Prefect makes the run Failed by it."""
    try:
        yield
    except Exception as error:
        emitted_of_run(EVENT, why=f"{type(error).__name__}: {error}")
        raise
