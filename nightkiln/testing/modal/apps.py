"""Deployed apps: their versions, what they are found by, and going back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpclib import Status
from modal_proto import api_pb2 as pb

from nightkiln.testing.modal.clock import Clock
from nightkiln.testing.modal.functions import Definition
from nightkiln.testing.modal.ids import Ids
from nightkiln.testing.modal.objects import MAIN
from nightkiln.testing.modal.registry import Registry
from nightkiln.testing.modal.wire import Answer, refusal

PAGE = "http://127.0.0.1/fake-modal"  # what the service would show of an app


@dataclass(frozen=True, slots=True)
class Version:
    """One deploy. Going back makes a new one."""

    number: int
    tag: str
    deployed_at_s: float  # epoch seconds
    function_ids: Mapping[str, str]
    class_ids: Mapping[str, str]
    definitions: Mapping[str, Definition]  # by function's id
    client_version: str
    commit: pb.CommitInfo
    rollback_of: int = 0


@dataclass(slots=True, eq=False)
class App:
    """An app under its name."""

    app_id: str
    name: str
    environment: str
    state: pb.AppState.ValueType
    created_at_s: float
    tags: dict[str, str] = field(default_factory=dict)
    versions: list[Version] = field(default_factory=list)

    @property
    def live(self) -> Version:
        return self.versions[-1]


class Apps:
    """All apps by id."""

    def __init__(self, ids: Ids, clock: Clock, registry: Registry) -> None:
        self._ids, self._clock, self._registry = ids, clock, registry
        self._apps: dict[str, App] = {}

    def answers(self) -> Mapping[str, Answer]:
        return {
            "AppCreate": self._create,
            "AppDeploymentHistory": self._history,
            "AppGetByDeploymentName": self._by_name,
            "AppGetInfo": self._info,
            "AppGetLifecycle": self._get_lifecycle,
            "AppGetOrCreate": self._get_or_create,
            "AppGetTags": self._get_tags,
            "AppList": self._list,
            "AppPublish": self._publish,
            "AppRollback": self._rollback,
            "AppSetTags": self._set_tags,
            "AppStop": self._stop_app,
        }

    def __getitem__(self, app_id: str) -> App:
        if app_id not in self._apps:
            raise refusal(Status.NOT_FOUND, f"App with ID {app_id} not found")
        return self._apps[app_id]

    def deployed(self, name: str, environment: str) -> App | None:
        """The app that is found under this name now."""
        return next(
            (
                app
                for app in self._apps.values()
                if (app.name, app.environment) == (name, environment or MAIN)
                and app.state == pb.APP_STATE_DEPLOYED
            ),
            None,
        )

    def version(self, name: str, environment: str, number: int) -> tuple[App, Version]:
        """What is found under a name; 0: the live version."""
        app = self.deployed(name, environment)
        if app is None:
            where = environment or MAIN
            raise refusal(Status.NOT_FOUND, f"App {name!r} not found in environment {where!r}")
        if number == 0:
            return app, app.live
        return app, self._numbered(app, number)

    @staticmethod
    def _numbered(app: App, number: int) -> Version:
        found = next((one for one in app.versions if one.number == number), None)
        if found is None:
            raise refusal(Status.NOT_FOUND, f"App {app.name!r} has no version {number}")
        return found

    async def _create(self, request: pb.AppCreateRequest) -> Message:
        app = self._new("", request.environment_name, request.app_state)
        app.tags = dict(request.tags)
        return pb.AppCreateResponse(app_id=app.app_id, app_page_url=PAGE, app_logs_url=PAGE)

    def _new(self, name: str, environment: str, state: pb.AppState.ValueType) -> App:
        app = App(self._ids.new("ap"), name, environment or MAIN, state, self._clock.wall_s)
        self._apps[app.app_id] = app
        return app

    async def _get_or_create(self, request: pb.AppGetOrCreateRequest) -> Message:
        app = self.deployed(request.app_name, request.environment_name)
        if app is None and request.object_creation_type == pb.OBJECT_CREATION_TYPE_UNSPECIFIED:
            raise refusal(Status.NOT_FOUND, f"App {request.app_name!r} not found")
        if app is None:
            app = self._new(request.app_name, request.environment_name, pb.APP_STATE_DEPLOYED)
        return pb.AppGetOrCreateResponse(app_id=app.app_id, handle_metadata=_metadata(app))

    async def _by_name(self, request: pb.AppGetByDeploymentNameRequest) -> Message:
        environment = request.environment_name or MAIN
        app = self.deployed(request.name, environment)
        if app is None:
            return pb.AppGetByDeploymentNameResponse(environment_name=environment)
        return pb.AppGetByDeploymentNameResponse(
            app_id=app.app_id, environment_name=environment, lifecycle=_lifecycle(app)
        )

    async def _get_lifecycle(self, request: pb.AppGetLifecycleRequest) -> Message:
        return pb.AppGetLifecycleResponse(lifecycle=_lifecycle(self[request.app_id]))

    async def _info(self, request: pb.AppGetInfoRequest) -> Message:
        return pb.AppGetInfoResponse(info=_metadata(self[request.app_id]))

    async def _publish(self, request: pb.AppPublishRequest) -> Message:
        app = self[request.app_id]
        app.name, app.state = request.name or app.name, request.app_state
        app.tags = dict(request.tags)
        version = self._add(
            app,
            tag=request.deployment_tag,
            function_ids=dict(request.function_ids),
            class_ids=dict(request.class_ids),
            definitions={one: self._registry.newest(one) for one in request.function_ids.values()},
            client_version=request.client_version,
            commit=request.commit_info,
        )
        return pb.AppPublishResponse(url=PAGE, deployed_at=version.deployed_at_s)

    async def _rollback(self, request: pb.AppRollbackRequest) -> Message:
        app = self[request.app_id]
        number = request.version if request.version > 0 else app.live.number - 1
        old = self._numbered(app, number)
        version = self._add(
            app,
            tag=old.tag,
            function_ids=old.function_ids,
            class_ids=old.class_ids,
            definitions=old.definitions,
            client_version=old.client_version,
            commit=old.commit,
            rollback_of=old.number,
        )
        return pb.AppRollbackResponse(url=PAGE, deployed_at=version.deployed_at_s)

    def _add(
        self,
        app: App,
        *,
        tag: str,
        function_ids: Mapping[str, str],
        class_ids: Mapping[str, str],
        definitions: Mapping[str, Definition],
        client_version: str,
        commit: pb.CommitInfo,
        rollback_of: int = 0,
    ) -> Version:
        version = Version(
            number=len(app.versions) + 1,
            tag=tag,
            deployed_at_s=self._clock.wall_s,
            function_ids=MappingProxyType(function_ids),
            class_ids=MappingProxyType(class_ids),
            definitions=MappingProxyType(definitions),
            client_version=client_version,
            commit=commit,
            rollback_of=rollback_of,
        )
        app.versions.append(version)
        self._registry.promote(version.definitions)
        return version

    async def _history(self, request: pb.AppDeploymentHistoryRequest) -> Message:
        app = self[request.app_id]
        return pb.AppDeploymentHistoryResponse(
            app_deployment_histories=[
                pb.AppDeploymentHistory(
                    app_id=app.app_id,
                    version=one.number,
                    client_version=one.client_version,
                    deployed_at=one.deployed_at_s,
                    deployed_by="nightkiln",
                    tag=one.tag,
                    rollback_version=one.rollback_of,
                    rollback_allowed=True,
                    commit_info=one.commit,
                )
                for one in reversed(app.versions)
            ],
            production_app_version=app.live.number if app.versions else 0,
        )

    async def _list(self, request: pb.AppListRequest) -> Message:
        environment = request.environment_name or MAIN
        return pb.AppListResponse(
            apps=[
                pb.AppListResponse.AppListItem(
                    app_id=app.app_id,
                    description=app.name,
                    name=app.name,
                    state=app.state,
                    created_at=app.created_at_s,
                )
                for app in self._apps.values()
                if app.environment == environment
            ]
        )

    async def _stop_app(self, request: pb.AppStopRequest) -> Message:
        app = self[request.app_id]
        app.state = pb.APP_STATE_STOPPED
        self._registry.changed()
        return Empty()

    async def _set_tags(self, request: pb.AppSetTagsRequest) -> Message:
        self[request.app_id].tags = dict(request.tags)
        return Empty()

    async def _get_tags(self, request: pb.AppGetTagsRequest) -> Message:
        return pb.AppGetTagsResponse(tags=self[request.app_id].tags)


def _metadata(app: App) -> pb.AppHandleMetadata:
    return pb.AppHandleMetadata(
        description=app.name,
        lifecycle=_lifecycle(app),
        functions=app.live.function_ids if app.versions else {},
    )


def _lifecycle(app: App) -> pb.AppLifecycle:
    found = pb.AppLifecycle(app_state=app.state, created_at=app.created_at_s)
    if app.versions:
        found.version = app.live.number
        found.deployed_at = app.live.deployed_at_s
    return found
