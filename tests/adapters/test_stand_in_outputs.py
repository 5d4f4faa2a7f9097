"""Kinds of output that only the stand-in can give without a GPU or codecs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nightkiln.testing.comfyui.peer import Peer
from nightkiln.testing.comfyui.process import stand_in_process

IMAGE = {
    "class_type": "EmptyImage",
    "inputs": {"width": 64, "height": 64, "batch_size": 2, "color": 1},
}


@pytest.fixture(scope="module")
def asking() -> Iterator[Peer]:
    with stand_in_process() as server:
        peer = Peer(server.url, "stand-in", "tiny.safetensors")
        yield peer
        peer.close()


@pytest.mark.parametrize(
    ("format_", "suffix", "magic"),
    [
        ("image/gif", ".gif", b"GIF89a"),
        ("image/webp", ".webp", b"RIFF"),
        ("video/h264-mp4", ".mp4", b"ftyp"),
        ("video/webm", ".webm", b"\x1aE\xdf\xa3"),
    ],
)
@pytest.mark.parametrize("is_kept", [True, False])
def test_a_combined_video_comes_in_a_list_of_its_own(
    asking: Peer, format_: str, suffix: str, magic: bytes, *, is_kept: bool
) -> None:
    inputs = {"images": ["1", 0], "frame_rate": 8, "loop_count": 0, "filename_prefix": "v/clip"}
    inputs |= {"format": format_, "pingpong": False, "save_output": is_kept}

    run = asking.run({"1": IMAGE, "2": {"class_type": "VHS_VideoCombine", "inputs": inputs}})

    [place] = run.outputs["2"]["gifs"]
    assert place["filename"].endswith(suffix)
    assert place["type"] == ("output" if is_kept else "temp")
    assert place["format"] == format_
    view = {key: place[key] for key in ("filename", "subfolder", "type")}
    assert magic in asking.view(view).content[:16]


@pytest.mark.parametrize(
    ("kind", "more", "suffix", "magic"),
    [
        ("SaveAudio", {}, ".flac", b"fLaC"),
        ("SaveAudioMP3", {"quality": "V0"}, ".mp3", b"ID3"),
    ],
)
def test_sound_comes_in_a_list_of_its_own(
    asking: Peer, kind: str, more: dict[str, Any], suffix: str, magic: bytes
) -> None:
    silence = {"seconds": 1, "batch_size": 1}
    decode = {"samples": ["1", 0], "vae": ["2", 2]}
    graph = {
        "1": {"class_type": "EmptyLatentAudio", "inputs": silence},
        "2": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": asking.checkpoint}},
        "3": {"class_type": "VAEDecodeAudio", "inputs": decode},
        "4": {
            "class_type": kind,
            "inputs": {"audio": ["3", 0], "filename_prefix": "audio/s", **more},
        },
    }

    [place] = asking.run(graph).outputs["4"]["audio"]

    assert (place["subfolder"], place["type"]) == ("audio", "output")
    assert place["filename"].endswith(suffix)
    assert asking.view(place).content.startswith(magic)


def test_a_node_that_saves_nothing_we_know_of_tells_nothing(asking: Peer) -> None:
    preview = {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}

    run = asking.run({"1": IMAGE, "2": preview})

    assert (run.ending[0], run.outputs) == ("execution_success", {})
