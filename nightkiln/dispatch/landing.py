"""Brings one job's outputs home: download, verify, keep. Only what is verified gets a name."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nightkiln.core.errors import BadOutput, RenderFailed, StoreUnusable
from nightkiln.core.model import AttemptId, BoundJob, Fault, JobId, Output, OutputFacts, Ticket
from nightkiln.disk import trouble
from nightkiln.dispatch.direct import Direct, keys_of, posted_by
from nightkiln.ports.blobs import Blobs
from nightkiln.ports.uploads import CanUpload, Form, HasPosted, TakesForms, Uploads
from nightkiln.ports.worker import OutputHandle, Rendered, Worker
from nightkiln.verify import inspect

KEEPS_MAX = 8  # jobs whose files are brought into the store at once
CHECKS_MAX = 2  # files checked at once, in threads: more would only crowd a small controller
FIRST_DECODED = 8  # images of a lease, or after a fault there, that are decoded whatever the rule
SAMPLE_EVERY = 16  # with ``decode: sample``, one image in so many is decoded
FORMS_USUAL = 4  # for the files of a job of which nobody knows how many it makes
FORMS_MAX = 64  # of one job; what it makes beyond comes through this computer
UPLOADS_FAILED_MAX = 3  # on one lease; then its machine is not asked to bring anything any more


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
    uploads_failed: int = 0  # of files that the machine was to bring by itself

    def looks_closely(self) -> bool:
        """Whether the next file is decoded though only samples are asked for."""
        self.seen += 1
        self.close_looks -= 1
        return self.is_fresh or self.seen % SAMPLE_EVERY == 0

    @property
    def is_fresh(self) -> bool:
        """Whether the file that was asked about last was one of the first, or after a fault."""
        return self.close_looks >= 0

    def shaken(self) -> None:
        """A fault happened on this lease."""
        self.close_looks = FIRST_DECODED


@dataclass(frozen=True, slots=True)
class Fetched:
    """One verified output without a name in the store yet: on local disk, or brought there."""

    path: Path  # of what is on local disk
    node: str
    facts: OutputFacts
    brought: str | None = None  # the key under which its machine has brought it
    posted: str | None = None  # the one of a form, of which ``brought`` is a copy


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
    warn: Callable[[str], Awaitable[None]] | None = None  # tells people
    direct: Direct | None = None  # how machines bring files by themselves
    # Of their own: a store that is slow must not keep heartbeats from getting a thread.
    _keepers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(KEEPS_MAX, "keep"), repr=False
    )
    _told: set[str] = field(default_factory=set)  # why no forms are given out
    _checks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CHECKS_MAX))

    def let_bring(self, uploads: Uploads | None) -> None:
        """Have machines that can bring their files by themselves; None: they do not."""
        self.direct = Direct(uploads, self.blobs) if uploads is not None else None

    async def submit(
        self, worker: Worker, job: BoundJob, attempt_id: AttemptId, trust: Trust
    ) -> Ticket:
        """Hand a job over, with forms for what it makes where the worker can use them.

        Raises:
            RenderFailed, WorkerLost: as ``Worker.submit`` says.
        """
        if not isinstance(worker, TakesForms) or not await self._gives_forms(worker, trust):
            return await worker.submit(job, attempt_id)
        expected = job.outputs_expected
        count = min(FORMS_MAX, expected if expected is not None else FORMS_USUAL)
        keys = keys_of(attempt_id, count)

        async def forms(expires_s: float) -> Sequence[Form]:
            assert self.direct is not None
            return await self.direct.forms(keys, expires_s=expires_s)

        return await worker.submit_with(job, attempt_id, forms)

    async def _gives_forms(self, worker: TakesForms, trust: Trust) -> bool:
        if self.direct is None or trust.uploads_failed >= UPLOADS_FAILED_MAX:
            return False
        why = worker.no_forms
        if not why:
            try:
                why = await self.direct.form_objection() or ""
            except StoreUnusable:
                return False  # it is told where it matters; this one comes through here
        if why and why not in self._told and self.warn is not None:
            self._told.add(why)
            await self.warn(f"results come through this computer, not by themselves: {why}")
        return not why

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
        numbers = range(len(rendered.outputs))
        paths = [self.staging / f"{attempt_id}-{n}" for n in numbers]
        keys = keys_of(attempt_id, len(numbers))
        try:
            return [
                await self._fetch_one(handle, path, key, trust)
                for handle, path, key in zip(rendered.outputs, paths, keys, strict=True)
            ]
        except BaseException as error:
            pairs = list(zip(rendered.outputs, keys, strict=True))
            found = [key for handle, key in pairs if isinstance(handle, CanUpload | HasPosted)]
            if isinstance(error, RenderFailed):  # else it waits for the run that goes on
                found += filter(None, (posted_by(handle, key) for handle, key in pairs))
            self._drop(paths, found)
            raise

    async def _fetch_one(self, handle: OutputHandle, path: Path, key: str, trust: Trust) -> Fetched:
        is_close = trust.looks_closely()
        if isinstance(handle, CanUpload | HasPosted) and self.direct is not None:
            here = path if trust.is_fresh or self.direct.samples(key) else None
            facts = await self._brought(self.direct, handle, key, trust, here=here)
            if facts is not None:
                return Fetched(path, handle.node, facts, key, posted_by(handle, key))
        with self.times.stage("download"):
            await handle.save(path)
        async with self._checks:
            decode = self.rules.decodes_all or is_close
            facts = await asyncio.to_thread(self._check, path, decode)
        return Fetched(path, handle.node, facts)

    async def _brought(
        self,
        direct: Direct,
        handle: CanUpload | HasPosted,
        key: str,
        trust: Trust,
        *,
        here: Path | None,
    ) -> OutputFacts | None:
        """What a machine has brought by itself; None: its file comes through this computer.

        Raises:
            StoreUnusable: it has what was posted, and does not say so; there is no other way.
        """
        is_posted = isinstance(handle, HasPosted)
        if not is_posted and trust.uploads_failed >= UPLOADS_FAILED_MAX:
            return None
        try:
            with self.times.stage("upload"):
                if isinstance(handle, HasPosted):
                    brought = await direct.posted(handle, key)
                else:
                    brought = await direct.bring(handle, key)
            if isinstance(brought, str):
                await self._not_brought(brought, key, trust)
                return None
            async with self._checks:
                with self.times.stage("verify"):
                    return await direct.look(
                        key, brought, here=here, blank_is_fault=self.rules.blank_is_fault
                    )
        except StoreUnusable:
            if is_posted:
                raise
            # Not the machine's fault; from here on a spool waits for the store.
            return None

    async def _not_brought(self, why: str, key: str, trust: Trust) -> None:
        trust.uploads_failed += 1
        if trust.uploads_failed == 1 and self.warn is not None:
            said = f"a machine did not bring a result to the store by itself: {why}"
            await self.warn(f"{said}; it comes through this computer ({key})")

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
        self._drop([], [one.posted for one in fetched if one.posted is not None])
        return outputs

    def _put(self, pairs: Sequence[tuple[Output, Fetched]]) -> None:
        with self.times.stage("write"):
            for output, one in pairs:
                if one.brought is None:
                    self.blobs.put(output.uri, one.path)
                else:
                    assert self.direct is not None, "nobody else lets anything be brought"
                    self.direct.take(one.brought, output)

    def _key(self, job_id: JobId, index: int, facts: OutputFacts) -> str:
        name = f"{job_id}-{index}-{facts.sha256[:8]}.{facts.ext}"
        return f"images/{self.batch}/{job_id[:2]}/{name}"

    def discard(self, fetched: Sequence[Fetched]) -> None:
        """Drop files that will not be kept."""
        keys = [key for one in fetched for key in (one.brought, one.posted) if key is not None]
        self._drop([one.path for one in fetched], keys)

    def _drop(self, paths: Sequence[Path], keys: Sequence[str]) -> None:
        if self.direct is not None:
            self.direct.drop(keys)
        for path in paths:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
