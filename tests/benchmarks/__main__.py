"""``python -m tests.benchmarks``: one JSON line per figure; nothing fails for being slow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from tests.benchmarks import busy, images, jobs, planning
from tests.benchmarks.document import today, with_figures
from tests.benchmarks.figure import Figure


class Group(Protocol):
    """Figures that are measured together."""

    def __call__(self, *, is_quick: bool) -> Iterator[Figure]: ...


GROUPS: Mapping[str, Group] = {
    "jobs": jobs.figures,
    "images": images.figures,
    "busy": busy.figures,
    "plan": planning.figures,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", choices=GROUPS, action="append", help="a group; repeatable")
    parser.add_argument("--quick", action="store_true", help="small: whether it runs, not how fast")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the figures into a page")
    return parser


def main() -> None:
    """Measure, print, and write down."""
    options = _parser().parse_args()
    lines = []
    for name in options.only if options.only is not None else GROUPS:
        for figure in GROUPS[name](is_quick=options.quick):
            lines.append(figure.line())
            print(lines[-1], flush=True)
    if options.write is not None:
        command = " ".join(["python -m tests.benchmarks", *sys.argv[1:]])
        page = options.write.read_text()
        options.write.write_text(with_figures(page, lines, command=command, now=today()))


if __name__ == "__main__":
    main()
