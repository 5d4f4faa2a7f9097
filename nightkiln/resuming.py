"""What is known here of a run that crashed: its batch, who works on it, what it has cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_DOWN

from nightkiln.core.budget import lease_cost
from nightkiln.core.lease_ids import run_of
from nightkiln.core.model import LeaseId, Usd
from nightkiln.core.sharing import CENT, NOTHING, SHARE_NAME
from nightkiln.deadline import seconds_until
from nightkiln.lease_book import Standing
from nightkiln.settings import Settings
from nightkiln.share_ledger import runs_of_open_round
from nightkiln.store.claim import verdict_on
from nightkiln.store.claims import Held, newest_claim
from nightkiln.store.store import Store
from nightkiln.wiring import Request, batch_name, book_of, has_store, open_store

SPENT = """
select batch, lease_id, usd from leases
where starts_with(batch, $batch) and rented_at >= $since
"""
AGREED = """
select budget_usd from quotes
where batch = $batch and verdict = 'taken' and coalesce(decided_at, made_at) >= $since
order by epoch desc
limit 1
"""


@dataclass(frozen=True, slots=True)
class Traces:
    """What a crashed run has left."""

    batch: str
    at_work: str  # who works on the batch; "" for nobody
    by_s: float | None  # epoch seconds of the run's deadline
    spent: Usd  # since the run began, and what is still rented counted until now
    agreed: Usd | None = None  # that it was let through with last; None: it never came so far
    recounted: Usd = NOTHING  # of what is spent: the open round of a night of several controllers


def traces(
    request: Request, settings: Settings, *, began_s: float, now_s: float, is_shared: bool = False
) -> Traces:
    """Look for them in the store and in the book of leases. Blocking.

    ``is_shared``: several controllers were to work on it.

    Raises:
        BadInput: name or time zone make no sense.
        StoreUnusable: store or book cannot be read.
    """
    batch = batch_name(request, settings, now_s=began_s)
    by_s = None
    if settings.by:
        zone = settings.timezone
        by_s = began_s + seconds_until(settings.by, now_s=began_s, timezone=zone)
    if not has_store(settings):
        return Traces(batch, "", by_s, NOTHING)
    store = open_store(settings)
    at_work = who_works(batch, settings, now_s=now_s)
    agreed = _agreed(store, batch, began_s)
    costs = [*_settled(store, batch, began_s), *_rented(settings, store, batch, now_s)]
    # A lease goes by who rented it: what a later round took over counts twice rather than never.
    runs = runs_of_open_round(store.blobs, batch) if is_shared else frozenset()
    spent = sum((usd for _, usd in costs), NOTHING)
    recounted = sum((usd for lease, usd in costs if run_of(lease) in runs), NOTHING)
    return Traces(batch, at_work, by_s, spent, agreed, recounted)


def who_works(batch: str, settings: Settings, *, now_s: float) -> str:
    """Who works on a batch, or may: on another computer a claim outlives its process. Blocking.

    "" for nobody.

    Raises:
        StoreUnusable: the claim cannot be read.
    """
    claim = newest_claim(open_store(settings).blobs, batch) if has_store(settings) else None
    is_held = claim is not None and isinstance(verdict_on(claim, now_s=now_s), Held)
    return claim.describe(now_s) if claim is not None and is_held else ""


def is_of(batch: str, name: str) -> bool:
    """Whether a batch is this one, or the share that one of several controllers had of it."""
    share = SHARE_NAME.fullmatch(name)
    return name == batch or (share is not None and share["night"] == batch)


def _agreed(store: Store, batch: str, since_s: float) -> Usd | None:
    """What somebody, a rule or the month's money let it spend, whatever it was asked for with."""
    with store.connect("quotes") as con:
        views = {name for (name,) in con.execute("select view_name from duckdb_views()").fetchall()}
        if "quotes" not in views:
            return None  # nothing was ever quoted here
        rows = con.execute(AGREED, {"batch": batch, "since": _utc(since_s)}).fetchall()
    return Usd(rows[0][0]).quantize(CENT, ROUND_DOWN) if rows else None


def _utc(moment_s: float) -> datetime:
    """As it stands in tables: UTC, without a zone."""
    return datetime.fromtimestamp(moment_s, UTC).replace(tzinfo=None)


def _settled(store: Store, batch: str, since_s: float) -> Iterator[tuple[LeaseId, Usd]]:
    """What leases that are over have cost."""
    with store.connect("leases") as con:
        rows = con.execute(SPENT, {"batch": batch, "since": _utc(since_s)}).fetchall()
    yield from ((LeaseId(lease), Usd(usd)) for name, lease, usd in rows if is_of(batch, name))


def _rented(
    settings: Settings, store: Store, batch: str, now_s: float
) -> Iterator[tuple[LeaseId, Usd]]:
    """What leases that are not over have come to; from now on the resumed run counts."""
    for entry in book_of(settings).entries():
        is_open = entry.store == store.uri and entry.standing is not Standing.ENDED
        if is_open and is_of(batch, entry.batch):
            life_s = max(0.0, now_s - entry.asked_s)
            yield entry.lease_id, lease_cost(entry.offer, entry.load, life_s=life_s).usd
