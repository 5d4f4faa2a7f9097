"""What a worker, a disk or a hasty user can do to a night that must not end it."""

from __future__ import annotations

from typing import Any

import pytest

from nightkiln import comfy_answers as answers
from nightkiln.core.errors import RenderFailed


def entry(files: list[Any], *, stamps: tuple[Any, Any] = (1000, 2000), node: str = "9") -> Any:
    """A history entry of a job that left ``files``."""
    first, last = stamps
    return {
        "status": {
            "status_str": "success",
            "messages": [
                ["execution_start", {"timestamp": first}],
                ["execution_success", {"timestamp": last}],
            ],
        },
        "outputs": {node: {"images": files}},
    }


GOOD = {"filename": "a.png", "subfolder": "", "type": "output"}


@pytest.mark.parametrize(
    "hostile",
    [
        {**GOOD, "type": ["output"]},
        {**GOOD, "type": {}},
        {**GOOD, "filename": "\ud800.png"},
        {**GOOD, "subfolder": "\udfff"},
        {**GOOD, "filename": "a" * 100_000},
    ],
)
def test_a_file_that_cannot_be_asked_for_is_not_named(hostile: Any) -> None:
    assert [file.filename for file in answers.finished(entry([hostile, GOOD])).files] == ["a.png"]


def test_a_node_whose_id_is_no_text_names_no_file() -> None:
    with pytest.raises(RenderFailed, match="without any output file"):
        answers.finished(entry([GOOD], node="\ud800"))


def test_timestamps_too_large_for_a_clock_are_ignored() -> None:
    assert answers.finished(entry([GOOD], stamps=(0, 10**400))).gpu_s is None
