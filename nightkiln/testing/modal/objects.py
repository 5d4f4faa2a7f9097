"""Environments, images, secrets and volumes: what functions are deployed with."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpclib import Status
from modal_proto import api_pb2 as pb

from nightkiln.testing.modal.ids import Ids
from nightkiln.testing.modal.wire import Answer, refusal

BUILDER = "2025.06"  # version of the service's image builder
MAIN = "main"  # the environment that every workspace has
LAYERS_MAX = 200  # of one image


class Objects:
    """Images are "built" at once; a secret knows what it was made of; a volume is a name."""

    def __init__(self, ids: Ids, named_secrets: Mapping[str, Mapping[str, str]]) -> None:
        self._ids, self._named_secrets = ids, named_secrets
        self._environments: dict[str, str] = {}  # ids by name
        self._images: dict[str, pb.Image] = {}
        self._secrets: dict[str, Mapping[str, str]] = {}
        self._volumes: dict[str, str] = {}  # names by id

    def answers(self) -> Mapping[str, Answer]:
        return {
            "EnvironmentGetOrCreate": self._environment,
            "ImageGetOrCreate": self._image,
            "SecretGetOrCreate": self._secret,
            "VolumeGetOrCreate": self._volume,
        }

    def image_commands(self, image_id: str) -> Sequence[str]:
        """The image as lines of a Dockerfile, base first."""
        lines: list[str] = []
        for image in reversed(list(self._layers(image_id))):
            lines += image.dockerfile_commands
        return lines

    def image_environment(self, image_id: str) -> Mapping[str, str]:
        """What the image puts into the environment of its containers."""
        found: dict[str, str] = {}
        for line in self.image_commands(image_id):
            if line.startswith("ENV "):
                pairs = (word.partition("=") for word in shlex.split(line.removeprefix("ENV ")))
                found |= {name: value for name, _, value in pairs}
        return found

    def secret(self, secret_id: str) -> Mapping[str, str]:
        """What a secret puts into the environment."""
        return self._secrets[secret_id]

    def volume(self, volume_id: str) -> str:
        """The volume's name; empty: it has none."""
        return self._volumes[volume_id]

    def missing(self, function: pb.Function) -> str | None:
        """What a function wants and nobody made here; None: nothing."""
        wanted = {
            *(mount.volume_id for mount in function.volume_mounts),
            *function.secret_ids,
            *([function.image_id] if function.image_id else []),
        }
        known = self._volumes.keys() | self._secrets.keys() | self._images.keys()
        return min(wanted - known, default=None)

    def described(self, object_id: str) -> pb.Object:
        """What a container is told of something that its function was deployed with."""
        found = pb.Object(object_id=object_id)
        if object_id in self._volumes:
            found.volume_metadata.CopyFrom(_volume_metadata(self._volumes[object_id]))
        return found

    def _layers(self, image_id: str) -> Iterator[pb.Image]:
        """From the last layer to the first."""
        for _ in range(LAYERS_MAX):
            image = self._images.get(image_id)
            if image is None:
                return
            yield image
            image_id = next((base.image_id for base in image.base_images), "")

    async def _environment(self, request: pb.EnvironmentGetOrCreateRequest) -> Message:
        name = request.deployment_name or MAIN
        environment_id = self._environments.setdefault(name, self._ids.new("en"))
        settings = pb.EnvironmentSettings(image_builder_version=BUILDER)
        return pb.EnvironmentGetOrCreateResponse(
            environment_id=environment_id,
            metadata=pb.EnvironmentMetadata(name=name, settings=settings),
        )

    async def _image(self, request: pb.ImageGetOrCreateRequest) -> Message:
        image_id = self._ids.new("im")
        self._images[image_id] = request.image
        return pb.ImageGetOrCreateResponse(
            image_id=image_id,
            result=pb.GenericResult(status=pb.GenericResult.GENERIC_STATUS_SUCCESS),
            metadata=pb.ImageMetadata(image_builder_version=BUILDER),
        )

    async def _secret(self, request: pb.SecretGetOrCreateRequest) -> Message:
        secret_id = self._ids.new("st")
        if not request.deployment_name:
            self._secrets[secret_id] = dict(request.env_dict)
        elif request.deployment_name in self._named_secrets:
            self._secrets[secret_id] = self._named_secrets[request.deployment_name]
        else:
            raise refusal(Status.NOT_FOUND, f"Secret {request.deployment_name!r} not found")
        return pb.SecretGetOrCreateResponse(secret_id=secret_id)

    async def _volume(self, request: pb.VolumeGetOrCreateRequest) -> Message:
        name = request.deployment_name
        known = next((key for key, one in self._volumes.items() if name and one == name), None)
        if known is None and not _may_create(request.object_creation_type):
            raise refusal(Status.NOT_FOUND, f"Volume {name!r} not found")
        volume_id = known if known is not None else self._ids.new("vo")
        self._volumes[volume_id] = name
        return pb.VolumeGetOrCreateResponse(
            volume_id=volume_id,
            version=pb.VOLUME_FS_VERSION_V2,
            metadata=_volume_metadata(name),
        )


class Idle:
    """Calls that change nothing here, and whose answer says nothing."""

    NAMES = ("AppHeartbeat", "AppClientDisconnect", "FunctionFinishInputs", "VolumeCommit")

    def answers(self) -> Mapping[str, Answer]:
        return dict.fromkeys(self.NAMES, self._nothing)

    async def _nothing(self, request: Message) -> Message:
        if isinstance(request, pb.VolumeCommitRequest):
            return pb.VolumeCommitResponse()
        return Empty()


def _volume_metadata(name: str) -> pb.VolumeMetadata:
    return pb.VolumeMetadata(version=pb.VOLUME_FS_VERSION_V2, name=name)


def _may_create(kind: pb.ObjectCreationType.ValueType) -> bool:
    return kind != pb.OBJECT_CREATION_TYPE_UNSPECIFIED
