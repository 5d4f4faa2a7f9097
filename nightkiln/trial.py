"""What a few rows on one machine have shown: seconds per job, failures, and all in one picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import fmean, median
from typing import Any

from nightkiln.contact_sheet import Tile, contact_sheet
from nightkiln.core.model import Usd
from nightkiln.store.sql_files import sql_file
from nightkiln.store.store import Store

FLEETS = (1, 4, 16)  # machines that the whole catalog is worked out for
KEYS = ("id", "key", "name")  # columns by which people know a row, first first
ERROR_CHARS_MAX = 160  # of a failure on the sheet
MB = 1e6


@dataclass(frozen=True, slots=True)
class TriedJob:
    """One job of the trial, settled."""

    job_id: str
    row: int
    status: str  # done | failed | reused
    fault: str | None
    error: str | None
    prompt: str | None
    columns: Mapping[str, Any]  # of its row, those that bind nothing
    output_count: int
    seconds: float | None  # of GPU; None: it failed
    gpu: str | None
    host: str | None
    place: int  # 1: settled first
    uri: str | None  # of one output, an image if there is one
    media: str | None
    bytes: int | None
    width: int | None
    height: int | None

    @property
    def key(self) -> str:
        """What people call its row."""
        row = f"row {self.row}"
        for column in KEYS:
            value = self.columns.get(column)
            if value not in (None, "", self.row, str(self.row)):
                return f"{row} \u00b7 {column} {value}"
        return row


@dataclass(frozen=True, slots=True)
class Trial:
    """Everything that a trial's batch shows."""

    batch: str
    jobs: tuple[TriedJob, ...]  # in the order of the catalog
    startups_s: tuple[float, ...]  # of machines that came up
    usd: Usd

    @property
    def rendered(self) -> list[TriedJob]:
        """Jobs whose seconds are known."""
        return [job for job in self.jobs if job.seconds is not None and job.status != "failed"]

    @property
    def failed(self) -> list[TriedJob]:
        return [job for job in self.jobs if job.status == "failed"]

    @property
    def seconds(self) -> list[float]:
        return [job.seconds for job in self.rendered if job.seconds is not None]

    @property
    def first_s(self) -> float | None:
        """Seconds of the job that was rendered first: on most machines it loads the models."""
        mine = [job for job in self.rendered if job.status == "done"]
        return min(mine, key=lambda job: job.place).seconds if mine else None

    @property
    def places(self) -> list[str]:
        """GPUs, and where they are."""
        return sorted({f"{job.gpu} at {job.host}" for job in self.rendered})

    @property
    def startup_s(self) -> float | None:
        return fmean(self.startups_s) if self.startups_s else None

    def finish_s(self, jobs: int, machines: int) -> float:
        """How long so many jobs take on so many machines like this one."""
        startup_s = self.startup_s if self.startup_s is not None else 0.0
        return startup_s + fmean(self.seconds) * -(-jobs // machines)

    def as_object(self) -> dict[str, Any]:
        """For programs: units in the names, ``null`` where there is nothing to say."""
        seconds = self.seconds
        return {
            "batch": self.batch,
            "jobs_measured": len(seconds),
            "jobs_measured_earlier": sum(job.status == "reused" for job in self.rendered),
            "workers": self.places,
            "seconds_per_job_p50": median(seconds) if seconds else None,
            "seconds_per_job_mean": fmean(seconds) if seconds else None,
            "seconds_per_job_min": min(seconds, default=None),
            "seconds_per_job_max": max(seconds, default=None),
            "seconds_first_job": self.first_s,
            "startup_s": self.startup_s,
            "usd": float(self.usd),
            "failures": [
                {"job_id": job.job_id, "row": job.row, "fault": job.fault, "error": job.error}
                for job in self.failed
            ],
        }


def read_trial(store: Store, batch: str) -> Trial:
    """What the store has of a trial. Blocking."""
    with store.connect("jobs", "outputs") as con:
        jobs = _rows(con, "tried_jobs", batch)
        leases = _rows(con, "tried_leases", batch)
    return Trial(
        batch=batch,
        jobs=tuple(map(_job, jobs)),
        startups_s=tuple(one["startup_s"] for one in leases if one["startup_s"] is not None),
        usd=sum((one["usd"] for one in leases), Decimal(0)),
    )


def _rows(con: Any, name: str, batch: str) -> list[dict[str, Any]]:
    found = con.sql(sql_file(name), params={"batch": batch}).to_arrow_table()
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def _job(line: dict[str, Any]) -> TriedJob:
    params = json.loads(line.pop("params"))
    if line["prompt"] is None:  # the input is called something else: the longest text will be it
        texts = [value for value in params.values() if isinstance(value, str)]
        line["prompt"] = max(texts, key=len, default=None)
    return TriedJob(**{**line, "columns": json.loads(line["columns"])})


def sheet_of(trial: Trial, store: Store, *, heading: str, below: str) -> bytes:
    """The contact sheet of a trial that has any job, as a PNG."""
    return contact_sheet(heading, below, [_tile(job, store) for job in trial.jobs])


def _tile(job: TriedJob, store: Store) -> Tile:
    more = f"  1 of {job.output_count}" if job.output_count > 1 else ""
    is_image = job.uri is not None and job.width is not None
    return Tile(
        title=job.key + more,
        note=f"{job.seconds:.2f} s" if job.seconds is not None and job.status != "failed" else "",
        text=job.prompt if job.prompt is not None else "",
        picture=store.root / job.uri if is_image and job.uri is not None else None,
        instead=_instead(job),
        is_failed=job.status == "failed",
    )


def _instead(job: TriedJob) -> str:
    if job.status == "failed":
        return f"failed ({job.fault})\n{(job.error or 'no reason given')[:ERROR_CHARS_MAX]}"
    if job.uri is None or job.bytes is None:
        return "no file"
    size = f", {job.width} x {job.height}" if job.width is not None else ""
    return f"{job.media}{size}\n{job.bytes / MB:.1f} MB"


def failures_by_reason(failed: Sequence[TriedJob]) -> list[tuple[str, int]]:
    """Why jobs failed, the commonest reason first."""
    counts: dict[str, int] = {}
    for job in failed:
        why = f"{job.error} ({job.fault})"
        counts[why] = counts.get(why, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
