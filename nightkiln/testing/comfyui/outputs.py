"""What the saving nodes leave behind, and under which names history tells of it."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from nightkiln.core.model import Graph
from nightkiln.testing.comfyui import graphs, media
from nightkiln.testing.comfyui.files import Files, OutsideFolder, Place, StoredFile
from nightkiln.testing.comfyui.pictures import Chunks, Painter, damaged

Told: TypeAlias = dict[str, Any]

_FETCH_FAULTS = frozenset({"missing-file", "truncate", "html", "huge"})
_VHS: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "image/gif": (".gif", lambda identity: media.animation(identity, "GIF")),
    "image/webp": (".webp", lambda identity: media.animation(identity, "WEBP")),
    "video/h264-mp4": (".mp4", media.mp4),
    "video/webm": (".webm", media.webm),
}


class NodeError(Exception):
    """A node raised something; told under the name that Python gives it there."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(slots=True)
class Saving:
    """One saving node at work."""

    graph: Graph
    node_id: str
    identity: str  # what shapes its pixels
    extra_info: Mapping[str, Any]  # told in a picture's metadata
    faults: frozenset[str]
    number: int  # of the prompt, counted from 1
    pictures: list[Chunks] = field(default_factory=list)  # sent over the websocket

    @property
    def inputs(self) -> dict[str, Any]:
        inputs: dict[str, Any] = self.graph[self.node_id]["inputs"]
        return inputs

    def source(self) -> str:
        """The node whose pictures it saves."""
        return next((source for _, source, _ in graphs.links(self.graph[self.node_id])), "")


class Saver:
    """Makes the files of one saving node and tells of them as the node does."""

    def __init__(self, files: Files, painter: Painter) -> None:
        self._files, self._painter = files, painter
        self._kinds: dict[str, Callable[[Saving], Told]] = {
            "SaveImage": lambda saving: self._images(saving, "output", self._prefix(saving)),
            "PreviewImage": lambda saving: self._images(saving, "temp", _temporary()),
            "SaveAnimatedWEBP": lambda saving: self._animated(
                saving, ".webp", media.animation(saving.identity, "WEBP")
            ),
            "SaveAnimatedPNG": lambda saving: self._animated(
                saving, ".png", media.animation(saving.identity, "PNG")
            ),
            "SaveWEBM": lambda saving: self._animated(saving, ".webm", media.webm(saving.identity)),
            "SaveVideo": lambda saving: self._animated(saving, ".mp4", media.mp4(saving.identity)),
            "SaveAudio": lambda saving: self._sound(saving, ".flac", media.flac(saving.identity)),
            "SaveAudioMP3": lambda saving: self._sound(saving, ".mp3", media.mp3(saving.identity)),
            "VHS_VideoCombine": self._combined,
            "SaveImageWebsocket": self._sent,
        }

    def save(self, saving: Saving) -> Told | None:
        """What history tells of the node; None for a node that tells nothing.

        Raises:
            NodeError: it cannot be saved.
        """
        make = self._kinds.get(saving.graph[saving.node_id]["class_type"])
        return make(saving) if make is not None else None

    def _images(self, saving: Saving, folder: str, prefix: str) -> Told:
        source = saving.source()
        size = graphs.size(saving.graph, source)
        prefix = prefix.replace("%width%", str(size[0])).replace("%height%", str(size[1]))
        text = [("prompt", json.dumps(saving.graph))]
        text += [(str(key), json.dumps(value)) for key, value in saving.extra_info.items()]
        told = []
        for number in range(graphs.batch(saving.graph, source)):
            picture = self._picture(saving, number, size, text)
            numbered = prefix.replace("%batch_num%", str(number))
            told.append(self._put(saving, folder, numbered, ".png", picture))
        return {"images": told}

    def _picture(
        self, saving: Saving, number: int, size: tuple[int, int], text: list[tuple[str, str]]
    ) -> Chunks:
        picture = self._painter.png(
            f"{saving.identity}-{number}", size, text=text, is_blank="blank" in saving.faults
        )
        return damaged(picture) if "corrupt" in saving.faults else picture

    def _animated(self, saving: Saving, suffix: str, content: bytes) -> Told:
        told = self._put(saving, "output", self._prefix(saving), suffix, (content,))
        return {"images": [told], "animated": [True]}

    def _sound(self, saving: Saving, suffix: str, content: bytes) -> Told:
        return {"audio": [self._put(saving, "output", self._prefix(saving), suffix, (content,))]}

    def _combined(self, saving: Saving) -> Told:
        suffix, make = _VHS[saving.inputs["format"]]
        folder = "output" if saving.inputs["save_output"] else "temp"
        content = make(saving.identity)
        told = self._put(saving, folder, self._prefix(saving), suffix, (content,))
        extra = {"format": saving.inputs["format"], "frame_rate": saving.inputs["frame_rate"]}
        return {"gifs": [{**told, **extra}]}

    def _sent(self, saving: Saving) -> Told:
        source = saving.source()
        size = graphs.size(saving.graph, source)
        saving.pictures = [
            self._picture(saving, number, size, [])
            for number in range(graphs.batch(saving.graph, source))
        ]
        return {}

    @staticmethod
    def _prefix(saving: Saving) -> str:
        return str(saving.inputs.get("filename_prefix", "ComfyUI"))

    def _put(
        self, saving: Saving, folder: str, prefix: str, suffix: str, chunks: Chunks
    ) -> dict[str, str]:
        if "disk-full" in saving.faults:
            raise NodeError("OSError", "[Errno 28] No space left on device\n")
        try:
            place = self._files.next_place(folder, prefix, suffix)
        except OutsideFolder:
            message = "**** ERROR: Saving image outside the output folder is not allowed.\n"
            raise NodeError("Exception", message) from None
        if "evil-names" in saving.faults:
            place = Place(f"../../evil-{saving.number}{suffix}", "../..", folder)
        fault = next(iter(saving.faults & _FETCH_FAULTS), None)
        if fault != "missing-file":
            self._files.put(place, StoredFile(chunks, fault))
        return place.told()


def _temporary() -> str:
    letters = "".join(random.choices(string.ascii_lowercase, k=5))  # noqa: S311 - a file name
    return f"ComfyUI_temp_{letters}"
