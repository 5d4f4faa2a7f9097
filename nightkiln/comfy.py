"""A ComfyUI server as a Worker, over HTTP.

Theory of operation. ComfyUI lets the client choose the prompt id, so every attempt has one of its
own and anything can be asked again: a POST whose reply was lost is looked for in the queue and the
history before it is sent again. Jobs run one after another, so only the oldest outstanding one is
polled closely; with two or three queued the GPU never waits for a poll or a download. An id that
is in neither queue nor history is lost (the server was restarted). A server whose execution thread
died still answers everything with 200: only the absence of progress gives it away.

Never sent: ``number`` (with a reused id it can kill the server's thread), an interrupt without a
prompt id (it would stop somebody else's job). The whole history is never fetched.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightkiln import comfy_answers as answers
from nightkiln.comfy_http import ComfyServer, Unanswered, parsed, until_answered
from nightkiln.comfy_progress import ProgressWatch, Quiet
from nightkiln.core.errors import WorkerLost
from nightkiln.core.model import AttemptId, BoundJob, InputFile, Ticket, Timings
from nightkiln.ports.worker import OutputHandle, Rendered
from nightkiln.wire import ANSWER_S_MAX, Wire

POLL_S_MIN, POLL_S_MAX = 0.01, 0.5
QUEUE_CHECK_S = 2.0  # how often a job that is not finished is looked for in the queue
HEAD_CHECK_S = 1.0  # how often a job that waits behind others is looked at all the same
STALL_S = 600.0  # without progress before the worker counts as stalled; covers loading models
STALL_S_MIN = 30.0  # however fast the renders seen so far
STALL_FACTOR = 20  # times the slowest render seen on this worker
WATCH_AFTER_S = 10.0  # a render longer than this is watched for progress over the websocket
IDLE_CHECKS_MAX = 5  # checks in a row with waiting jobs and nothing running: the thread is dead
TAKE_BACK_S_MAX = 5.0  # a prompt whose submission was cancelled half-way
TIDY_S_MAX = 2.0  # a courtesy at the end, which must not hold up a release
FORGET_AT = 32  # finished ids dropped from the server's history in one call

_PROMPTS = uuid.UUID("5c3fd0f3-9c1b-4f0c-8a57-2f6c0f1b7d11")  # namespace of our prompt ids


@dataclass(slots=True)
class _Outstanding:
    """One submitted job."""

    submitted_s: float  # epoch
    quiet: Quiet  # since it was submitted, or became the oldest
    is_head: asyncio.Event = field(default_factory=asyncio.Event)


class ComfyWorker:
    """One ComfyUI server. Made for one controller; other clients of the server are left alone."""

    def __init__(
        self,
        wire: Wire,
        *,
        gpu: str = "unknown",
        stall_s: float = STALL_S,
        clock: Callable[[], float] = time.time,
        loading_s: float = 0.0,
    ) -> None:
        self._server, self._gpu, self._clock = ComfyServer(wire), gpu, clock
        self._stall_s, self._loading_s = stall_s, loading_s
        self._outstanding: dict[Ticket, _Outstanding] = {}
        self._uploaded: dict[str, str] = {}
        self._to_forget: list[str] = []
        self._renders_s: float | None = None  # running mean, to pace the polls
        self._slowest_s = 0.0
        self._is_lost = False
        self._watch = ProgressWatch(wire.url)

    @property
    def gpu(self) -> str:
        return self._gpu

    @property
    def loading_s(self) -> float:
        return self._loading_s

    async def submit(self, job: BoundJob, attempt_id: AttemptId) -> Ticket:
        ticket = Ticket(str(uuid.uuid5(_PROMPTS, attempt_id)))
        if ticket in self._outstanding:
            return ticket
        body = await self._body(job, ticket)
        submitted_s = self._clock()
        try:
            answer = await self._post_once(body, ticket)
        except asyncio.CancelledError:
            # The prompt may be queued already, and nobody else knows its id.
            with contextlib.suppress(WorkerLost, TimeoutError):
                async with asyncio.timeout(TAKE_BACK_S_MAX):
                    await self.cancel(ticket)
            raise
        if answer is not None:
            self._check_accepted(answer)
        now_s = asyncio.get_running_loop().time()
        self._outstanding[ticket] = _Outstanding(submitted_s, Quiet(now_s))
        self._promote()
        return ticket

    async def _body(self, job: BoundJob, ticket: Ticket) -> bytes:
        graph = job.graph
        names = {bound.file.sha256: await self._upload(bound.file) for bound in job.files}
        targets = {
            target: names[bound.file.sha256] for bound in job.files for target in bound.targets
        }
        # A prefix of its own keeps an attempt from being answered with the files of an earlier
        # one, which may be damaged or gone; only the saving node runs again for it.
        for node_id, node in graph.items():
            if "filename_prefix" in node.get("inputs", {}):
                targets[node_id, "filename_prefix"] = f"nightkiln/{ticket}"
        for (node_id, name), value in targets.items():
            node = graph[node_id]
            graph = {**graph, node_id: {**node, "inputs": {**node["inputs"], name: value}}}
        extra = {"extra_pnginfo": {"nightkiln": {"job_id": job.id}}}
        return json.dumps({"prompt": graph, "prompt_id": ticket, "extra_data": extra}).encode()

    async def _upload(self, file: InputFile) -> str:
        if file.sha256 not in self._uploaded:
            self._uploaded[file.sha256] = await self._server.upload(file)
        return self._uploaded[file.sha256]

    async def _post_once(self, body: bytes, ticket: Ticket) -> Any:
        """Hand a prompt over exactly once; None when the reply was lost and the prompt is there."""

        async def post() -> Any:
            try:
                status, content = await self._server.exchange("POST", "/prompt", content=body)
            except Unanswered as error:
                if error.may_have_arrived and await self._is_known(ticket):
                    return None
                raise
            return _accepted_or_refused(status, content)

        return await until_answered(post, within_s=ANSWER_S_MAX)

    def _check_accepted(self, answer: Any) -> None:
        if not isinstance(answer, dict) or "prompt_id" not in answer:
            raise WorkerLost("POST /prompt answered something else than a prompt id")
        if answer.get("node_errors"):
            # Outputs that failed validation would be left out in silence.
            raise answers.rejection(answer)

    async def _is_known(self, ticket: str) -> bool:
        """Whether the server has the prompt; it moves from queue to history while we look."""
        for _ in range(2):
            running, waiting = await self._server.queue()
            if ticket in running or ticket in waiting:
                return True
            if await self._server.history(ticket) is not None:
                return True
        return False

    async def result(self, ticket: Ticket) -> Rendered:
        outstanding = self._outstanding.get(ticket)
        if outstanding is None:  # submitted by an earlier process
            now_s = asyncio.get_running_loop().time()
            outstanding = self._outstanding[ticket] = _Outstanding(self._clock(), Quiet(now_s))
            self._promote()
        try:
            entry = await self._wait(ticket, outstanding)
        except WorkerLost:
            self._is_lost = True
            raise
        finally:
            self._settle(ticket)
        observed_s = max(0.0, self._clock() - outstanding.submitted_s)
        done = answers.finished(entry)
        gpu_s = min(done.gpu_s, observed_s) if done.gpu_s is not None else observed_s
        self._learn(gpu_s)
        timings = Timings(outstanding.submitted_s, self._clock(), gpu_s)
        handles: list[OutputHandle] = [
            ComfyFile(self._server, name, done.is_echo) for name in done.files
        ]
        return Rendered(handles, timings)

    async def _wait(self, ticket: Ticket, mine: _Outstanding) -> Any:
        """Poll until the history has the job."""
        loop = asyncio.get_running_loop()
        checked_s, idle_checks = loop.time(), 0
        while True:
            if not mine.is_head.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEAD_CHECK_S):
                        await mine.is_head.wait()
            entry = await self._server.history(ticket)
            if entry is not None:
                return entry
            if loop.time() - checked_s >= QUEUE_CHECK_S:
                checked_s = loop.time()
                running, waiting = await self._server.queue()
                is_queued = ticket in running or ticket in waiting
                if not is_queued and not await self._is_known(ticket):
                    raise WorkerLost("the worker has forgotten a job: it was restarted")
                idle_checks = idle_checks + 1 if waiting and not running else 0
                if idle_checks >= IDLE_CHECKS_MAX:
                    said = "the worker has jobs waiting and runs none: its thread has died"
                    raise WorkerLost(said)
                if mine.is_head.is_set():
                    self._check_progress(ticket, mine.quiet, running, waiting)
            if mine.is_head.is_set():
                await asyncio.sleep(self._pause_s(loop.time() - mine.quiet.since_s))

    def _check_progress(
        self, ticket: Ticket, quiet: Quiet, running: frozenset[str], waiting: frozenset[str]
    ) -> None:
        now_s, ours = asyncio.get_running_loop().time(), self._outstanding.keys()
        quiet.look(ticket, ours=ours, running=running, waiting=waiting, now_s=now_s)
        if now_s - quiet.began_s >= WATCH_AFTER_S:
            self._watch.start()
        quiet_s = now_s - max(quiet.began_s, self._watch.progressed_s)
        if quiet_s > quiet.limit_s(self._stall_limit_s()):
            raise WorkerLost(f"the worker answers but made no progress for {quiet_s:.0f} s")

    def _stall_limit_s(self) -> float:
        if not self._slowest_s:
            return self._stall_s
        return min(self._stall_s, max(STALL_S_MIN, STALL_FACTOR * self._slowest_s))

    def _pause_s(self, waited_s: float) -> float:
        """Sleep through most of the expected render, then look often."""
        expected_s = self._renders_s if self._renders_s is not None else 0.0
        pace_s = max(expected_s * 0.9 - waited_s, expected_s * 0.05)
        return min(POLL_S_MAX, max(POLL_S_MIN, pace_s))

    def _learn(self, render_s: float) -> None:
        mean = self._renders_s
        self._renders_s = render_s if mean is None else 0.8 * mean + 0.2 * render_s
        self._slowest_s = max(self._slowest_s, render_s)

    def _promote(self) -> None:
        """The oldest outstanding job is polled closely from now on."""
        head = next(iter(self._outstanding.values()), None)
        if head is not None and not head.is_head.is_set():
            head.quiet.since_s = asyncio.get_running_loop().time()
            head.is_head.set()

    def _settle(self, ticket: Ticket) -> None:
        self._outstanding.pop(ticket, None)
        self._watch.stop()
        self._promote()

    async def cancel(self, ticket: Ticket) -> None:
        self._settle(ticket)
        await self._server.call("POST", "/queue", json={"delete": [ticket]})
        await self._server.call("POST", "/interrupt", json={"prompt_id": ticket})
        await self.forget(ticket)

    async def forget(self, ticket: Ticket) -> None:
        self._to_forget.append(ticket)
        if len(self._to_forget) >= FORGET_AT:
            await self._forget_now()

    async def _forget_now(self) -> None:
        ids, self._to_forget = self._to_forget, []
        if ids:
            with contextlib.suppress(WorkerLost):
                await self._server.call("POST", "/history", json={"delete": ids})

    async def aclose(self) -> None:
        """Tidy up at the server, as far as it answers, and hang up."""
        self._watch.stop()
        if not self._is_lost:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TIDY_S_MAX):
                    await self._forget_now()
        await self._server.aclose()


@dataclass(frozen=True, slots=True)
class ComfyFile:
    """One output, still at the worker."""

    server: ComfyServer
    name: answers.ViewName
    is_echo: bool

    @property
    def node(self) -> str:
        return self.name.node

    async def save(self, path: Path) -> None:
        await self.server.download(self.name, path, is_echo=self.is_echo)


def _accepted_or_refused(status: int, content: bytes) -> Any:
    if status == 400:  # noqa: PLR2004
        raise answers.rejection(parsed(content))
    if status != 200:  # noqa: PLR2004 - not a ComfyUI, or a locked door
        raise WorkerLost(f"POST /prompt answered HTTP {status}")
    return parsed(content)
