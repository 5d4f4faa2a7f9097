"""Turns an ordinary request into one for jobs that are settled already: ``nightkiln retry``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from nightkiln.core.errors import BadInput, Problem
from nightkiln.planner import Again, Reseeded
from nightkiln.settings import Settings
from nightkiln.store.choosing import Chosen, Wanted, choose, earlier
from nightkiln.store.names import BATCH_NAME_CHARS_MAX
from nightkiln.store.shared_views import share_named
from nightkiln.store.store import Store
from nightkiln.wiring import Request, batch_name, open_store

NAME_DIGITS = 8
SHARES_TOLD_MAX = 8
_RESEED = re.compile(r"-reseed-[0-9a-f]{8}$")


@dataclass(frozen=True, slots=True)
class Retry:
    """Jobs of a batch that are rendered again, and the request that does it."""

    batch: str
    chosen: Chosen
    is_all: bool  # those that are done, too
    request: Request | None  # None: there is no job to render

    def lines(self, *, force: str = "--force", reseed: str = "--reseed") -> Iterator[str]:
        """What was chosen, and what was left out; ``force``, ``reseed``: how they are spelled."""
        count = len(self.chosen.wanted(is_all=self.is_all))
        yield f"batch {self.batch}: {count} jobs to be rendered again"
        if not self.is_all and (others := len(self.chosen.others)):
            what = "1 more is" if others == 1 else f"{others} more are"
            yield f"{what} done: {force} renders them again, {reseed} with new seeds"
        if self.chosen.unknown:
            yield f"{self.chosen.unknown} of the list are no settled jobs of this batch"


def retry_of(
    request: Request,
    settings: Settings,
    wanted: Wanted,
    *,
    is_reseed: bool,
    is_forced: bool,
    now_s: float,
) -> Retry:
    """The same request, narrowed to those settled jobs of its batch that are wanted again.

    Raises:
        BadInput: the store has no such batch, or DuckDB refuses the condition, or the batch is a
            night that was shared out, and shares of it have such jobs: the message names them.
        StoreUnusable: there is no store, or it cannot be read.
    """
    batch = batch_name(request, settings, now_s=now_s)
    store = open_store(settings)
    chosen = choose(store, batch, wanted)
    is_all = is_reseed or is_forced
    _see_one_batch(batch, chosen, is_all=is_all)
    request = replace(request, by_hand=share_named(store, batch))
    forced = wanted.digest if is_forced else None
    again = _narrowed(request, store, batch, chosen, is_reseed=is_reseed, forced=forced)
    return Retry(batch, chosen, is_all, again)


def _see_one_batch(batch: str, chosen: Chosen, *, is_all: bool) -> None:
    """See that one run can render what is wanted: a run works on one batch.

    Raises:
        BadInput: it lies in the shares of a night, each of which is a batch.
    """
    wanted = chosen.wanted(is_all=is_all)
    jobs = {share: len(wanted & ids) for share, ids in chosen.shares.items() if wanted & ids}
    if not jobs:
        return
    told = [f"{share} ({count:,} jobs)" for share, count in jobs.items()][:SHARES_TOLD_MAX]
    more = f" and {len(jobs) - len(told)} more" if len(jobs) > len(told) else ""
    what = (
        f"was shared out to {len(chosen.shares)} controllers; what is to be rendered again lies in "
        f"{', '.join(told)}{more}"
    )
    fix = f"retry each of them by its own name, such as --name {next(iter(jobs))}"
    raise BadInput([Problem(batch, what, fix)])


def _narrowed(
    request: Request,
    store: Store,
    batch: str,
    chosen: Chosen,
    *,
    is_reseed: bool,
    forced: str | None,
) -> Request | None:
    is_forced = forced is not None
    job_ids = chosen.wanted(is_all=is_reseed or is_forced)
    if not job_ids:
        return None
    if is_reseed:
        again = Reseeded(job_ids, earlier(store, job_ids))
        return replace(request, name=reseed_name(batch, job_ids), again=again)
    # What another batch has of them is as good for what failed; who forces wants new ones.
    return replace(request, name=batch, again=Again(job_ids, forced), is_fresh=is_forced)


def reseed_name(batch: str, job_ids: frozenset[str]) -> str:
    """What the batch of new seeds for these jobs is called, so that the same command resumes."""
    digest = hashlib.sha256("\n".join(sorted(job_ids)).encode()).hexdigest()[:NAME_DIGITS]
    ending = f"-reseed-{digest}"
    return _RESEED.sub("", batch)[: BATCH_NAME_CHARS_MAX - len(ending)] + ending
