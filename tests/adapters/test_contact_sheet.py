"""One picture of many results, whatever they are and are called."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nightkiln.blobs import LocalBlobs
from nightkiln.contact_sheet import BOX_PX, HEAD_PX, MARGIN_PX, Tile, contact_sheet
from tests.examples import few

RED = (200, 30, 30)
MIDDLE = (MARGIN_PX + BOX_PX // 2, HEAD_PX + BOX_PX // 2)  # of the first tile


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    Image.new("RGB", (64, 32), RED).save(path)
    return path


def drawn(*tiles: Tile) -> Image.Image:
    with Image.open(BytesIO(contact_sheet("heading", "below", tiles))) as image:
        return image.convert("RGB")


def test_a_picture_fills_its_box_and_keeps_its_shape(red: Path) -> None:
    sheet = drawn(Tile("row 0", picture=red.read_bytes))

    x, y = MIDDLE
    assert sheet.getpixel(MIDDLE) == RED
    assert sheet.getpixel((MARGIN_PX + 2, y)) == RED, "it is as wide as the box"
    assert sheet.getpixel((x, HEAD_PX + 10)) != RED, "and half as high"


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_what_cannot_be_shown_is_said_and_harms_nothing(tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(content)

    silent, said = drawn(Tile("row 0")), drawn(Tile("row 0", picture=broken.read_bytes))

    assert said.size == silent.size
    assert said.tobytes() == silent.tobytes(), "both say that there is nothing to be shown"


def test_a_picture_that_is_gone_leaves_its_place(tmp_path: Path, red: Path) -> None:
    gone = Tile("row 0", picture=partial(LocalBlobs(tmp_path).get, "gone.png"))

    sheet = drawn(gone, Tile("row 1", picture=red.read_bytes))

    assert sheet.getpixel(MIDDLE) != RED


def test_a_failure_is_told_in_its_own_colour() -> None:
    failed = drawn(Tile("row 0", instead="failed (job)\nno such node", is_failed=True))
    video = drawn(Tile("row 0", instead="failed (job)\nno such node"))

    assert failed.tobytes() != video.tobytes()


@few(10, of=200)
@given(st.text(max_size=2000), st.integers(1, 7))
def test_any_caption_fits_and_changes_no_size(text: str, count: int) -> None:
    tiles = [Tile(text, note="1.00 s", text=text, instead=text) for _ in range(count)]
    plain = [Tile("row", text="fox") for _ in range(count)]

    assert drawn(*tiles).size == drawn(*plain).size


def test_a_large_sheet_is_no_wider_than_ten_tiles() -> None:
    sheet = drawn(*[Tile(f"row {n}") for n in range(200)])

    assert sheet.width < 11 * (BOX_PX + MARGIN_PX)
