"""Brings one job's outputs home: download, verify, keep. Only what is verified gets a name."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nightkiln.core.errors import BadOutput, StoreUnusable
from nightkiln.core.model import AttemptId, BoundJob, Fault, JobId, Output, OutputFacts
from nightkiln.disk import trouble
from nightkiln.ports.blobs import Blobs
from nightkiln.ports.worker import OutputHandle, Rendered
from nightkiln.verify import inspect

KEEPS_MAX = 8  # jobs whose files are brought into the store at once
CHECKS_MAX = 2  # files checked at once, in threads: more would only crowd a small controller
FIRST_DECODED = 8  # images of a lease, or after a fault there, that are decoded whatever the rule
SAMPLE_EVERY = 16  # with ``decode: sample``, one image in so many is decoded


@dataclass(frozen=True, slots=True)
class VerifyRules:
    """What the catalog asks of a check."""

    decodes_all: bool = True
    blank_is_fault: bool = True


@dataclass(slots=True)
class Trust:
    """How closely one lease's files are looked at."""

    close_looks: int = FIRST_DECODED
    seen: int = 0

    def looks_closely(self) -> bool:
        """Whether the next file is decoded though only samples are asked for."""
        self.seen += 1
        self.close_looks -= 1
        return self.close_looks >= 0 or self.seen % SAMPLE_EVERY == 0

    def shaken(self) -> None:
        """A fault happened on this lease."""
        self.close_looks = FIRST_DECODED


@dataclass(frozen=True, slots=True)
class Fetched:
    """One verified output on local disk, without a name in the store yet."""

    path: Path
    node: str
    facts: OutputFacts


class StageTimes:
    """Seconds spent per stage over a whole run, for benchmarks and `--json`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add what the block takes to ``name``; threads may overlap."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(slots=True)
class Landing:
    """The way of files into the store."""

    blobs: Blobs
    staging: Path
    batch: str
    rules: VerifyRules
    times: StageTimes = field(default_factory=StageTimes)
    # Of their own: a store that is slow must not keep heartbeats from getting a thread.
    _keepers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(KEEPS_MAX, "keep"), repr=False
    )
    _checks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CHECKS_MAX))

    async def fetch(
        self, job: BoundJob, rendered: Rendered, attempt_id: AttemptId, trust: Trust
    ) -> list[Fetched]:
        """Download and verify every output, or none.

        Raises:
            RenderFailed: one is missing, damaged, blank or too many.
            WorkerLost: the worker went away meanwhile.
        """
        expected = job.outputs_expected
        if expected is not None and len(rendered.outputs) != expected:
            raise BadOutput(
                f"{len(rendered.outputs)} output files instead of {expected}",
                fault=Fault.MACHINE,
                kind="count",
            )
        paths = [self.staging / f"{attempt_id}-{n}" for n in range(len(rendered.outputs))]
        try:
            return [
                await self._fetch_one(handle, path, trust)
                for handle, path in zip(rendered.outputs, paths, strict=True)
            ]
        except BaseException:
            self.discard(paths)
            raise

    async def _fetch_one(self, handle: OutputHandle, path: Path, trust: Trust) -> Fetched:
        with self.times.stage("download"):
            await handle.save(path)
        decode = self.rules.decodes_all or trust.looks_closely()
        async with self._checks:
            facts = await asyncio.to_thread(self._check, path, decode)
        return Fetched(path, handle.node, facts)

    def _check(self, path: Path, decode: bool) -> OutputFacts:  # noqa: FBT001
        with self.times.stage("verify"):
            try:
                return inspect(path, decode=decode, blank_is_fault=self.rules.blank_is_fault)
            except OSError as error:  # our own disk: the file was written a moment ago
                raise StoreUnusable(trouble(error, path)) from error

    async def keep(self, job_id: JobId, fetched: Sequence[Fetched]) -> tuple[Output, ...]:
        """Give verified files their place in the store; durable when this returns."""
        outputs = tuple(
            Output(index, one.node, self._key(job_id, index, one.facts), one.facts)
            for index, one in enumerate(fetched)
        )
        pairs = list(zip(outputs, fetched, strict=True))
        await asyncio.get_running_loop().run_in_executor(self._keepers, self._put, pairs)
        return outputs

    def _put(self, pairs: Sequence[tuple[Output, Fetched]]) -> None:
        with self.times.stage("write"):
            for output, one in pairs:
                self.blobs.put(output.uri, one.path)

    def _key(self, job_id: JobId, index: int, facts: OutputFacts) -> str:
        name = f"{job_id}-{index}-{facts.sha256[:8]}.{facts.ext}"
        return f"images/{self.batch}/{job_id[:2]}/{name}"

    def discard(self, paths: Sequence[Path]) -> None:
        """Drop files that will not be kept."""
        for path in paths:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
