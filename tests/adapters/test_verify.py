"""What comes back from a machine counts only when its bytes prove it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nightkiln.core.errors import BadOutput
from nightkiln.core.model import Fault
from nightkiln.verify import inspect, sniff


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 30), seed: int = 1) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    data = Random(seed).randbytes(size[0] * size[1] * channels)  # noqa: S311 - pixels
    return Image.frombytes(mode, size, data)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def at(folder: Path, data: bytes) -> Path:
    path = folder / "output"
    path.write_bytes(data)
    return path


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(packed: bytes, *, width: int = 4, height: int = 4) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


RAW = bytes(4 * (1 + 4 * 3))
GOOD = encoded(noise())
FRAMES = [noise(seed=seed) for seed in (2, 3)]
ANIMATION = encoded(noise(), "GIF", save_all=True, append_images=FRAMES)

DAMAGES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "a login page": (b"<!doctype html><title>Sign in</title>", "type"),
    "half of the file": (GOOD[: len(GOOD) // 2], "truncated"),
    "the last byte missing": (GOOD[:-1], "truncated"),
    "the end marker missing": (GOOD[:-12], "truncated"),
    "something after the end": (GOOD + b"x", "trailing"),
    "one bit flipped": (GOOD[:500] + bytes([GOOD[500] ^ 1]) + GOOD[501:], "checksum"),
    "a tail of zeros": (GOOD[:-200] + bytes(200), "checksum"),
    "good checksums around bad pixels": (png(b"\x78\x9c" + b"\x00" * 40), "pixels"),
    "too few pixels": (png(zlib.compress(RAW[:-3])), "pixels"),
    "too many pixels": (png(zlib.compress(RAW + b"x")), "pixels"),
    "a bomb": (png(zlib.compress(bytes(50_000_000))), "pixels"),
    "a header that promises too much": (
        png(zlib.compress(RAW), width=2**20, height=2**20),
        "too_large",
    ),
    "half a jpeg": (encoded(noise(), "JPEG")[:300], "pixels"),
    "part of an animation": (ANIMATION[: len(ANIMATION) * 3 // 8], "pixels"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_named(damage: str, tmp_path: Path) -> None:
    data, kind = DAMAGES[damage]

    with pytest.raises(BadOutput) as caught:
        inspect(at(tmp_path, data))

    assert (caught.value.kind, caught.value.fault) == (kind, Fault.MACHINE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_whole_png_of_any_colour_type_passes(mode: str, tmp_path: Path) -> None:
    image = noise().convert("P") if mode == "P" else None
    if mode == "1":
        image = noise("L").convert("1")
    if mode == "I;16":
        image = Image.frombytes("I;16", (40, 30), Random(1).randbytes(2400))  # noqa: S311
    data = encoded(image if image is not None else noise(mode))

    facts = inspect(at(tmp_path, data))

    assert (facts.media, facts.ext, facts.width, facts.height) == ("image/png", "png", 40, 30)
    assert facts.sha256 == hashlib.sha256(data).hexdigest()
    assert facts.size == len(data)


def test_pixels_have_one_digest_whatever_else_a_file_carries(tmp_path: Path) -> None:
    image, notes = noise(), PngInfo()
    notes.add_text("prompt", '{"seed": 7}')

    plain, told, other = (
        inspect(at(tmp_path, data))
        for data in (encoded(image), encoded(image, pnginfo=notes), encoded(noise(seed=2)))
    )

    assert plain.sha256 != told.sha256
    assert plain.pixels == told.pixels != other.pixels
    assert plain.pixels is not None


def test_the_same_bytes_in_another_shape_are_other_pixels(tmp_path: Path) -> None:
    packed = zlib.compress(bytes(28))  # a row is one byte and three per pixel
    facts = [
        inspect(at(tmp_path, png(packed, width=width, height=height)), blank_is_fault=False)
        for width, height in ((2, 4), (1, 7), (9, 1))
    ]

    assert len({one.pixels for one in facts}) == len(facts)


def test_of_colours_in_a_palette_no_digest_is_taken(tmp_path: Path) -> None:
    assert inspect(at(tmp_path, encoded(noise().convert("P")))).pixels is None


@pytest.mark.parametrize(
    ("kind", "media", "ext"),
    [("JPEG", "image/jpeg", "jpg"), ("WEBP", "image/webp", "webp"), ("GIF", "image/gif", "gif")],
)
def test_other_images_pass_too(kind: str, media: str, ext: str, tmp_path: Path) -> None:
    facts = inspect(at(tmp_path, encoded(noise(), kind)))

    assert (facts.media, facts.ext, facts.width) == (media, ext, 40)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_one_colour_all_over_is_a_fault_unless_it_is_allowed(kind: str, tmp_path: Path) -> None:
    path = at(tmp_path, encoded(Image.new("RGB", (64, 64), (3, 3, 3)), kind))

    with pytest.raises(BadOutput) as caught:
        inspect(path)
    assert (caught.value.kind, caught.value.fault) == ("blank", Fault.UNKNOWN)
    assert inspect(path, blank_is_fault=False).width == 64


def test_a_blank_png_that_was_stored_without_packing_is_blank_all_the_same(tmp_path: Path) -> None:
    path = at(tmp_path, encoded(Image.new("RGB", (64, 64)), compress_level=0))

    with pytest.raises(BadOutput, match="one colour"):
        inspect(path)


def test_a_simple_picture_is_not_blank(tmp_path: Path) -> None:
    image = Image.new("RGB", (256, 256))
    image.putpixel((200, 100), (255, 255, 255))

    assert inspect(at(tmp_path, encoded(image))).width == 256


def test_a_sampled_check_leaves_out_pixels_but_not_checksums(tmp_path: Path) -> None:
    assert inspect(at(tmp_path, png(zlib.compress(RAW))), decode=False).width == 4

    with pytest.raises(BadOutput, match="checksum"):
        inspect(at(tmp_path, DAMAGES["one bit flipped"][0]), decode=False)


def test_videos_and_sounds_are_carried_as_files(tmp_path: Path) -> None:
    data = b"\x00\x00\x00\x18ftypmp42" + bytes(100)

    facts = inspect(at(tmp_path, data))

    assert (facts.media, facts.ext, facts.width) == ("video/mp4", "mp4", None)
    assert facts.sha256 == hashlib.sha256(data).hexdigest()


def test_what_a_file_claims_in_its_name_does_not_matter() -> None:
    assert sniff(b"MZ\x90\x00") is None
    assert sniff(b"RIFF\x00\x00\x00\x00AVI ") is None


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, len(GOOD) - 1), bit=st.integers(0, 7))
def test_no_single_flipped_bit_goes_unnoticed(position: int, bit: int, tmp_path: Path) -> None:
    data = bytearray(GOOD)
    data[position] ^= 1 << bit

    with pytest.raises(BadOutput):
        inspect(at(tmp_path, bytes(data)))


def test_interlaced_pixels_are_counted_by_pass(tmp_path: Path) -> None:
    # An 8 x 8 image's seven Adam7 passes, as (width, height): PNG specification, section 8.2.
    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]
    raw = b"".join(bytes(h * (1 + w * 3)) for w, h in passes)
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 1)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )

    assert inspect(at(tmp_path, data), blank_is_fault=False).width == 8


WHOLE = {
    "png": GOOD,
    "animated png": encoded(noise(), "PNG", save_all=True, append_images=FRAMES),
    "jpeg": encoded(noise(), "JPEG"),
    "progressive jpeg": encoded(noise(), "JPEG", progressive=True),
    "webp": encoded(noise(), "WEBP"),
    "animated webp": encoded(noise(), "WEBP", save_all=True, append_images=FRAMES),
    "gif": encoded(noise(), "GIF"),
    "animated gif": ANIMATION,
}


def with_right_checksums(data: bytes) -> bytes:
    """A PNG whose damage only shows behind its checksums; any other file as it is."""
    made, at = bytearray(data[:8]), 8
    while data.startswith(GOOD[:8]) and at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            break
        made += data[at : at + 4] + chunk(data[at + 4 : at + 8], data[at + 8 : end - 4])[4:]
        at = end
    return bytes(made) + data[at:] if at > 8 else data


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    reach=st.sampled_from((60, 1 << 20)),  # bytes from the start: headers matter most
    kept=st.just(1.0) | st.floats(0, 1),
)
def test_whatever_is_damaged_is_rejected_or_has_facts(
    name: str, changes: list[tuple[float, int]], reach: int, kept: float, tmp_path: Path
) -> None:
    data = bytearray(WHOLE[name])
    for place, value in changes:
        data[int(place * min(reach, len(data)))] = value
    damaged = with_right_checksums(bytes(data[: int(kept * len(data))]))

    with contextlib.suppress(BadOutput):
        assert inspect(at(tmp_path, damaged)).size == len(damaged)


def test_a_small_file_cannot_take_gigabytes_to_check(tmp_path: Path) -> None:
    bomb = png(zlib.compress(bytes(60_000_000)), width=2**14, height=2**14)

    tracemalloc.start()
    with pytest.raises(BadOutput, match="bytes of pixels"):
        inspect(at(tmp_path, bomb))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 40_000_000
