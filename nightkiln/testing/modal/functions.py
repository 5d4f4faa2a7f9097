"""Functions as the control plane knows them: definitions, variants, and what they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from modal_proto import api_pb2 as pb

FORMATS = (pb.DATA_FORMAT_PICKLE, pb.DATA_FORMAT_CBOR)
SCALEDOWN_S = 60.0  # where nobody says otherwise
TIMEOUT_S = 300.0
RETRIES_MAX = 10
DEFAULT_CORES, DEFAULT_GIB = 0.125, 0.125  # that are billed where nobody asks for more


# What a definition may not ask for: nobody here would do it, and a test would believe it was done.
UNSUPPORTED = (
    "batch_max_size",
    "cloud_bucket_mounts",
    "http_config",
    "is_server",
    "max_concurrent_inputs",
    "schedule",
    "shared_volume_mounts",
    "webhook_config",
)


@dataclass(frozen=True, slots=True)
class Definition:
    """What was sent of one function at one deploy. Never changed: versions stay what they were."""

    definition_id: str
    name: str  # "Worker.*" for a class
    data: pb.FunctionData

    @property
    def choices(self) -> tuple[pb.Function, ...]:
        """One for each GPU, in order of preference."""
        ranked = sorted(self.data.ranked_functions, key=lambda one: one.rank)
        return tuple(one.function for one in ranked)

    @property
    def first(self) -> pb.Function:
        return self.choices[0]


@dataclass(slots=True, eq=False)
class Function:
    """Something that can be called: as deployed last, pinned to a version, or with options."""

    function_id: str
    app_id: str
    name: str
    deployed: Definition | None = None  # None: its deploy is under way
    base: Function | None = None  # of a variant
    options: pb.FunctionOptions = field(default_factory=pb.FunctionOptions)
    params: bytes = b""
    autoscaler: pb.AutoscalerSettings = field(default_factory=pb.AutoscalerSettings)

    @property
    def definition(self) -> Definition:
        """What a new container runs. A variant follows what its base was deployed as."""
        if self.deployed is not None:
            return self.deployed
        assert self.base is not None, "deployed, or a variant of what is"
        return self.base.definition

    @property
    def root(self) -> Function:
        """The function that was deployed."""
        return self if self.base is None else self.base.root


@dataclass(frozen=True, slots=True)
class Asked:
    """What a function's containers are asked to be, options of a variant included."""

    timeout_s: float
    startup_timeout_s: float
    scaledown_s: float
    containers_min: int
    containers_max: int | None
    retries: int
    cores: float
    gib: float


def asked(function: Function) -> Asked:
    """What holds for it now."""
    data, first, options = function.definition.data, function.definition.first, function.options
    scaling = pb.AutoscalerSettings()
    scaling.CopyFrom(data.autoscaler_settings)
    if options.HasField("concurrency_limit"):
        scaling.max_containers = options.concurrency_limit
    if options.HasField("task_idle_timeout_secs"):
        scaling.scaledown_window = options.task_idle_timeout_secs
    scaling.MergeFrom(function.autoscaler)
    timeout_s = options.timeout_secs or data.timeout_secs or TIMEOUT_S
    retrying = options if options.HasField("retry_policy") else first
    resources = options.resources if options.HasField("resources") else first.resources
    return Asked(
        timeout_s=float(timeout_s),
        startup_timeout_s=float(data.startup_timeout_secs or timeout_s),
        scaledown_s=float(scaling.scaledown_window or SCALEDOWN_S),
        containers_min=scaling.min_containers,
        containers_max=scaling.max_containers or None,
        retries=min(retrying.retry_policy.retries, RETRIES_MAX),
        cores=max(resources.milli_cpu / 1000, DEFAULT_CORES),
        gib=max(resources.memory_mb / 1024, DEFAULT_GIB),
    )


def choices(function: Function) -> tuple[pb.Function, ...]:
    """What a container may be made of, one for each GPU; an option names one GPU only."""
    found = function.definition.choices
    if not function.options.resources.gpu_config.gpu_type:
        return found
    only = pb.Function()
    only.CopyFrom(found[0])
    only.resources.gpu_config.CopyFrom(function.options.resources.gpu_config)
    return (only,)


def gpu_of(function: pb.Function) -> str:
    """The GPU as it was asked for; empty: none."""
    return function.resources.gpu_config.gpu_type


def unsupported(data: pb.FunctionData) -> str | None:
    """What of a definition cannot be played, by its name on the wire."""
    for ranked in data.ranked_functions:
        for descriptor, value in ranked.function.ListFields():
            name: str = descriptor.name
            if name in UNSUPPORTED and _says(value):
                return name
    return None


def _says(value: Any) -> bool:
    """Whether a field that is there says anything: not so an empty message."""
    return value.ByteSize() > 0 if isinstance(value, Message) else bool(value)


def as_data(function: pb.Function) -> pb.FunctionData:
    """A function that names one GPU, in the form of those that name several."""
    shared = MessageToDict(function, preserving_proto_field_name=True)
    data: pb.FunctionData = ParseDict(shared, pb.FunctionData(), ignore_unknown_fields=True)
    data.ranked_functions.add(rank=0, function=function)
    return data


def handle(
    function: Function,
    definition: Definition | None,
    methods: Mapping[str, pb.MethodDefinition],
) -> pb.FunctionHandleMetadata:
    """What the SDK has to know to call it; ``definition`` is None before anything was sent."""
    found = pb.FunctionHandleMetadata(
        function_name=function.name,
        app_id=function.app_id,
        function_type=pb.Function.FUNCTION_TYPE_FUNCTION,
        supported_input_formats=FORMATS,
        supported_output_formats=FORMATS,
        base_function_id=function.root.function_id,
    )
    if definition is not None:
        found.definition_id = definition.definition_id
        found.class_parameter_info.CopyFrom(definition.data.class_parameter_info)
    for name, method in methods.items():
        found.method_handle_metadata[name].CopyFrom(
            pb.FunctionHandleMetadata(
                function_name=method.function_name or f"{function.name.removesuffix('.*')}.{name}",
                function_type=method.function_type,
                is_method=True,
                use_method_name=name,
                app_id=function.app_id,
                supported_input_formats=FORMATS,
                supported_output_formats=FORMATS,
            )
        )
    return found
