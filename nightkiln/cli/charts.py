"""What commands that draw a chart share: ``--chart`` checked beforehand, and written."""

from __future__ import annotations

from pathlib import Path

from nightkiln.core.errors import BadInput, Problem
from nightkiln.rehearse.picture import Picture, png, svg

CHARTS = (".png", ".svg")


def check_chart(path: Path | None) -> None:
    """Before anything is worked out: that would be lost.

    Raises:
        BadInput: no picture can be written there.
    """
    if path is None:
        return
    if path.suffix.lower() not in CHARTS:
        raise BadInput([Problem(f"--chart {path}", "is no kind of picture", "a .png or a .svg")])
    if not path.absolute().parent.is_dir():
        raise BadInput([Problem(f"--chart {path}", "its folder is not there", "make it first")])


def write_chart(picture: Picture, path: Path) -> None:
    """As the kind of picture that the file's name says.

    Raises:
        BadInput: it cannot be written.
    """
    content = svg(picture).encode() if path.suffix.lower() == ".svg" else png(picture)
    try:
        path.write_bytes(content)
    except OSError as error:
        what = f"cannot be written: {error.strerror}"
        raise BadInput([Problem(f"--chart {path}", what)]) from error
