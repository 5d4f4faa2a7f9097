"""``python -m tests.benchmarks``: one JSON line per figure; nothing fails for being slow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from tests.benchmarks import (
    agreement,
    busy,
    images,
    in_s3,
    jobs,
    looking,
    nights,
    over_ssh,
    planning,
    speed,
    storing,
)
from tests.benchmarks.document import MARKERS, today, with_figures
from tests.benchmarks.figure import Figure


class Group(Protocol):
    """Figures that are measured together."""

    def __call__(self, *, is_quick: bool) -> Iterator[Figure]: ...


GROUPS: Mapping[str, Group] = {
    "jobs": jobs.figures,
    "images": images.figures,
    "busy": busy.figures,
    "ssh": over_ssh.figures,
    "plan": planning.figures,
    "store": storing.figures,
    "s3": in_s3.figures,
    "gallery": looking.figures,
    "nights": nights.figures,
    "quote": agreement.figures,
    "speed": speed.figures,
}
# The section of the page in which a group's figures stand, where it is not the first.
SECTIONS = {
    **dict.fromkeys(("store", "s3", "gallery"), "stores"),
    **dict.fromkeys(("nights", "quote", "speed"), "nights"),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", choices=GROUPS, action="append", help="a group; repeatable")
    parser.add_argument("--quick", action="store_true", help="small: whether it runs, not how fast")
    parser.add_argument("--nights", type=int, metavar="COUNT", help="of each, instead of 200")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the figures into a page")
    return parser


def main() -> None:
    """Measure, print, and write down."""
    options = _parser().parse_args()
    lines: dict[str, list[str]] = {section: [] for section in MARKERS}
    for name in options.only if options.only is not None else GROUPS:
        group = GROUPS[name]
        if group is nights.figures:
            group = partial(nights.figures, count=options.nights)
        for figure in group(is_quick=options.quick):
            lines[SECTIONS.get(name, "figures")].append(figure.line())
            print(figure.line(), flush=True)
    if options.write is not None:
        options.write.write_text(_with_all(options.write.read_text(), lines))


def _with_all(page: str, lines: Mapping[str, list[str]]) -> str:
    """``page`` with the sections that there are lines for."""
    command = " ".join(["python -m tests.benchmarks", *sys.argv[1:]])
    for section, told in lines.items():
        if told:
            markers = MARKERS[section]
            page = with_figures(page, told, command=command, now=today(), markers=markers)
    return page


if __name__ == "__main__":
    main()
