"""What a watched night cost and why: counted in its store, held against its providers' bills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from nightkiln.chronicle import Chronicle, LeaseTale
from nightkiln.core.model import Kind, Lease, LeaseEnd, LeaseId, Usd
from nightkiln.market_night import BUDGET_USD, DEADLINE_S, LeaseTruth, Watched
from nightkiln.rehearse.uses import NightParts, Uses, parts_of
from nightkiln.store.quotes import Quoted
from nightkiln.store.sql_files import sql_file
from nightkiln.store.store import Store
from nightkiln.story import read_story

if TYPE_CHECKING:
    import duckdb

WASTE = {
    "startup": "start-up of machines that came up",
    "traffic_in": "image and models, into them",
    "failed_starts": "machines that never came up",
    "failed_tries": "tries that gave nothing",
    "hedges": "second tries that were not needed",
    "idle": "machines without work",
}


@dataclass(frozen=True, slots=True)
class Rented:
    """The leases of one kind at one provider."""

    provider: str
    kind: Kind
    leases: int
    failed_starts: int
    called_off: int  # before they were up: others sufficed
    lost: int  # came up, and were taken away
    jobs: int  # done there
    usd: Usd  # by the provider's bill


@dataclass(frozen=True, slots=True)
class Tries:
    """Tries without a result that ended alike."""

    how: str  # failed | lost | cancelled | hedge
    fault: str | None
    error: str
    tries: int
    jobs_done_elsewhere: int


@dataclass(frozen=True, slots=True)
class FellBack:
    """Fallback leases that were rented for the same reason."""

    why: str
    leases: int
    jobs: int
    usd: Usd


@dataclass(frozen=True, slots=True)
class Receipt:
    """One night's receipt."""

    batch: str
    jobs_done: int
    jobs_failed: int
    jobs_left: int
    jobs_retried: int  # settled after more than one try
    rented: Sequence[Rented]
    waste_usd: Mapping[str, float]
    tries: Sequence[Tries]
    fell_back: Sequence[FellBack]
    billed_usd: Usd  # by the providers
    ledger_usd: Usd  # by our own count, as the store has it
    budget_usd: Usd
    finish_s: float  # since the night began, the last job settled
    deadline_s: float
    quoted: Quoted | None  # before the night

    @property
    def usd_per_job(self) -> Usd | None:
        """USD for one finished job, all waste included; None: there is none."""
        return self.billed_usd / self.jobs_done if self.jobs_done else None

    @property
    def waste_fraction(self) -> float:
        """The share of the bill that bought no result."""
        return sum(self.waste_usd.values()) / float(self.billed_usd) if self.billed_usd else 0.0

    @property
    def is_within_budget(self) -> bool:
        return max(self.billed_usd, self.ledger_usd) <= self.budget_usd

    @property
    def is_in_time(self) -> bool:
        return self.jobs_left == 0 and self.finish_s <= self.deadline_s

    @property
    def is_inside_usd(self) -> bool | None:
        """Whether it cost what nine nights out of ten were quoted to keep within."""
        return float(self.billed_usd) <= self.quoted.usd_p90 if self.quoted is not None else None

    @property
    def is_inside_finish(self) -> bool | None:
        """Whether it was done by when nine nights out of ten were quoted to be."""
        return self.finish_s <= self.quoted.finish_s_p90 if self.quoted is not None else None

    def facts(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            **asdict(self),
            "usd_per_job": self.usd_per_job,
            "waste_fraction": self.waste_fraction,
            "is_within_budget": self.is_within_budget,
            "is_in_time": self.is_in_time,
            "is_inside_usd": self.is_inside_usd,
            "is_inside_finish": self.is_inside_finish,
        }


def receipt_of(watched: Watched, store: Store) -> Receipt:
    """Count it all."""
    outcome = watched.outcome
    with store.connect() as con:
        jobs = {row["status"]: row for row in _asked(con, "receipt_jobs", outcome.batch)}
        leases = _asked(con, "receipt_leases", outcome.batch)
        uses = {
            row.pop("lease_id"): Uses(**row) for row in _asked(con, "receipt_uses", outcome.batch)
        }
        tries = [Tries(**row) for row in _asked(con, "receipt_tries", outcome.batch)]
    truths, tales = watched.truths, _tales(store, outcome.batch)
    billed = [row for row in leases if row["lease_id"] in truths]
    parts = NightParts()
    for row in billed:
        lease_id = row["lease_id"]
        parts += _parts(row, truths[lease_id], uses.get(lease_id, Uses()), watched.began_s)
    last_s = max((row["last_s"] for row in jobs.values()), default=watched.began_s)
    return Receipt(
        batch=outcome.batch,
        jobs_done=outcome.done,
        jobs_failed=outcome.failed,
        jobs_left=outcome.left,
        jobs_retried=sum(row["again"] for row in jobs.values()),
        rented=_rented(billed, truths, tales, watched.began_s),
        waste_usd={name: parts[name] for name in WASTE},
        tries=tries,
        fell_back=_fell_back(billed, truths, tales),
        billed_usd=sum((truth.bill.usd for truth in truths.values()), Decimal(0)),
        ledger_usd=sum((row["usd"] for row in leases), Decimal(0)),
        budget_usd=BUDGET_USD,
        finish_s=last_s - watched.began_s,
        deadline_s=DEADLINE_S,
        quoted=outcome.quoted,
    )


def _asked(con: duckdb.DuckDBPyConnection, name: str, batch: str) -> list[dict[str, Any]]:
    """The rows of one of our queries, by column."""
    answer = con.execute(sql_file(name), {"batch": batch})
    names = [column[0] for column in answer.description or ()]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def _parts(row: Mapping[str, Any], truth: LeaseTruth, uses: Uses, began_s: float) -> NightParts:
    """One lease's bill by what it was for."""
    ready_s, bill = row["ready_s"], truth.bill
    end = LeaseEnd(
        lease=Lease(row["lease_id"], truth.offer, row["host"]),
        rented_s=row["rented_s"] - began_s,
        ready_s=None if ready_s is None else ready_s - began_s,
        released_s=bill.released_s,
        reason=row["reason"],
        jobs_done=row["jobs_done"],
        attempts_failed=0,  # of no interest here
        busy_s=0.0,
    )
    released_s = bill.released_s if bill.released_s is not None else truth.death_s
    return parts_of(bill, end, uses, until_s=min(released_s, truth.death_s))


def _rented(
    rows: Sequence[Mapping[str, Any]],
    truths: Mapping[LeaseId, LeaseTruth],
    tales: Mapping[LeaseId, LeaseTale],
    began_s: float,
) -> list[Rented]:
    """By provider and kind, the cheapest job first as far as kinds go."""
    found = []
    for kind in (Kind.INTERRUPTIBLE, Kind.ON_DEMAND, Kind.SERVERLESS):
        mine = [row for row in rows if truths[row["lease_id"]].offer.kind is kind]
        if not mine:
            continue
        up = [row for row in mine if row["ready_s"] is not None]
        down = [row for row in mine if row["ready_s"] is None]
        failed = sum(tales[row["lease_id"]].loss is not None for row in down)
        found.append(
            Rented(
                provider=mine[0]["provider"],
                kind=kind,
                leases=len(mine),
                failed_starts=failed,
                called_off=len(down) - failed,
                lost=sum(_is_lost(row, truths[row["lease_id"]], began_s) for row in up),
                jobs=sum(row["jobs_done"] for row in mine),
                usd=_usd(mine, truths),
            )
        )
    return found


def _is_lost(row: Mapping[str, Any], truth: LeaseTruth, began_s: float) -> bool:
    """Whether it was taken away before we gave it back."""
    released_s = row["released_s"]
    return released_s is None or truth.death_s < released_s - began_s


def _fell_back(
    rows: Sequence[Mapping[str, Any]],
    truths: Mapping[LeaseId, LeaseTruth],
    tales: Mapping[LeaseId, LeaseTale],
) -> list[FellBack]:
    """What the fallback was rented for, the costliest reason first."""
    by_reason: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if truths[row["lease_id"]].offer.is_serverless:
            by_reason.setdefault(_reason(tales[row["lease_id"]]), []).append(row)
    found = [
        FellBack(why, len(mine), sum(row["jobs_done"] for row in mine), _usd(mine, truths))
        for why, mine in by_reason.items()
    ]
    return sorted(found, key=lambda one: (-one.usd, one.why))


def _usd(rows: Sequence[Mapping[str, Any]], truths: Mapping[LeaseId, LeaseTruth]) -> Usd:
    return sum((truths[row["lease_id"]].bill.usd for row in rows), Decimal(0))


def _tales(store: Store, batch: str) -> dict[LeaseId, LeaseTale]:
    """What the scheduler said of each lease."""
    tales: dict[LeaseId, LeaseTale] = {}
    for path in store.story_paths(batch):
        opening, lines = read_story(path)
        run = Chronicle(opening)
        run.gather(lines)
        tales |= run.leases
    return tales


def _reason(tale: LeaseTale) -> str:
    """Why a lease was rented; its price, which comes first, is left out."""
    said = next(entry.why for entry in tale.entries if entry.what in {"rented", "adopted"})
    return said.partition("; ")[2] or said
