"""A run's work of which only the decisions count: a real dispatcher, and nothing on the disk."""

from __future__ import annotations

import asyncio
import io
from typing import Any

from nightkiln.core.model import BoundJob, LeaseEnd, Need
from nightkiln.dispatch import Work
from nightkiln.observers import JsonLines
from nightkiln.ports.provider import Provider
from nightkiln.rehearse.weightless import Journal, Landing, Sink, Source


def weightless_work(
    provider: Provider, jobs: int, *, sink: Sink, ends: list[LeaseEnd], **more: Any
) -> Work:
    """Jobs of one provider; every end of a lease comes into ``ends``."""

    async def log(end: LeaseEnd) -> None:
        ends.append(end)

    return Work(
        need=Need(),
        source=Source(jobs),
        bind=lambda job: BoundJob(job.id, {}),
        providers={provider.name: provider},
        landing=Landing(),
        journal=Journal(),
        journal_fields=lambda _: {},
        sink=sink,
        observer=JsonLines(io.StringIO()),
        lease_log=log,
        clock=asyncio.get_running_loop().time,
        **more,
    )
