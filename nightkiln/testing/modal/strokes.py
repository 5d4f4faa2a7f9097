"""What strikes a container in the middle of an input."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from modal_proto import api_pb2 as pb

from nightkiln.testing.modal.calls import Input
from nightkiln.testing.modal.container import Container
from nightkiln.testing.modal.fault_kinds import Ended, Frozen, Play, Preempted
from nightkiln.testing.modal.ground import Ground

Status = pb.GenericResult.GenericStatus


class Failing(Protocol):
    """Whoever can end an input that its container did not."""

    def fail(
        self, container: Container, status: Status.ValueType, says: str, *, is_final: bool = False
    ) -> None: ...


def strike(
    ground: Ground, pool: Failing, container: Container, item: Input, plays: Iterable[Play]
) -> None:
    """Let happen to this run of the input what strikes it, unless it is over by then."""
    run = item.runs

    def befall(stroke: Callable[[], None]) -> None:
        if container.item is item and item.runs == run:
            stroke()

    for play in plays:
        match play:
            case Preempted(after_s):
                ground.clock.after(after_s, partial(befall, container.end))
            case Frozen(after_s):
                ground.clock.after(after_s, partial(befall, container.freeze))
            case Ended(name, says, after_s):
                status = Status.Value(f"GENERIC_STATUS_{name}")
                end = partial(pool.fail, container, status, says, is_final=True)
                ground.clock.after(after_s, partial(befall, end))
