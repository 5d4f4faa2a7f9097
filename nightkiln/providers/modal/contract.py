"""The wire contract with ``workers/modal_app.py``: requests, and replies that are checked here.

A reply comes from our own code in a container that runs strangers' (custom nodes), so nothing of it
is believed before it was looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nightkiln import comfy_answers as answers
from nightkiln.core.errors import RenderFailed, WorkerLost
from nightkiln.core.model import BoundJob, Fault, Loss
from nightkiln.ports.uploads import Form, Posted, Weighed
from nightkiln.providers.modal.errors import DEPLOY

CONTRACT = 2  # of requests and replies; the app says which one it speaks
FORMS_SINCE = 2  # before, an app sends every file with its reply
CONTRACTS = (CONTRACT, 1)  # that this side speaks
MARK_DIGITS = 24
WARM, RENDER = "warm", "render"
DONE, EXPIRED, TOO_LARGE = "done", "expired", "too_large"  # what a reply can be, else refused
TOO_LATE = "the call came too late and was not rendered"
NAME_CHARS_MAX = 200
SHA256 = re.compile(r"[0-9a-f]{64}")
SIZE_MAX = 2**40  # bytes of a file; how many are too many is not said here
TIME_MAX = 1e11  # epoch seconds; more is no time


def mark_of(digest: str, contract: int = CONTRACT) -> str:
    """The function of an app by whose name it says which contract and environment it is for."""
    return f"contract-{contract}-environment-{digest[:MARK_DIGITS]}"


def environments_in(functions: Iterable[str]) -> tuple[str, ...]:
    """First digits of the digests that an app with these functions is for."""
    starts = tuple(mark_of("", contract) for contract in CONTRACTS)
    return tuple(name.rpartition("-")[2] for name in functions if name.startswith(starts))


@dataclass(frozen=True, slots=True)
class Asking:
    """What every request of a provider has in common."""

    digest: str  # of the environment that the app must have
    result_bytes_max: int
    contract: int = CONTRACT  # that the app speaks

    def warm(self, *, expires_at_s: float) -> dict[str, Any]:
        """Come up, and say so."""
        return self._request(WARM, expires_at_s)

    def render(
        self,
        job: BoundJob,
        contents: Sequence[bytes],
        *,
        expires_at_s: float,
        forms: Sequence[Form] = (),
    ) -> dict[str, Any]:
        """Render a job; ``contents`` are its input files', ``forms`` are for what it makes."""
        files = [
            {
                "sha256": bound.file.sha256,
                "suffix": bound.file.suffix,
                "content": content,
                "targets": [list(target) for target in bound.targets],
            }
            for bound, content in zip(job.files, contents, strict=True)
        ]
        request = self._request(RENDER, expires_at_s)
        asked = {**request, "job": job.id, "graph": job.graph, "files": files}
        if forms:
            asked["forms"] = [{"url": form.url, "fields": dict(form.fields)} for form in forms]
        return asked

    def _request(self, kind: str, expires_at_s: float) -> dict[str, Any]:
        return {
            "contract": self.contract,
            "environment": self.digest,
            "kind": kind,
            "expires_at": expires_at_s,
            "result_bytes_max": self.result_bytes_max,
        }


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from a container, as far as it makes sense."""

    status: str
    container: str
    tag: str  # of the deploy: git commit and environment
    is_cold: bool  # the first call of this container
    t_enter: float  # epoch seconds by the container's clock, like all three
    t_start: float
    t_end: float
    gpu: str | None  # as ComfyUI names it
    told: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of one file: its bytes, or what the container says that it has posted."""

    content: bytes | None = field(repr=False)
    posted: Posted | str | None  # None: nobody has asked for that; text: why it could not


def read_reply(told: Any, digest: str, contract: int = CONTRACT) -> Reply:
    """Check a reply.

    Raises:
        RenderFailed: it is none that this side understands, or of another environment.
    """
    fields = told if isinstance(told, Mapping) else {}
    if fields.get("contract") != contract:
        theirs = answers.text(repr(fields.get("contract")))
        said = f"the app speaks contract {theirs}, and this side {contract}"
        raise RenderFailed(f"modal: {said}; {DEPLOY}", fault=Fault.OURS, kind="contract")
    if fields.get("environment") != digest:
        said = "the app that answers was built for another environment"
        raise RenderFailed(f"modal: {said}; {DEPLOY}", fault=Fault.OURS, kind="contract")
    times = [_time(fields.get(name)) for name in ("t_enter", "t_start", "t_end")]
    if times[0] < 0 or times != sorted(times):
        said = "modal: a reply whose times cannot be"
        raise RenderFailed(said, fault=Fault.MACHINE, kind="contract")
    return Reply(
        status=answers.text(fields.get("status")),
        container=_name(fields.get("container")),
        tag=_name(fields.get("tag")),
        is_cold=fields.get("is_cold") is True,
        t_enter=times[0],
        t_start=times[1],
        t_end=times[2],
        gpu=answers.gpu_name(fields.get("stats")),
        told=fields,
    )


def done(reply: Reply) -> tuple[answers.Finished, Mapping[answers.ViewName, Sent]]:
    """What a job's reply holds: its history, and its files by name.

    Raises:
        RenderFailed: the job failed, or was refused.
        WorkerLost: nobody waited for it any more.
    """
    if reply.status == DONE:
        return _done(reply)
    if reply.status == EXPIRED:
        raise WorkerLost(f"modal: {TOO_LATE}", loss=Loss.LOST)
    if reply.status == TOO_LARGE:
        said = "its files are more than the setting modal_result_mb_max allows"
        raise RenderFailed(f"modal: {said}", fault=Fault.JOB, kind=TOO_LARGE)
    raise RenderFailed(refused(reply), fault=Fault.OURS, kind="contract")


def refused(reply: Reply) -> str:
    """Why an app did not do what it was asked, for people."""
    said = reply.told.get("said", reply.status)
    return f"modal: the app refused: {answers.text(said)}; {DEPLOY}"


def _done(reply: Reply) -> tuple[answers.Finished, Mapping[answers.ViewName, Sent]]:
    if "rejection" in reply.told:
        raise answers.rejection(reply.told["rejection"])
    finished = answers.finished(reply.told.get("entry"))
    sent = reply.told.get("files")
    known = {
        (one.get("filename"), one.get("subfolder"), one.get("type")): one
        for one in (sent if isinstance(sent, list) else ())
        if isinstance(one, Mapping)
    }
    files = {}
    for name in finished.files:
        files[name] = _sent(known.get((name.filename, name.subfolder, name.folder), {}))
        if files[name].content is None and not isinstance(files[name].posted, Posted):
            said = f"modal: {answers.text(name.filename)} did not come with the result"
            raise RenderFailed(said, fault=Fault.MACHINE, kind="missing_file")
    return finished, files


def _sent(told: Mapping[str, Any]) -> Sent:
    content, posted, why = told.get("content"), told.get("posted"), told.get("not_posted")
    if isinstance(posted, Mapping):
        number = _count(posted.get("number"), answers.FILES_MAX)
        size, sha256 = _count(posted.get("size"), SIZE_MAX), posted.get("sha256")
        is_sum = isinstance(sha256, str) and SHA256.fullmatch(sha256) is not None
        if is_sum and number is not None and size is not None:
            return Sent(None, Posted(number, Weighed(size, str(sha256))))
    said = answers.text(why) if isinstance(why, str) else None
    return Sent(content if isinstance(content, bytes) else None, said)


def _count(value: Any, most: int) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= most else None


def _time(value: Any) -> float:
    """Epoch seconds; -1 where there are none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) and 0 <= value <= TIME_MAX else -1.0


def _name(value: Any) -> str:
    return answers.text(value)[:NAME_CHARS_MAX] if isinstance(value, str) else ""


def in_our_time(
    reply: Reply, *, submitted_s: float | None, now_s: float, boot_s_max: float
) -> Reply:
    """A reply with times that can be, by our own clock: a container's may be wrong, or lie.

    A call is begun after it was handed over (None: nobody knows when) and over by now, and no
    container boots for longer than it may before it is given a call.
    """
    moved_s = min(0.0, now_s - reply.t_end)
    if submitted_s is not None:
        moved_s += max(0.0, submitted_s - (reply.t_start + moved_s))
    t_end = min(now_s, reply.t_end + moved_s)
    t_start = min(t_end, reply.t_start + moved_s)
    t_enter = reply.t_enter + moved_s
    begun_s = submitted_s if submitted_s is not None else t_start
    t_enter = min(t_start, max(t_enter, begun_s - boot_s_max))
    return replace(reply, t_enter=t_enter, t_start=t_start, t_end=t_end)
