"""Observers that write lines: for logs, pipes and programs."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, TextIO

from nightkiln.core.model import Lease
from nightkiln.observers.sentences import counts, sentence, starting
from nightkiln.ports.observer import Progress

PROGRESS_EVERY_S = 10.0  # in a log, where every line stays


class PlainLines:
    """Sentences, one a line, and progress now and then."""

    def __init__(self, out: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._told_s = clock()

    @asynccontextmanager
    async def lease(self, lease: Lease) -> AsyncIterator[None]:
        self._write(f"{lease.host} is starting ({lease.provider})")
        yield

    async def event(self, name: str, fields: Mapping[str, Any]) -> None:
        said = sentence(name, fields)
        if said is not None:
            self._write(said)

    async def progress(self, progress: Progress) -> None:
        now_s = self._clock()
        if now_s - self._told_s >= PROGRESS_EVERY_S:
            self._told_s = now_s
            doing = starting(progress)
            self._write(f"{counts(progress)}; {doing}" if doing else counts(progress))

    def _write(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()


class JsonLines:
    """Every event and every progress as one JSON object a line; units are in the names."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    @asynccontextmanager
    async def lease(self, lease: Lease) -> AsyncIterator[None]:
        fields = {"lease_id": lease.id, "provider": lease.provider, "host": lease.host}
        await self.event("lease_starting", fields)
        yield

    async def event(self, name: str, fields: Mapping[str, Any]) -> None:
        self._out.write(json.dumps({"event": name, **fields}, default=str) + "\n")
        self._out.flush()

    async def progress(self, progress: Progress) -> None:
        await self.event("progress", {**asdict(progress), "left": progress.left})
