"""An export from its first question to its manifest; the same call goes on where one ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightkiln.core.errors import BadInput, Problem
from nightkiln.export.copying import Damaged, copies
from nightkiln.export.formats import Layout
from nightkiln.export.loose import LooseFiles
from nightkiln.export.place import OPTION, WORK, Place, opened
from nightkiln.export.plan import PLAN, Plan, read_plan, write_plan
from nightkiln.export.records import (
    MANIFEST,
    Part,
    Totals,
    Trouble,
    problems_of,
    read_manifest,
    read_part,
    trouble,
    write_closing,
    write_manifest,
    write_part,
)
from nightkiln.export.request import Format, Request
from nightkiln.export.sheets import Sheets
from nightkiln.export.tables import HuggingFace, ParquetTables
from nightkiln.export.tars import WebDataset
from nightkiln.store.store import Store

PROBLEMS_SHOWN_MAX = 20
NEW_FOLDER = "export to a new folder"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an export is."""

    parts_done: int
    parts: int
    rows_done: int
    rows: int
    bytes_done: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of an export."""

    totals: Totals
    troubles: Sequence[Trouble] = ()  # the first few
    was_there: bool = False  # nothing was done: it was whole before


def export(
    store: Store, request: Request, *, tell: Callable[[Progress], None] = lambda _: None
) -> Exported:
    """Make the export that is asked for, or what is left of it.

    Raises:
        BadInput: the request fits neither the store nor the folder; nothing was written.
        StoreUnusable: the store cannot be read, or the folder not be written; what was made is
            kept, and the same call goes on.
    """
    with opened(request.folder, store.disk) as place:
        before = read_manifest(place)
        if before is not None and not before["problems"]:
            return _found_whole(store, request, place, before)
        plan = _plan(store, request, place, before)
        layout = _layout(request, place, plan)
        # Until all is well there is no manifest that says otherwise.
        place.remove(MANIFEST)
        _Parts(store, place, plan, layout, tell).make()
        totals = _close(request, place, plan, layout)
        troubles = problems_of(place, plan, most=PROBLEMS_SHOWN_MAX)
        if not totals.problems:
            place.close_work()  # else it is needed to try those parts again
        return Exported(totals, troubles)


def _found_whole(
    store: Store, request: Request, place: Place, before: Mapping[str, Any]
) -> Exported:
    """Nothing is left to do, if the store still gives the same answer."""
    if before["request"] != request.digest:
        raise _taken(place, f"holds another export ({before['format']}, {before['where']!r})")
    now = read_plan(write_plan(store, request, place)).sha256
    if now != before["plan_sha256"]:
        raise _taken(place, "holds this export of an earlier state of the store")
    place.discard()
    place.close_work()
    totals = Totals(before["samples"], before["bytes"], before["files"], problems=0)
    return Exported(totals, was_there=True)


def _plan(store: Store, request: Request, place: Place, before: Mapping[str, Any] | None) -> Plan:
    """The plan that was begun, or a new one, written down."""
    written = place.work / PLAN
    if not written.exists():
        if before is not None or any(path.name != WORK for path in place.folder.iterdir()):
            raise _taken(place, "is not empty, and holds no export that could go on")
        # A form that the outputs do not fit is told while nothing has been begun.
        _layout(request, place, read_plan(write_plan(store, request, place)))
        place.land()
    plan = read_plan(written)
    if plan.facts.request != request.digest:
        raise _taken(place, "is in the middle of an export that was asked for differently")
    return plan


def _taken(place: Place, what: str) -> BadInput:
    return BadInput([Problem(OPTION, f"{place.folder} {what}", NEW_FOLDER)])


def _layout(request: Request, place: Place, plan: Plan) -> Layout:
    match request.format:
        case Format.WEBDATASET:
            return WebDataset(place)
        case Format.PARQUET:
            return ParquetTables(place, plan)
        case Format.HF:
            return HuggingFace(place, plan)
        case Format.FILES:
            return LooseFiles(place, plan)
        case Format.CSV:
            return Sheets(place, plan)


@dataclass(slots=True)
class _Parts:
    """Makes the parts that are not whole yet, one after the other."""

    store: Store
    place: Place
    plan: Plan
    layout: Layout
    tell: Callable[[Progress], None]
    rows_done: int = 0
    bytes_done: int = 0

    def make(self) -> None:
        for number in range(self.plan.parts):
            self._tell(number)
            part = read_part(self.place, number)
            if part is not None and not part.troubles:
                self.rows_done += self.plan.rows_in(number)
                self.bytes_done += part.size
                continue
            part = self._make(number)
            self.place.land()  # the files first: a record is a promise
            write_part(self.place, number, part)
            self.place.land()
        self._tell(self.plan.parts)

    def _make(self, number: int) -> Part:
        troubles: list[Trouble] = []
        samples = size = 0
        with self.layout.shard(number) as shard:
            for row, data in self._copies(number):
                if isinstance(data, Damaged):
                    troubles.append(trouble(row, data.what))
                else:
                    shard.add(row, data)
                    samples, size = samples + 1, size + row.size
                self.rows_done += 1
                self.bytes_done += row.size
                self._tell(number)
        return Part(shard.made(), samples, size, troubles)

    def _copies(self, number: int) -> Any:
        rows = self.plan.part(number)
        if self.layout.takes_files:
            return copies(rows, self.store.blobs)
        return ((row, b"") for row in rows)

    def _tell(self, parts_done: int) -> None:
        facts = self.plan.facts
        self.tell(
            Progress(
                parts_done, self.plan.parts, self.rows_done, facts.rows, self.bytes_done, facts.size
            )
        )


def _close(request: Request, place: Place, plan: Plan, layout: Layout) -> Totals:
    """Checksums, then the manifest, each durable before the next."""
    closing = write_closing(place, plan, list(layout.closing()))
    place.land()
    write_manifest(place, request, plan, closing)
    place.land()
    return closing[0]
