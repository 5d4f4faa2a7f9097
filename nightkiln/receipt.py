"""What a batch came to, read from its store: jobs, failures, money, promises, what fell back.

The same for ``nightkiln receipt``, for Prefect and for programs; ``receipt_page`` words it. Nothing
is asked of a provider: what it has billed is what the store was told of last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.events import Rent, Stop, StopRequested
from nightkiln.core.model import LeaseId, Usd
from nightkiln.core.story import Opening, Step
from nightkiln.store.shared_views import connect_as_one, shares_of
from nightkiln.store.sql_files import sql_file
from nightkiln.store.store import Store
from nightkiln.story import read_story

if TYPE_CHECKING:
    import duckdb

REASONS_MAX = 50  # kinds of failure; the view ``failures`` has all
STORY_BYTES_MAX = 64 * 1024 * 1024  # gzipped, of all runs: some seconds of reading
USES = ("rendering", "startup", "never_up", "failed", "hedged", "idle")
_TOLD = ("Rent", "Stop", "StopRequested")  # of a story, all that is asked of it here


@dataclass(frozen=True, slots=True)
class Paid:
    """What one provider was paid."""

    provider: str
    leases: int
    never_up: int
    not_released: int  # as far as anybody confirmed
    jobs: int  # done there
    usd: Usd  # the figure that counts, as in the view ``leases``
    usd_estimated: Usd  # by our own count
    usd_billed: Usd | None  # by the provider, until now; None: it has not said
    usd_counted: Usd | None  # by our own count, of the leases that it has billed
    uses: Mapping[str, Usd]  # by ``USES``; they add up to ``usd``


@dataclass(frozen=True, slots=True)
class Reason:
    """Tries, or jobs, that failed alike."""

    how: str  # failed | lost
    fault: str | None
    reason: str  # numbers as #
    tries: int
    jobs: int
    jobs_failed: int
    jobs_done_elsewhere: int
    hosts: int
    example_job_id: str
    example_prompt: str | None
    example_host: str | None
    example_error: str | None


@dataclass(frozen=True, slots=True)
class FellBack:
    """Serverless leases that were rented for the same reason."""

    provider: str
    why: str
    leases: int
    jobs: int
    usd: Usd


@dataclass(frozen=True, slots=True)
class Promise:
    """What a run was quoted."""

    verdict: str  # taken | refused | declined
    usd_p50: Usd
    usd_p90: Usd
    finish_s_p50: float
    finish_s_p90: float
    decided_s: float  # epoch seconds; the others count from here


@dataclass(frozen=True, slots=True)
class RunTold:
    """One run of the batch; times are epoch seconds."""

    epoch: int
    exit_code: int | None  # None: it works, or was killed
    started_s: float
    ended_s: float | None
    last_s: float | None  # its last job was settled
    usd: Usd
    budget_usd: Usd | None = None
    deadline_s: float | None = None
    promise: Promise | None = None
    stop_reason: str | None = None

    @property
    def is_in_time(self) -> bool | None:
        """Whether it made its deadline; None: it has none, or nobody can say yet."""
        if self.deadline_s is None or self.exit_code is None:
            return None
        last_s = self.last_s if self.last_s is not None else self.started_s
        return self.exit_code in {0, 1} and last_s <= self.deadline_s


@dataclass(frozen=True, slots=True)
class Receipt:
    """A batch over all its runs."""

    batch: str
    catalog: str
    store: str
    jobs: int
    done: int
    reused: int
    failed: int
    left: int
    again: int  # settled after more than one try
    usd: Usd  # the figure that counts
    usd_beside: Usd  # of it, what no lease cost
    runs: Sequence[RunTold]
    paid: Sequence[Paid]
    reasons: Sequence[Reason]
    fell_back: Sequence[FellBack]
    is_story_whole: bool = True  # else why machines were rented is for `nightkiln why` to say
    images: str = ""
    views: str = ""

    @property
    def waste_usd(self) -> Usd:
        """USD of leases that did not go into a result."""
        return sum((one.usd - one.uses["rendering"] for one in self.paid), Usd(0))

    @property
    def usd_billed(self) -> Usd | None:
        """By the providers, until now; None: no one has said."""
        billed = [one.usd_billed for one in self.paid if one.usd_billed is not None]
        return sum(billed, Usd(0)) if billed else None

    def as_object(self) -> dict[str, Any]:
        """For programs: JSON-safe, units in the names."""
        said: dict[str, Any] = _plain(asdict(self))
        said["runs"] = [
            {**told, "is_in_time": run.is_in_time}
            for told, run in zip(said["runs"], self.runs, strict=True)
        ]
        return said | {"waste_usd": float(self.waste_usd), "usd_billed": _plain(self.usd_billed)}


@dataclass(slots=True)
class _Told:
    """What the stories of a batch say of its runs."""

    terms: dict[int, tuple[Usd | None, float | None]] = field(default_factory=dict)
    stops: dict[int, str] = field(default_factory=dict)
    why: dict[LeaseId, str] = field(default_factory=dict)  # of serverless leases
    is_whole: bool = True


def receipt_of(store: Store, batch: str) -> Receipt:
    """The receipt of a batch, whether it has ended or not; blocking, reads the store.

    Raises:
        BadInput: no run of it has begun.
        StoreUnusable: it cannot be read.
    """
    told, shares = _told(store, batch), shares_of(store, batch)
    for share in shares:
        of_share = _told(store, share)
        told.why |= of_share.why
        told.is_whole = told.is_whole and of_share.is_whole
    with connect_as_one(store, batch) as con:
        runs = [_run(row, told) for row in _asked(con, "receipt_runs", batch)]
        if not runs:
            raise BadInput([Problem(batch, "no run of it has begun", "`nightkiln status`")])
        runs = _with_promises(runs, con, batch)
        counts = {row["status"]: row for row in _asked(con, "receipt_jobs", batch)}
        paid = [_paid(row) for row in _asked(con, "receipt_paid", batch)]
        failures = _asked(con, "receipt_failures", batch, rows_max=REASONS_MAX)
        fell_back = _fell_back(_asked(con, "receipt_leases", batch), told.why)
        [(catalog, total)] = con.execute(
            "select catalog, jobs_total from batches where batch = ?", [batch]
        ).fetchall()
        [(beside,)] = con.execute(
            "select coalesce(sum(usd_marginal), 0) from jobs where batch = ?", [batch]
        ).fetchall()
    done, reused, failed = (
        int(counts[each]["jobs"]) if each in counts else 0 for each in ("done", "reused", "failed")
    )
    return Receipt(
        batch=batch,
        catalog=catalog,
        store=store.uri,
        jobs=int(total),
        done=done,
        reused=reused,
        failed=failed,
        left=max(0, int(total) - done - reused - failed),
        again=sum(int(row["again"]) for row in counts.values()),
        usd=sum((one.usd for one in paid), Usd(0)) + Usd(beside),
        usd_beside=Usd(beside),
        runs=runs,
        paid=paid,
        reasons=[Reason(**row) for row in failures],
        fell_back=fell_back,
        is_story_whole=told.is_whole,
        images=f"{store.where('images')}/{batch}" + ("-*" if shares else ""),
        views=store.where("views.sql"),
    )


def _asked(
    con: duckdb.DuckDBPyConnection, name: str, batch: str, **values: Any
) -> list[dict[str, Any]]:
    """The rows of one of our queries, by column."""
    answer = con.execute(sql_file(name), {"batch": batch, **values})
    names = [column[0] for column in answer.description or ()]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def _run(row: Mapping[str, Any], told: _Told) -> RunTold:
    budget, deadline_s = told.terms.get(row["epoch"], (None, None))
    return RunTold(
        epoch=row["epoch"],
        exit_code=row["exit_code"],
        started_s=row["started_s"],
        ended_s=row["ended_s"],
        last_s=row["last_s"],
        usd=row["usd"],
        budget_usd=budget,
        deadline_s=deadline_s,
        stop_reason=told.stops.get(row["epoch"]),
    )


def _with_promises(
    runs: Sequence[RunTold], con: duckdb.DuckDBPyConnection, batch: str
) -> list[RunTold]:
    """The runs, with what they were quoted; a store of before has no quotes at all."""
    has_quotes = con.execute("select 1 from duckdb_views() where view_name = 'quotes'").fetchall()
    rows = _asked(con, "receipt_quotes", batch) if has_quotes else []
    quotes = {row.pop("epoch"): row for row in rows}
    found = []
    for run in runs:
        quote = quotes.get(run.epoch)
        if quote is None:
            found.append(run)
            continue
        promise = Promise(**{name: quote[name] for name in Promise.__dataclass_fields__})
        budget = run.budget_usd if run.budget_usd is not None else quote["budget_usd"]
        deadline_s = run.deadline_s if run.deadline_s is not None else quote["deadline_s"]
        found.append(replace(run, promise=promise, budget_usd=budget, deadline_s=deadline_s))
    return found


def _paid(row: Mapping[str, Any]) -> Paid:
    uses = {use: Usd(row[f"usd_{use}"]) for use in USES}
    names = ("provider", "leases", "never_up", "not_released", "jobs", "usd", "usd_estimated")
    billed = {name: row[name] for name in ("usd_billed", "usd_counted")}
    return Paid(**{name: row[name] for name in names}, **billed, uses=uses)


def _fell_back(leases: Sequence[Mapping[str, Any]], why: Mapping[LeaseId, str]) -> list[FellBack]:
    """What the fallback was rented for, the costliest reason first."""
    by_reason: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for lease in leases:
        said = why.get(lease["lease_id"])
        if said is not None:
            alike = re.sub(r"[0-9]+(\.[0-9]+)?", "#", said)
            by_reason.setdefault((lease["provider"], alike), []).append(lease)
    found = [
        FellBack(
            provider=provider,
            why=why[mine[0]["lease_id"]],
            leases=len(mine),
            jobs=sum(one["jobs_done"] for one in mine),
            usd=sum((one["usd"] for one in mine), Usd(0)),
        )
        for (provider, _), mine in by_reason.items()
    ]
    return sorted(found, key=lambda one: (-one.usd, one.why))


def _told(store: Store, batch: str) -> _Told:
    told, room = _Told(), STORY_BYTES_MAX
    for path in store.story_paths(batch):
        room -= path.stat().st_size
        if room < 0:
            told.is_whole = False
            break
        try:
            opening, steps = read_story(path, only=_TOLD)
            told.terms[opening.epoch] = _terms(opening)
            for step in steps:
                if isinstance(step, Step):
                    _hear(step, opening.epoch, told)
        except BadInput:  # damaged, or of another nightkiln: the money is not in there
            told.is_whole = False
    return told


def _terms(opening: Opening) -> tuple[Usd | None, float | None]:
    wanted_s = opening.terms.deadline_s
    at_s = opening.began_s + wanted_s - opening.clock_s if wanted_s is not None else None
    return opening.terms.budget, at_s


def _hear(step: Step, epoch: int, told: _Told) -> None:
    if isinstance(step.event, StopRequested):
        told.stops[epoch] = step.event.reason
    for command in step.commands:
        if isinstance(command, Stop):
            told.stops[epoch] = command.reason
        elif isinstance(command, Rent) and command.offer.is_serverless:
            # Its price a job comes first, and is another one every time.
            told.why[command.lease_id] = command.reason.partition("; ")[2] or command.reason


def _plain(value: Any) -> Any:
    """What JSON has words for."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
