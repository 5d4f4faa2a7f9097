"""What the timeline of a run shows, out of a picture of it: it is drawn, no part of the page."""

from __future__ import annotations

from collections import Counter
from io import BytesIO

from PIL import Image

RUNNING, DONE, LOST = "running", "done", "lost"
COLOURS = {RUNNING: (9, 67, 155), DONE: (35, 158, 80), LOST: (222, 5, 41)}
FAR = 40  # in red, green and blue together: the same colour to the eye
SHORT = 6  # pixels: a dot, or a part of a letter
THIN = 12  # pixels: the line at the foot that shows the state of the flow


def bars(picture: bytes) -> Counter[str]:
    """How many bars there are of each colour, from top to bottom."""
    seen = Image.open(BytesIO(picture)).convert("RGB")
    found: Counter[str] = Counter()
    before: dict[str, int] = dict.fromkeys(COLOURS, 0)
    for y in range(seen.height):
        line = [seen.getpixel((x, y)) for x in range(0, seen.width, 2)]
        for name, colour in COLOURS.items():
            here = sum(isinstance(pixel, tuple) and _alike(pixel, colour) for pixel in line)
            is_bar = 2 * here >= SHORT
            found[name] += is_bar and before[name] + 1 == THIN
            before[name] = before[name] + 1 if is_bar else 0
    return +found


def _alike(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return sum(abs(mine - yours) for mine, yours in zip(one, other, strict=True)) < FAR
