"""The files of the stand-in: made, uploaded and served; all in memory."""

from __future__ import annotations

import hashlib
import posixpath
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property

from nightkiln.testing.comfyui.pictures import Chunks

FOLDERS = ("output", "input", "temp")
FILES_MAX = 50_000  # the oldest goes when there are more


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies, in ComfyUI's words."""

    filename: str
    subfolder: str = ""
    type: str = "output"

    def told(self) -> dict[str, str]:
        """As a history entry or a reply tells it."""
        return {"filename": self.filename, "subfolder": self.subfolder, "type": self.type}


@dataclass(frozen=True)
class StoredFile:
    """A file's content and what goes wrong when it is fetched."""

    chunks: Chunks
    fault: str | None = None
    modified_s: float = field(default_factory=time.time)

    @property
    def length(self) -> int:
        return sum(map(len, self.chunks))

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for chunk in self.chunks:
            digest.update(chunk)
        return digest.hexdigest()


class OutsideFolder(Exception):
    """A name leads out of the folder it is meant for."""


class Files:
    """Files by their place."""

    def __init__(self) -> None:
        self._files: OrderedDict[Place, StoredFile] = OrderedDict()
        self._numbers: dict[tuple[str, str, str], int] = {}

    def get(self, place: Place) -> StoredFile | None:
        return self._files.get(place)

    def put(self, place: Place, file: StoredFile) -> None:
        self._files[place] = file
        if len(self._files) > FILES_MAX:
            self._files.popitem(last=False)

    def delete(self, place: Place) -> None:
        """Remove a file, as somebody who tidies up on the machine would."""
        del self._files[place]

    def next_place(self, folder: str, prefix: str, suffix: str) -> Place:
        """The place for the next file saved under a prefix, such as ``night/cat``.

        Raises:
            OutsideFolder: the prefix leads out of the folder.
        """
        path = posixpath.normpath(prefix)
        if path.startswith(("/", "..")):
            raise OutsideFolder
        subfolder, stem = posixpath.split(path)
        series = (folder, subfolder, stem.lower())  # one series of numbers for every suffix
        self._numbers[series] = self._numbers.get(series, 0) + 1
        return Place(f"{stem}_{self._numbers[series]:05}_{suffix}", subfolder, folder)

    def upload(self, place: Place, content: bytes, *, overwrite: bool) -> Place:
        """Keep an uploaded file; a name that is taken by other content gets a number."""
        file = StoredFile((content,))
        stem, suffix = posixpath.splitext(place.filename)
        number = 0
        while not overwrite and (taken := self._files.get(place)) is not None:
            if taken.sha256 == file.sha256:
                return place
            number += 1
            place = Place(f"{stem} ({number}){suffix}", place.subfolder, place.type)
        self.put(place, file)
        return place


def annotated(name: str, folder: str) -> tuple[str, str]:
    """A file name that may end with its folder, as in ``cat.png [temp]``, and the folder."""
    for other in FOLDERS:
        if name.endswith(f" [{other}]"):
            return name.removesuffix(f" [{other}]"), other
    return name, folder
