"""A settled job as one JSON object and back: what a journal line must hold to be adoptable."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from nightkiln.core.model import (
    Attempt,
    AttemptId,
    CatalogRow,
    Fault,
    InputFile,
    Job,
    JobId,
    LeaseId,
    Output,
    OutputFacts,
    Settled,
)


def settled_to_json(settled: Settled) -> dict[str, Any]:
    """Everything in ``settled``, JSON-safe; shares the values of inputs and columns with it.

    ``dataclasses.asdict`` would copy every one of them, once per job, on the event loop.
    """
    outputs = [{**_fields(one), "facts": _fields(one.facts)} for one in settled.outputs]
    return {
        **_fields(settled),
        "job": job_to_json(settled.job),
        "outputs": outputs,
        "attempts": [_fields(one) for one in settled.attempts],
        "usd_marginal": str(settled.usd_marginal),
    }


def job_to_json(job: Job) -> dict[str, Any]:
    """Everything in ``job``, in the same way."""
    files = {name: _fields(file) for name, file in job.files.items()}
    return {**_fields(job), "files": files, "rows": [_fields(row) for row in job.rows]}


def _fields(one: Settled | Job | CatalogRow | InputFile | Output | OutputFacts | Attempt) -> Any:
    return {name: getattr(one, name) for name in one.__slots__}


def settled_from_json(entry: Mapping[str, Any]) -> Settled:
    """The settled job that ``settled_to_json`` wrote.

    Raises:
        KeyError, TypeError, ValueError, ArithmeticError: it was not written by it.
    """
    return Settled(
        job=job_from_json(entry["job"]),
        status=str(entry["status"]),
        outputs=tuple(_output(one) for one in entry["outputs"]),
        attempts=tuple(_attempt(one) for one in entry["attempts"]),
        fault=_fault(entry["fault"]),
        error=entry["error"],
        queued_s=float(entry["queued_s"]),
        finished_s=float(entry["finished_s"]),
        download_s=float(entry["download_s"]),
        usd_marginal=Decimal(entry["usd_marginal"]),
    )


def job_from_json(entry: Mapping[str, Any]) -> Job:
    """The job that ``job_to_json`` wrote.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it was not written by it.
    """
    return Job(
        id=JobId(entry["id"]),
        values=dict(entry["values"]),
        files={name: InputFile(**file) for name, file in entry["files"].items()},
        rows=tuple(CatalogRow(**row) for row in entry["rows"]),
    )


def _output(entry: Mapping[str, Any]) -> Output:
    return Output(**{**entry, "facts": OutputFacts(**entry["facts"])})


def _attempt(entry: Mapping[str, Any]) -> Attempt:
    return Attempt(
        **{
            **entry,
            "id": AttemptId(entry["id"]),
            "lease_id": LeaseId(entry["lease_id"]),
            "fault": _fault(entry["fault"]),
        }
    )


def _fault(value: str | None) -> Fault | None:
    return Fault(value) if value is not None else None
