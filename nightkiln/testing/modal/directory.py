"""Making functions and classes at a deploy, and finding them by name afterwards."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import Message
from grpclib import GRPCError, Status
from modal_proto import api_pb2 as pb

from nightkiln.testing.modal.apps import App, Apps
from nightkiln.testing.modal.functions import (
    Definition,
    Function,
    as_data,
    asked,
    handle,
    unsupported,
)
from nightkiln.testing.modal.ids import Ids
from nightkiln.testing.modal.objects import Objects
from nightkiln.testing.modal.registry import Registry
from nightkiln.testing.modal.wire import Answer, refusal

ELSEWHERE = "an app that was deployed to another fake is to be imported afresh for this one"


class Directory:
    """The calls by which functions and classes are made and found."""

    def __init__(self, ids: Ids, apps: Apps, registry: Registry, objects: Objects) -> None:
        self._ids, self._apps, self._registry, self._objects = ids, apps, registry, objects

    def answers(self) -> Mapping[str, Answer]:
        return {
            "AppGetLayout": self._layout,
            "ClassCreate": self._create_class,
            "ClassGet": self._get_class,
            "FunctionBindParams": self._bind,
            "FunctionCreate": self._create,
            "FunctionGet": self._get,
            "FunctionPrecreate": self._precreate,
            "FunctionUpdateSchedulingParams": self._scale,
        }

    def layout(self, app: App) -> pb.AppLayout:
        """The app's functions and classes, as the SDK and containers want to know them."""
        if not app.versions:
            return pb.AppLayout()
        live = app.live
        objects = [
            pb.Object(object_id=one, function_handle_metadata=self._handle(self._registry[one]))
            for one in live.function_ids.values()
        ]
        objects += [
            pb.Object(object_id=one, class_handle_metadata=pb.ClassHandleMetadata())
            for one in live.class_ids.values()
        ]
        return pb.AppLayout(
            objects=objects, function_ids=live.function_ids, class_ids=live.class_ids
        )

    @staticmethod
    def _handle(function: Function) -> pb.FunctionHandleMetadata:
        definition = function.definition
        return handle(function, definition, definition.data.method_definitions)

    async def _layout(self, request: pb.AppGetLayoutRequest) -> Message:
        return pb.AppGetLayoutResponse(app_layout=self.layout(self._apps[request.app_id]))

    async def _precreate(self, request: pb.FunctionPrecreateRequest) -> Message:
        function = self._registry.find(request.existing_function_id)
        if function is None:
            function = self._registry.add(
                Function(self._ids.new("fu"), request.app_id, request.function_name)
            )
        return pb.FunctionPrecreateResponse(
            function_id=function.function_id,
            handle_metadata=handle(function, None, request.method_definitions),
        )

    async def _create(self, request: pb.FunctionCreateRequest) -> Message:
        several = request.HasField("function_data")
        data = request.function_data if several else as_data(request.function)
        missing = unsupported(data)
        if missing is not None:
            raise refusal(Status.UNIMPLEMENTED, f"the fake Modal cannot play {missing}")
        unknown = self._objects.missing(data.ranked_functions[0].function)
        if unknown is not None:
            raise refusal(Status.NOT_FOUND, f"{unknown} not found: {ELSEWHERE}")
        function = self._registry.find(request.existing_function_id)
        if function is None:
            function = Function(self._ids.new("fu"), request.app_id, data.function_name)
            self._registry.add(function)
        definition = Definition(self._ids.new("de"), function.name, data)
        self._registry.send(function, definition)
        return pb.FunctionCreateResponse(
            function_id=function.function_id,
            function_data=data,
            handle_metadata=handle(function, definition, data.method_definitions),
        )

    async def _create_class(self, request: pb.ClassCreateRequest) -> Message:
        class_id = request.existing_class_id or self._ids.new("cs")
        return pb.ClassCreateResponse(class_id=class_id)

    async def _get_class(self, request: pb.ClassGetRequest) -> Message:
        app, version = self._apps.version(
            request.app_name, request.environment_name, request.app_version
        )
        class_id = version.class_ids.get(request.object_tag)
        if class_id is None:
            raise _not_there(app, request.object_tag)
        return pb.ClassGetResponse(class_id=class_id)

    async def _get(self, request: pb.FunctionGetRequest) -> Message:
        app, version = self._apps.version(
            request.app_name, request.environment_name, request.app_version
        )
        function_id = version.function_ids.get(request.object_tag)
        if function_id is None:
            raise _not_there(app, request.object_tag)
        function = self._registry[function_id]
        if request.app_version:
            function = self._pinned(function, version.definitions[function_id])
        return pb.FunctionGetResponse(
            function_id=function.function_id,
            handle_metadata=self._handle(function),
            function=function.definition.data,
        )

    def _pinned(self, function: Function, definition: Definition) -> Function:
        """A function of its own that stays what it was in that version."""
        for known in self._registry:
            if known.base is function and known.deployed is definition:
                return known
        new = Function(self._ids.new("fu"), function.app_id, function.name, definition, function)
        return self._registry.add(new)

    async def _bind(self, request: pb.FunctionBindParamsRequest) -> Message:
        base = self._registry[request.function_id]
        for known in self._registry:
            same = (known.params, known.options) == (
                request.serialized_params,
                request.function_options,
            )
            if known.base is base and known.deployed is None and same:
                return self._bound(known)
        bound = Function(
            self._ids.new("fu"),
            base.app_id,
            base.name,
            base=base,
            options=request.function_options,
            params=request.serialized_params,
        )
        return self._bound(self._registry.add(bound))

    def _bound(self, function: Function) -> Message:
        return pb.FunctionBindParamsResponse(
            bound_function_id=function.function_id, handle_metadata=self._handle(function)
        )

    async def _scale(self, request: pb.FunctionUpdateSchedulingParamsRequest) -> Message:
        function = self._registry[request.function_id]
        function.autoscaler.MergeFrom(request.settings)
        self._registry.changed()
        now = asked(function)
        return pb.FunctionUpdateSchedulingParamsResponse(
            current_settings=pb.AutoscalerSettings(
                min_containers=now.containers_min,
                max_containers=now.containers_max,
                scaledown_window=int(now.scaledown_s),
            )
        )


def _not_there(app: App, tag: str) -> GRPCError:
    return refusal(Status.NOT_FOUND, f"App {app.name!r} has no {tag!r}")
