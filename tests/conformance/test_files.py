"""Files that come back and files that are sent."""

from __future__ import annotations

import io
import json
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from nightkiln.testing.comfyui.peer import Peer
from nightkiln.testing.comfyui.samples import image, save


def saved(comfyui: Peer, kind: str = "SaveImage", /, **inputs: Any) -> dict[str, Any]:
    """What history tells of a node that saves two images."""
    prefix = f"conformance/{uuid4().hex}"
    given = {"images": ["1", 0], "filename_prefix": prefix, **inputs}
    run = comfyui.run({"1": image(batch=2), "2": {"class_type": kind, "inputs": given}})
    told: dict[str, Any] = run.outputs["2"]
    return told


def one_picture(comfyui: Peer) -> dict[str, str]:
    place: dict[str, str] = saved(comfyui)["images"][0]
    return place


def png(color: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(file, "PNG")
    return file.getvalue()


def upload(comfyui: Peer, name: str, content: bytes, **fields: str) -> dict[str, str]:
    reply = comfyui.http.post("/upload/image", files={"image": (name, content)}, data=fields)
    assert reply.status_code == 200
    answer: dict[str, str] = reply.json()
    return answer


def test_a_picture_comes_whole_with_its_length(comfyui: Peer) -> None:
    place = one_picture(comfyui)

    reply = comfyui.view(place)

    assert reply.status_code == 200
    assert reply.headers["content-type"] == "image/png"
    assert reply.headers["content-disposition"] == f'filename="{place["filename"]}"'
    assert int(reply.headers["content-length"]) == len(reply.content)
    assert reply.headers["etag"].startswith('"')
    assert "last-modified" in reply.headers
    with Image.open(io.BytesIO(reply.content)) as picture:
        picture.load()
        assert (picture.format, picture.size, picture.mode) == ("PNG", (16, 16), "RGB")


def test_a_picture_tells_the_graph_that_made_it_and_what_it_was_given_to_tell(
    comfyui: Peer,
) -> None:
    graph = {"1": image(), "2": save()}
    info = {"nightkiln": {"job_id": "a", "row": 1}, "other": [1, "ä"]}

    run = comfyui.run(graph, extra_data={"extra_pnginfo": info})

    with Image.open(io.BytesIO(comfyui.view(run.outputs["2"]["images"][0]).content)) as picture:
        told = {key: json.loads(value) for key, value in picture.info.items()}
    told.pop("nightkiln-stand-in", None)
    assert told == {"prompt": graph, **info}


def test_a_part_of_a_file_can_be_asked_for(comfyui: Peer) -> None:
    place = one_picture(comfyui)
    whole = comfyui.view(place).content

    parts = {
        wanted: comfyui.view(place, headers={"range": f"bytes={wanted}"})
        for wanted in ("0-9", "10-", "-5", "5-5")
    }

    assert {reply.status_code for reply in parts.values()} == {206}
    assert parts["0-9"].content == whole[:10]
    assert parts["10-"].content == whole[10:]
    assert parts["-5"].content == whole[-5:]
    assert parts["5-5"].content == whole[5:6]
    assert parts["0-9"].headers["content-range"] == f"bytes 0-9/{len(whole)}"
    assert parts["0-9"].headers["content-length"] == "10"


def test_a_part_beyond_the_end_cannot_be_had(comfyui: Peer) -> None:
    place = one_picture(comfyui)

    reply = comfyui.view(place, headers={"range": "bytes=99999999-"})

    assert reply.status_code == 416


def test_the_length_can_be_asked_without_the_file(comfyui: Peer) -> None:
    place = one_picture(comfyui)

    reply = comfyui.http.head("/view", params=place)

    assert (reply.status_code, reply.content) == (200, b"")
    assert int(reply.headers["content-length"]) == len(comfyui.view(place).content)


def test_a_file_that_is_known_is_not_sent_again(comfyui: Peer) -> None:
    place = one_picture(comfyui)
    etag = comfyui.view(place).headers["etag"]

    reply = comfyui.view(place, headers={"if-none-match": etag})

    assert (reply.status_code, reply.content) == (304, b"")


@pytest.mark.parametrize(
    ("place", "status"),
    [
        ({"filename": "missing.png"}, 404),
        ({"filename": "missing.png", "type": "temp"}, 404),
        ({}, 404),
        ({"filename": ""}, 400),
        ({"filename": "../x.png"}, 400),
        ({"filename": "/etc/passwd"}, 400),
        ({"filename": "x.png", "subfolder": "../.."}, 403),
        ({"filename": "x.png", "subfolder": "/etc"}, 403),
        ({"filename": "x.png", "type": "nonsense"}, 400),
    ],
    ids=str,
)
def test_a_file_that_is_not_there_or_not_ours(
    comfyui: Peer, place: dict[str, str], status: int
) -> None:
    reply = comfyui.view(place)

    assert (reply.status_code, reply.content) == (status, b"")


def test_files_of_one_series_are_numbered_on(comfyui: Peer) -> None:
    stem = uuid4().hex

    runs = [
        comfyui.run({"1": image(batch=2), "2": save(prefix=f"conformance/{stem}")})
        for _ in range(2)
    ]

    names = [place["filename"] for run in runs for place in run.outputs["2"]["images"]]
    assert names == [f"{stem}_0000{number}_.png" for number in (1, 2, 3, 4)]


def test_a_preview_is_a_temporary_file(comfyui: Peer) -> None:
    preview = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    run = comfyui.run({"1": image(), "2": preview})

    [place] = run.outputs["2"]["images"]
    assert place["type"] == "temp"
    assert place["subfolder"] == ""
    assert place["filename"].startswith("ComfyUI_temp_")
    assert comfyui.view(place).content.startswith(b"\x89PNG")


ANIMATED: dict[str, dict[str, Any]] = {
    "SaveAnimatedWEBP": {"fps": 5.0, "lossless": True, "quality": 80, "method": "default"},
    "SaveAnimatedPNG": {"fps": 5.0, "compress_level": 4},
    "SaveWEBM": {"fps": 5.0, "crf": 30.0, "codec": "vp9"},
}
MAGIC = {
    "SaveAnimatedWEBP": b"RIFF",
    "SaveAnimatedPNG": b"\x89PNG",
    "SaveWEBM": b"\x1aE\xdf\xa3",
}


@pytest.mark.parametrize("kind", ANIMATED)
def test_an_animation_is_one_file_for_all_images(comfyui: Peer, kind: str) -> None:
    told = saved(comfyui, kind, **ANIMATED[kind])

    assert set(told) == {"images", "animated"}
    assert told["animated"] == [True]
    [place] = told["images"]
    assert comfyui.view(place).content.startswith(MAGIC[kind])


def test_a_video_is_told_among_the_images(comfyui: Peer) -> None:
    video = {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 5}}
    inputs = {"video": ["2", 0], "filename_prefix": f"c/{uuid4().hex}"}
    saver = {"class_type": "SaveVideo", "inputs": {**inputs, "format": "auto", "codec": "auto"}}

    told = comfyui.run({"1": image(batch=2), "2": video, "3": saver}).outputs["3"]

    assert set(told) == {"images", "animated"}
    assert told["images"][0]["filename"].endswith(".mp4")
    reply = comfyui.view(told["images"][0])
    assert reply.headers["content-type"] == "video/mp4"
    assert reply.content[4:8] == b"ftyp"


def test_an_uploaded_picture_can_be_loaded(comfyui: Peer) -> None:
    name = f"{uuid4().hex}.png"

    answer = upload(comfyui, name, png((200, 10, 10)))

    assert answer == {"name": name, "subfolder": "", "type": "input"}
    load = {"class_type": "LoadImage", "inputs": {"image": name}}
    assert comfyui.run({"1": load, "2": save()}).ending[0] == "execution_success"
    kept = comfyui.view({"filename": name, "type": "input"})
    assert kept.content == png((200, 10, 10))


def test_the_same_upload_again_keeps_its_name_and_another_one_gets_a_new_name(
    comfyui: Peer,
) -> None:
    stem = uuid4().hex
    colours = [(200, 10, 10), (200, 10, 10), (10, 200, 10), (10, 200, 10), (10, 10, 200)]

    names = [upload(comfyui, f"{stem}.png", png(colour))["name"] for colour in colours]

    assert names == [
        f"{stem}.png",
        f"{stem}.png",
        f"{stem} (1).png",
        f"{stem} (1).png",
        f"{stem} (2).png",
    ]


def test_an_upload_can_overwrite_and_changes_what_is_cached(comfyui: Peer) -> None:
    name = f"{uuid4().hex}.png"
    upload(comfyui, name, png((1, 2, 3)), overwrite="true", subfolder="sub")
    load = {"class_type": "LoadImage", "inputs": {"image": f"sub/{name}"}}
    first = comfyui.run({"1": load, "2": save()})

    answer = upload(comfyui, name, png((3, 2, 1)), overwrite="true", subfolder="sub")
    again = comfyui.run({"1": load, "2": save()})

    assert answer == {"name": name, "subfolder": "sub", "type": "input"}
    assert again.of("execution_cached")[0]["nodes"] == []
    assert again.outputs != first.outputs


@pytest.mark.parametrize(
    ("name", "fields"), [("x.png", {"subfolder": "../.."}), ("../../../x.png", {})], ids=str
)
def test_an_upload_cannot_leave_its_folder(
    comfyui: Peer, name: str, fields: dict[str, str]
) -> None:
    files = {"image": (name, png((1, 1, 1)))}
    reply = comfyui.http.post("/upload/image", files=files, data=fields)

    assert reply.status_code == 400


def test_an_upload_without_a_file_is_refused(comfyui: Peer) -> None:
    reply = comfyui.http.post("/upload/image", files={"other": ("x.png", b"x")})

    assert reply.status_code == 400
