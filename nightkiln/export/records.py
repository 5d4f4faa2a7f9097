"""What an export has made: a record per whole part, and at the end the manifest of them all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nightkiln import __version__
from nightkiln.export.place import WORK, Made, Place
from nightkiln.export.plan import Plan, Row
from nightkiln.export.request import EXPORT_VERSION, Request

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"  # as ``sha256sum -c`` reads it
PROBLEMS = "problems.jsonl"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One output that was not exported."""

    uri: str
    sha256: str
    name: str  # that it would have had
    what: str


@dataclass(frozen=True, slots=True)
class Part:
    """What came of one part."""

    files: Sequence[Made]
    samples: int
    size: int  # bytes of the outputs in it
    troubles: Sequence[Trouble]


@dataclass(frozen=True, slots=True)
class Totals:
    """What came of an export."""

    samples: int
    bytes: int  # of the outputs in it
    files: int
    problems: int


def trouble(row: Row, what: str) -> Trouble:
    """That an output is missing or damaged."""
    return Trouble(row.uri, row.sha256, row.path, what)


def write_part(place: Place, number: int, part: Part) -> None:
    """Say that a part is whole; its files have landed."""
    place.write(_path(number), json.dumps(asdict(part)).encode())


def read_part(place: Place, number: int) -> Part | None:
    """What came of a part; None if it is not whole."""
    text = place.read(_path(number))
    if text is None:
        return None
    value = json.loads(text)
    return Part(
        [Made(**one) for one in value["files"]],
        value["samples"],
        value["size"],
        [Trouble(**one) for one in value["troubles"]],
    )


def write_closing(place: Place, plan: Plan, more: Sequence[Made]) -> tuple[Totals, str]:
    """The checksums of all files, not landed yet; what it sums up to, and SHA256SUMS's own."""
    samples = size = files = problems = 0
    with place.stream(SUMS) as sums:
        for part in _parts(place, plan):
            samples, size = samples + part.samples, size + part.size
            files, problems = files + len(part.files), problems + len(part.troubles)
            _sums(sums, part.files)
        if problems:
            more = [*more, _write_problems(place, plan)]
        else:
            place.remove(PROBLEMS)  # of an earlier try
        _sums(sums, more)
    return Totals(samples, size, files + len(more), problems), sums.sha256


def _write_problems(place: Place, plan: Plan) -> Made:
    with place.stream(PROBLEMS) as stream:
        for part in _parts(place, plan):
            for one in part.troubles:
                stream.write(json.dumps(asdict(one), ensure_ascii=False).encode() + b"\n")
    return Made(PROBLEMS, stream.sha256, stream.size)


def write_manifest(place: Place, request: Request, plan: Plan, closing: tuple[Totals, str]) -> None:
    """Say that the export is whole. No time and no place is in it: the same store, same bytes."""
    totals, sums = closing
    manifest = {
        "kind": "nightkiln export",
        "export_version": EXPORT_VERSION,
        "nightkiln": __version__,
        "request": request.digest,
        "format": request.format,
        "where": request.where,
        "name": request.name,
        "caption": request.caption,
        "columns": {field.name: str(field.type) for field in plan.metadata},
        "outputs": plan.facts.rows,
        "samples": totals.samples,
        "bytes": totals.bytes,
        "files": totals.files,
        "problems": totals.problems,
        "plan_sha256": plan.sha256,
        "sha256sums_sha256": sums,
    }
    text = json.dumps(manifest, ensure_ascii=False, indent=2)
    place.write(MANIFEST, text.encode() + b"\n")


def read_manifest(place: Place) -> Mapping[str, Any] | None:
    """The manifest of an export that is there; None if there is none, or it is somebody else's."""
    text = place.read(MANIFEST)
    try:
        value = json.loads(text) if text is not None else None
    except ValueError:
        return None
    is_ours = isinstance(value, dict) and value.get("kind") == "nightkiln export"
    return value if is_ours else None


def problems_of(place: Place, plan: Plan, *, most: int) -> list[Trouble]:
    """The first few outputs that were not exported."""
    found: list[Trouble] = []
    for part in _parts(place, plan):
        found += part.troubles
        if len(found) >= most:
            break
    return found[:most]


def _parts(place: Place, plan: Plan) -> Iterator[Part]:
    for number in range(plan.parts):
        part = read_part(place, number)
        assert part is not None, "the manifest comes after all parts"
        yield part


def _sums(sums: Any, files: Sequence[Made]) -> None:
    for one in files:
        sums.write(f"{one.sha256}  {one.path}\n".encode())


def _path(number: int) -> str:
    return f"{WORK}/part-{number:06d}.json"
