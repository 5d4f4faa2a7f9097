"""The files that were sent when an app was deployed, as its containers find them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath

from google.protobuf.message import Message
from grpclib import Status
from modal_proto import api_pb2 as pb

from nightkiln.testing.modal.blobs import Blobs
from nightkiln.testing.modal.ids import Ids
from nightkiln.testing.modal.wire import Answer, refusal

FILES_MAX = 10_000  # of all deploys together


class Sources:
    """Keeps sent files by what is in them, and mounts by their ids."""

    def __init__(self, ids: Ids, blobs: Blobs) -> None:
        self._ids, self._blobs = ids, blobs
        self._contents: dict[str, bytes] = {}  # by SHA-256
        self._mounts: dict[str, Mapping[PurePosixPath, str]] = {}  # SHA-256 of files, by place

    def answers(self) -> Mapping[str, Answer]:
        return {
            "MountBatchedCheckExistence": self._missing,
            "MountPutFile": self._put,
            "MountGetOrCreate": self._mount,
        }

    def files(self, mount_ids: Sequence[str]) -> Mapping[PurePosixPath, bytes]:
        """What stands where in a container with these mounts."""
        return {
            place: self._contents[digest]
            for mount_id in mount_ids
            for place, digest in self._mounts[mount_id].items()
        }

    def lay_out(self, mount_ids: Sequence[str], folder: Path) -> None:
        """Write those files into ``folder`` as if it were the root of the container's disk."""
        for place, content in self.files(mount_ids).items():
            path = folder.joinpath(*place.parts[1:])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    async def _missing(self, request: pb.MountBatchedCheckExistenceRequest) -> Message:
        wanted = request.sha256_hex_hashes
        return pb.MountBatchedCheckExistenceResponse(
            missing_sha256_hex_hashes=[one for one in wanted if one not in self._contents]
        )

    async def _put(self, request: pb.MountPutFileRequest) -> Message:
        content = self._blobs[request.data_blob_id] if request.data_blob_id else request.data
        if sha256(content).hexdigest() != request.sha256_hex:
            raise refusal(Status.INVALID_ARGUMENT, "the file is not what its digest says")
        if len(self._contents) >= FILES_MAX:
            raise refusal(Status.RESOURCE_EXHAUSTED, f"more than {FILES_MAX} files")
        self._contents[request.sha256_hex] = content
        return pb.MountPutFileResponse(exists=True)

    async def _mount(self, request: pb.MountGetOrCreateRequest) -> Message:
        mount_id = self._ids.new("mo")
        self._mounts[mount_id] = {_place(one.filename): one.sha256_hex for one in request.files}
        return pb.MountGetOrCreateResponse(
            mount_id=mount_id,
            handle_metadata=pb.MountHandleMetadata(content_checksum_sha256_hex=""),
        )


def _place(filename: str) -> PurePosixPath:
    place = PurePosixPath(filename)
    if not place.is_absolute() or ".." in place.parts:
        raise refusal(Status.INVALID_ARGUMENT, f"a file cannot stand at {filename!r}")
    return place
