"""Why a run did what it did, in plain words; from its chronicle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from nightkiln.chronicle import Chronicle, Entry, JobTale, LeaseTale, Try
from nightkiln.core.model import Fault, JobId, LeaseId
from nightkiln.core.plain import to_json

JOB_ID_CHARS = 12  # of a job's id, in a sentence
JOBS_SHOWN_MAX = 20  # given up, named one by one
TEXT_CHARS_MAX = 300  # errors come from strangers' machines
DAY_S = 86400

_SO = {
    Fault.JOB: "that is the job's own fault, and would be the same everywhere",
    Fault.MACHINE: "that is the machine's fault, and does not speak against the job",
    Fault.OURS: "that is our own fault: the catalog, its environment or nightkiln",
    Fault.UNKNOWN: "the job's fault or the machine's: another machine will tell",
}
_ENDED = {
    "open": "not over when the story ends",
    "lost": "lost with its machine, which says nothing about the job",
}


def matching_leases(chronicle: Chronicle, asked: str) -> list[LeaseId]:
    """Leases meant by an id, its beginning, or its end (``lease-003``, ``003``)."""
    leases = chronicle.leases
    if asked in leases:
        return [LeaseId(asked)]
    ends = [each for each in leases if each.endswith(f"-{asked}")]
    return ends or [each for each in leases if each.startswith(asked)]


def matching_jobs(chronicle: Chronicle, asked: str) -> list[JobId]:
    """Jobs meant by an id or its beginning."""
    exact = JobId(asked)
    return [exact] if exact in chronicle.asked_for else sorted(chronicle.asked_for)


class Teller:
    """Tells one run. Times are shown in ``zone``."""

    def __init__(self, chronicle: Chronicle, zone: tzinfo) -> None:
        self._run, self._zone = chronicle, zone

    # The run.

    def overview(self) -> Iterator[str]:
        """Everything that has a reason, machine by machine."""
        yield self.headline()
        yield from (
            f"  {self._when(each)} {line(each.what)}: {line(each.why)}"
            for each in self._run.entries
        )
        for provider, errors in self._run.provider_errors.items():
            yield f"  {line(provider)} failed {times(len(errors))}; the last: {line(errors[-1])}"
        if self._run.cut is not None:
            yield f"  the story ends before the run did: {line(self._run.cut)}"
        for lease in self._run.leases.values():
            yield ""
            yield from self.lease(lease)
        if self._run.jobs:
            yield ""
            yield from self._troubled()

    def headline(self) -> str:
        """Which run, under which terms, and what came of it."""
        run, terms = self._run, self._run.opening.terms
        began = datetime.fromtimestamp(run.opening.began_s, self._zone)
        under = [f"{terms.jobs} jobs" if terms.jobs is not None else "jobs"]
        if terms.deadline_s is not None:
            by = datetime.fromtimestamp(run.at_epoch_s(terms.deadline_s), self._zone)
            under.append(f"by {by:%Y-%m-%d %H:%M}")
        if terms.budget is not None:
            under.append(f"for at most {terms.budget:.2f} USD")
        came = f"{run.done} results, {run.given_up} given up, {run.usd:.2f} USD"
        return (
            f"run {run.opening.epoch} of {run.opening.batch}, {began:%Y-%m-%d %H:%M:%S %Z}: "
            f"{', '.join(under)}; {came}"
        )

    def _troubled(self) -> Iterator[str]:
        jobs = self._run.jobs.values()
        again = sum(1 for job in jobs if job.is_done and len(job.tries) > 1)
        lost = [job for job in jobs if job.given_up_s is not None]
        yield f"jobs with a history: {again} done after more than one try, {len(lost)} given up"
        tries = Counter(_reason(each) for job in jobs for each in job.tries if each.how != "done")
        yield from (f"  {count} x {reason}" for reason, count in tries.most_common())
        for job in lost[:JOBS_SHOWN_MAX]:
            yield f"  {job.id[:JOB_ID_CHARS]} given up: {line(job.error)}"
        if len(lost) > JOBS_SHOWN_MAX:
            yield f"  and {len(lost) - JOBS_SHOWN_MAX} more; `nightkiln query` lists them"

    # A lease.

    def lease(self, lease: LeaseTale) -> Iterator[str]:
        """Why it was rented, what became of it, why it went."""
        offer = lease.offer
        where = line(lease.host or offer.machine or offer.ref)
        price = "free" if offer.is_free else f"{offer.usd_per_hour:.3f} USD an hour"
        what = f"{line(offer.provider)} {where}, {line(offer.gpu)}, {offer.kind.value}, {price}"
        yield f"{lease.id}: {what}"
        extensions = [each for each in lease.entries if each.what == "extended"]
        for each in lease.entries:
            if each.what != "extended":
                yield f"  {self._when(each)} {_lease_words(lease, each)}"
        if extensions:
            yield f"  extended {times(len(extensions))}, while there was work and money for it"
        if lease.released_s is None and not any(each.what == "given up" for each in lease.entries):
            yield "  the story ends while it was rented; the view `leases` may know more"

    # A job.

    def job(self, job: JobTale) -> Iterator[str]:
        """Each try, where it was, how it ended, and why there was another one or none."""
        yield f"job {job.id}"
        for number, each in enumerate(job.tries, 1):
            lease = self._run.leases.get(each.lease_id)
            gpu = f", {line(lease.offer.gpu)}" if lease is not None else ""
            where = line((lease.host if lease is not None else "") or each.lease_id)
            yield f"  try {number}: {self._clock(each.began_s)} on {where}{gpu} ({each.lease_id})"
            yield f"    {self._ended(each)}"
        yield f"  {_verdict(job)}"

    def _ended(self, each: Try) -> str:
        at = f"{self._clock(each.ended_s)} " if each.ended_s is not None else ""
        if each.how == "done":
            return f"{at}done and verified; the machine was busy with it for {each.seconds:.1f} s"
        if each.how == "cancelled":
            return f"{at}taken back: {line(each.taken_back or each.error)}; nobody's fault"
        if each.how == "failed":
            so = _SO.get(each.fault, "") if each.fault is not None else ""
            return f"{at}failed ({each.fault}, {line(each.kind)}): {line(each.error)}; {so}"
        return f"{at}{_ENDED[each.how]}" + (f" ({line(each.error)})" if each.error else "")

    def _when(self, entry: Entry) -> str:
        return self._clock(entry.at_s)

    def _clock(self, at_s: float) -> str:
        return f"{datetime.fromtimestamp(self._run.at_epoch_s(at_s), self._zone):%H:%M:%S}"


def _lease_words(lease: LeaseTale, entry: Entry) -> str:
    match entry.what:
        case "up":
            return f"up after {entry.at_s - lease.entries[0].at_s:.0f} s"
        case "gone":
            return _gone_words(lease)
        case "given up":
            return "given up: nobody confirmed that it ended, so it may still cost money"
        case "blamed":
            cause, _, ttl_s = entry.why.partition("|")
            return f"not to be rented again for {float(ttl_s) / DAY_S:g} days: {cause}"
        case "lost":
            loss = f" ({lease.loss.value})" if lease.loss is not None else ""
            return f"lost{loss}: {line(entry.why)}"
    return f"{entry.what}: {line(entry.why)}"


def _gone_words(lease: LeaseTale) -> str:
    bill = f", {lease.usd:.4f} USD" if lease.usd is not None else ""
    if lease.ready_s is None:
        return f"gone before it was up{bill}"
    return f"gone: {lease.done} jobs done, {lease.failed} failed tries{bill}"


def _reason(each: Try) -> str:
    if each.how == "failed":
        return f"failed ({each.fault}, {line(each.kind)})"
    if each.how == "cancelled":
        return f"taken back: {line(each.taken_back or each.error)}"
    return _ENDED[each.how]


def _verdict(job: JobTale) -> str:
    if job.given_up_s is not None:
        so = _SO.get(job.fault, "") if job.fault is not None else ""
        tried = times(len(job.tries))
        return f"given up after being tried {tried} ({job.fault}): {line(job.error)}; {so}"
    if job.is_done:
        return "done: the first verified result counts"
    return "neither done nor given up in this run: the next one goes on with it"


def times(count: int) -> str:
    """``once``, ``3 times``."""
    return "once" if count == 1 else f"{count} times"


def line(text: str) -> str:
    """A stranger's text as one bounded, printable line."""
    kept = "".join(char if char.isprintable() else " " for char in str(text))
    return " ".join(kept.split())[:TEXT_CHARS_MAX]


def facts(
    chronicle: Chronicle, subjects: Sequence[LeaseTale | JobTale]
) -> Iterator[Mapping[str, Any]]:
    """The same for programs: a run, then its leases or jobs; times are epoch seconds."""
    opening = chronicle.opening
    yield {
        "kind": "run",
        "batch": opening.batch,
        "epoch": opening.epoch,
        "began_s": opening.began_s,
        "jobs": opening.terms.jobs,
        "budget_usd": to_json(opening.terms.budget),
        "done": chronicle.done,
        "given_up": chronicle.given_up,
        "usd": str(chronicle.usd),
        "cut": chronicle.cut,
        "events": [_entry(chronicle, each) for each in chronicle.entries],
    }
    for one in subjects:
        if isinstance(one, LeaseTale):
            yield _lease_facts(chronicle, one)
        else:
            yield _job_facts(chronicle, one)


def _entry(chronicle: Chronicle, entry: Entry) -> Mapping[str, Any]:
    return {"at_s": chronicle.at_epoch_s(entry.at_s), "what": entry.what, "why": entry.why}


def _lease_facts(chronicle: Chronicle, lease: LeaseTale) -> Mapping[str, Any]:
    offer = lease.offer
    return {
        "kind": "lease",
        "lease_id": lease.id,
        "provider": offer.provider,
        "machine": offer.machine or offer.ref,
        "host": lease.host,
        "gpu": offer.gpu,
        "usd_per_hour": str(offer.usd_per_hour),
        "loss": to_json(lease.loss),
        "jobs_done": lease.done,
        "attempts_failed": lease.failed,
        "usd": to_json(lease.usd),
        "events": [_entry(chronicle, each) for each in lease.entries],
    }


def _job_facts(chronicle: Chronicle, job: JobTale) -> Mapping[str, Any]:
    return {
        "kind": "job",
        "job_id": job.id,
        "is_done": job.is_done,
        "is_given_up": job.given_up_s is not None,
        "fault": to_json(job.fault),
        "error": job.error,
        "verdict": _verdict(job),
        "attempts": [
            {
                **to_json(each),
                "began_s": chronicle.at_epoch_s(each.began_s),
                "ended_s": None if each.ended_s is None else chronicle.at_epoch_s(each.ended_s),
            }
            for each in job.tries
        ],
    }
