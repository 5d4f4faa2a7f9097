"""What the fake tells a test: copies that do not change under its eyes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modal_proto import api_pb2 as pb

from nightkiln.testing.modal.apps import App, Version
from nightkiln.testing.modal.billing import Phase
from nightkiln.testing.modal.calls import Call
from nightkiln.testing.modal.container import Container
from nightkiln.testing.modal.functions import Definition, Function, asked, gpu_of
from nightkiln.testing.modal.objects import Objects
from nightkiln.testing.modal.registry import Registry
from nightkiln.testing.modal.sources import Sources

OPEN = "OPEN"  # nothing has become of it yet


@dataclass(frozen=True, slots=True)
class VolumeSeen:
    """A volume as it is mounted."""

    name: str
    path: str
    is_read_only: bool


@dataclass(frozen=True, slots=True)
class FunctionSeen:
    """What was sent of a function or class at a deploy."""

    name: str  # "Worker.*" for a class
    gpus: tuple[str, ...]  # in order of preference
    timeout_s: float
    startup_timeout_s: float
    scaledown_s: float
    containers_min: int
    containers_max: int | None
    retries: int
    cores: float
    gib: float
    methods: tuple[str, ...]
    volumes: tuple[VolumeSeen, ...]
    secret_count: int
    takes_snapshot: bool
    is_single_use: bool
    inputs_at_once: int
    image_commands: tuple[str, ...]
    image_environment: Mapping[str, str]
    files: tuple[str, ...]  # where they stand in the container


@dataclass(frozen=True, slots=True)
class VersionSeen:
    """One deploy."""

    number: int
    tag: str
    commit: str
    rollback_of: int  # 0: it is none


@dataclass(frozen=True, slots=True)
class Deployed:
    """An app as it is deployed now."""

    app: str
    environment: str
    version: int
    tag: str
    tags: Mapping[str, str]
    versions: tuple[VersionSeen, ...]  # oldest first
    functions: Mapping[str, FunctionSeen]


@dataclass(frozen=True, slots=True)
class CallSeen:
    """One call that was made."""

    call_id: str
    app: str
    function: str
    methods: tuple[str, ...]  # of its inputs
    is_spawned: bool
    is_cancelled: bool
    is_killed: bool  # cancelled, and its containers with it
    begun_in: tuple[str, ...]  # containers that began with one of its inputs, one for each time
    begun_s: float  # of the story
    ended_s: float | None  # of the story; None: it is open
    statuses: tuple[str, ...]  # of its inputs, as GenericStatus names them, or OPEN

    @property
    def runs(self) -> int:
        """Times that a container began with one of its inputs."""
        return len(self.begun_in)


@dataclass(frozen=True, slots=True)
class ContainerSeen:
    """One container, living or not."""

    container_id: str
    app: str
    gpu: str
    phase: Phase
    was_up: bool
    pid: int | None  # of its process; None: none yet
    comfy_url: str  # of the ComfyUI behind it; empty: none yet
    log: str  # what it has printed


def deployed(app: App, registry: Registry, objects: Objects, sources: Sources) -> Deployed:
    """An app with all that was sent of it."""
    live = app.live
    return Deployed(
        app=app.name,
        environment=app.environment,
        version=live.number,
        tag=live.tag,
        tags=dict(app.tags),
        versions=tuple(map(_version, app.versions)),
        functions={
            name: _function(registry[one], live.definitions[one], objects, sources)
            for name, one in live.function_ids.items()
        },
    )


def _version(version: Version) -> VersionSeen:
    return VersionSeen(version.number, version.tag, version.commit.commit_hash, version.rollback_of)


def _function(
    function: Function, definition: Definition, objects: Objects, sources: Sources
) -> FunctionSeen:
    needs, first = asked(function), definition.first
    return FunctionSeen(
        name=function.name,
        gpus=tuple(gpu for one in definition.choices if (gpu := gpu_of(one))),
        timeout_s=needs.timeout_s,
        startup_timeout_s=needs.startup_timeout_s,
        scaledown_s=needs.scaledown_s,
        containers_min=needs.containers_min,
        containers_max=needs.containers_max,
        retries=needs.retries,
        cores=needs.cores,
        gib=needs.gib,
        methods=tuple(sorted(definition.data.method_definitions)),
        volumes=tuple(
            VolumeSeen(objects.volume(one.volume_id), one.mount_path, one.read_only)
            for one in first.volume_mounts
        ),
        secret_count=len(first.secret_ids),
        takes_snapshot=first.checkpointing_enabled,
        is_single_use=first.single_use_containers,
        inputs_at_once=first.max_concurrent_inputs or 1,
        image_commands=tuple(objects.image_commands(first.image_id)),
        image_environment=objects.image_environment(first.image_id),
        files=tuple(sorted(map(str, sources.files(first.mount_ids)))),
    )


def call(one: Call, app: App, function: Function) -> CallSeen:
    """A call and what has become of it so far."""
    return CallSeen(
        call_id=one.call_id,
        app=app.name,
        function=function.name,
        methods=tuple(item.payload.method_name for item in one.inputs),
        is_spawned=one.is_spawned,
        is_cancelled=one.is_cancelled,
        is_killed=one.is_killed,
        begun_in=tuple(name for item in one.inputs for name in item.begun_in),
        begun_s=one.created_s,
        ended_s=one.finished_s,
        statuses=tuple(
            OPEN if item.output is None else _status(item.output) for item in one.inputs
        ),
    )


def _status(output: pb.FunctionGetOutputsItem) -> str:
    name: str = pb.GenericResult.GenericStatus.Name(output.result.status)
    return name.removeprefix("GENERIC_STATUS_")


def container(one: Container, app: App) -> ContainerSeen:
    """A container as it stands."""
    return ContainerSeen(
        container_id=one.container_id,
        app=app.name,
        gpu=one.size.gpu,
        phase=one.phase,
        was_up=one.was_up,
        pid=one.process.pid if one.process is not None else None,
        comfy_url=one.comfy_url,
        log=_text(one.log),
    )


def _text(log: Path) -> str:
    return log.read_text(errors="replace") if log.exists() else ""
