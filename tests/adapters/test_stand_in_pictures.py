"""What the stand-in draws."""

from __future__ import annotations

import io
import json
import zlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nightkiln.testing.comfyui import graphs, media
from nightkiln.testing.comfyui.pictures import SIDE_MAX, Painter, _adler_of_both, damaged


def decoded(chunks: tuple[bytes, ...]) -> Image.Image:
    image = Image.open(io.BytesIO(b"".join(chunks)))
    image.load()
    return image


def plain(_: str, __: str, value: Any) -> Any:
    return value


def text_to_image(text: str = "a cat", seed: int = 7, prefix: str = "x") -> dict[str, Any]:
    return {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tiny"}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["4", 1]}},
        "3": {"class_type": "KSampler", "inputs": {"seed": seed, "positive": ["6", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": prefix}},
    }


@given(st.integers(2, 600), st.integers(2, 600), st.text(max_size=20))
def test_a_picture_has_the_size_asked_for_up_to_a_bound(width: int, height: int, job: str) -> None:
    image = decoded(Painter().png(job, (width, height)))

    if max(width, height) <= SIDE_MAX:
        assert image.size == (width, height)
    else:
        assert max(image.size) == SIDE_MAX


@given(st.text(max_size=20), st.integers(2, 256))
def test_a_picture_is_never_blank(job: str, side: int) -> None:
    colours = decoded(Painter().png(job, (side, side))).getcolors(maxcolors=1 << 20)

    assert colours is not None
    assert len(colours) > 1


def test_the_same_job_gives_the_same_bytes_and_another_job_another_picture() -> None:
    painter = Painter()

    assert painter.png("a", (64, 64)) == Painter().png("a", (64, 64))
    assert decoded(painter.png("a", (64, 64))) != decoded(painter.png("b", (64, 64)))


def test_a_picture_says_that_it_is_a_stand_ins_and_what_it_was_told_to_say() -> None:
    image = decoded(Painter().png("a", (64, 64), text=[("prompt", json.dumps({"1": {}}))]))

    assert image.info == {"prompt": '{"1": {}}', "nightkiln-stand-in": "true"}


def test_a_weight_is_kept_and_costs_a_decoder_what_a_photograph_does() -> None:
    painter = Painter(size_mb=1.5)
    one, other = painter.png("a", (64, 64)), painter.png("b", (64, 64))

    assert abs(sum(map(len, one)) - 1.5e6) < 0.1e6
    assert decoded(one).size[0] == 1024
    assert decoded(one) != decoded(other)
    # The heavy part is held once, however many pictures there are.
    assert max(one, key=len) is max(other, key=len)


@given(st.binary(max_size=500), st.binary(max_size=500))
def test_the_checksum_of_two_parts_follows_from_those_of_each(first: bytes, second: bytes) -> None:
    both = _adler_of_both(zlib.adler32(first), zlib.adler32(second), len(second))

    assert both == zlib.adler32(first + second)


def test_a_damaged_picture_differs_in_one_bit() -> None:
    whole = Painter().png("a", (64, 64))
    pairs = zip(b"".join(whole), b"".join(damaged(whole)), strict=True)

    assert sum((one ^ other).bit_count() for one, other in pairs) == 1


@given(st.text(max_size=10), st.integers(0, 9), st.text("ab", max_size=3))
def test_what_shapes_no_pixel_does_not_change_the_picture(
    text: str, seed: int, prefix: str
) -> None:
    graph = text_to_image(text, seed, prefix)
    renumbered = json.loads(
        json.dumps({f"n{name}": node for name, node in graph.items()})
        .replace('["4"', '["n4"')
        .replace('["6"', '["n6"')
        .replace('["3"', '["n3"')
    )
    same = graphs.Digests(text_to_image(text, seed), plain).pixels("9")

    assert graphs.Digests(graph, plain).pixels("9") == same
    assert graphs.Digests(renumbered, plain).pixels("n9") == same


def test_text_and_seed_change_the_picture_and_the_prefix_changes_the_signature() -> None:
    digests = [
        graphs.Digests(graph, plain)
        for graph in (
            text_to_image(),
            text_to_image(text="a dog"),
            text_to_image(seed=8),
            text_to_image(prefix="y"),
        )
    ]

    assert len({one.pixels("9") for one in digests}) == 3
    assert len({one.signature("9") for one in digests}) == 4


def test_batches_are_counted_through_the_graph() -> None:
    latent = {"width": 64, "height": 32, "batch_size": 2}
    graph: dict[str, Any] = {
        "1": {"class_type": "EmptyLatentImage", "inputs": latent},
        "2": {"class_type": "RepeatLatentBatch", "inputs": {"samples": ["1", 0], "amount": 3}},
        "3": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0]}},
        "4": {"class_type": "ImageBatch", "inputs": {"image1": ["3", 0], "image2": ["3", 0]}},
    }

    assert [graphs.batch(graph, node) for node in "1234"] == [2, 6, 6, 12]
    assert graphs.size(graph, "4") == (64, 32)


def test_every_kind_of_file_can_be_told_from_its_bytes() -> None:
    assert media.animation("a", "GIF").startswith(b"GIF89a")
    assert media.animation("a", "WEBP")[8:12] == b"WEBP"
    assert media.mp4("a")[4:8] == b"ftyp"
    assert media.webm("a").startswith(b"\x1aE\xdf\xa3")
    assert media.flac("a").startswith(b"fLaC")
    assert media.mp3("a").startswith(b"ID3")
    with Image.open(io.BytesIO(media.animation("a", "WEBP"))) as animation:
        assert getattr(animation, "n_frames", 1) == 3
