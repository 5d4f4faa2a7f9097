"""Where a store keeps its files: a folder, or a bucket of a real S3 server."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TypeAlias

import pytest

from nightkiln.blobs import LocalBlobs
from nightkiln.blobs.s3 import S3Blobs
from nightkiln.blobs.s3_place import S3Place
from nightkiln.ports.blobs import Blobs
from nightkiln.testing.s3_server import BUCKET

Place: TypeAlias = Callable[[], Blobs]  # the same place, opened once more

BOTH = ["folder", pytest.param("s3", marks=pytest.mark.s3)]


def place_in(kind: str, request: pytest.FixtureRequest) -> Place:
    """A new, empty place."""
    if kind == "folder":
        folder = request.getfixturevalue("tmp_path_factory").mktemp("place")
        return lambda: LocalBlobs(folder)
    server, prefix = request.getfixturevalue("s3"), uuid.uuid4().hex
    return lambda: S3Blobs(S3Place(BUCKET, prefix), server.access)
