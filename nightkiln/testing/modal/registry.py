"""Every function by its id, and which definition of it is live."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from grpclib import Status
from modal_proto import api_pb2 as pb

from nightkiln.testing.modal.functions import Definition, Function
from nightkiln.testing.modal.wire import refusal

FUNCTIONS_MAX = 10_000  # variants included


class Registry:
    """What deploys change; whoever runs containers is told by ``changed``."""

    def __init__(self) -> None:
        self._functions: dict[str, Function] = {}
        self._newest: dict[str, Definition] = {}  # as sent last, published or not
        self._listeners: list[Callable[[], None]] = []

    def __getitem__(self, function_id: str) -> Function:
        if function_id not in self._functions:
            raise refusal(Status.NOT_FOUND, f"Function with ID {function_id} not found")
        return self._functions[function_id]

    def __iter__(self) -> Iterator[Function]:
        return iter(self._functions.values())

    def find(self, function_id: str) -> Function | None:
        return self._functions.get(function_id)

    def add(self, function: Function) -> Function:
        if len(self._functions) >= FUNCTIONS_MAX:
            raise refusal(Status.RESOURCE_EXHAUSTED, f"more than {FUNCTIONS_MAX} functions")
        self._functions[function.function_id] = function
        return function

    def send(self, function: Function, definition: Definition) -> None:
        """A definition came that is not published yet."""
        self._newest[function.function_id] = definition

    def newest(self, function_id: str) -> Definition:
        """What was sent last of it."""
        if function_id not in self._newest:
            raise refusal(Status.FAILED_PRECONDITION, f"Function {function_id} was never created")
        return self._newest[function_id]

    def promote(self, definitions: Mapping[str, Definition]) -> None:
        """From here on these are what new containers run; by function's id.

        What was set of its autoscaler meanwhile is forgotten, as a deploy does.
        """
        for function_id, definition in definitions.items():
            function = self._functions[function_id]
            function.deployed, function.autoscaler = definition, pb.AutoscalerSettings()
        self.changed()

    def listen(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def changed(self) -> None:
        for listener in self._listeners:
            listener()
