"""Every event that Prefect is told of, with the fields of its payload and what they mean.

docs/reference/events.md says the same, for people; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping

EVENTS: Mapping[str, Mapping[str, str]] = {
    "nightkiln.batch.started": {
        "epoch": "number of the run within its batch, from 1",
        "total": "jobs of the batch",
        "settled": "of which earlier runs have settled",
        "adopted": "of which an earlier run had made and not yet committed",
        "reused": "of which another batch of the store has done",
        "left": "jobs that are left to do",
    },
    "nightkiln.batch.quoted": {
        "jobs": "jobs that were quoted",
        "usd_p50": "USD, half of the nights cost less",
        "usd_p90": "USD, nine of ten nights cost less",
        "finish_s_p50": "seconds from now until the last job, in half of the nights",
        "finish_s_p90": "seconds from now until the last job, in nine of ten nights",
        "budget_usd": "USD that may be spent",
        "deadline_met_fraction": "share of the nights that make the deadline; null: there is none",
        "fits": "whether the quote is within budget and deadline",
    },
    "nightkiln.batch.approved": {
        "usd_p90": "USD of the quote that was asked about",
        "budget_usd": "USD that may be spent now, as whoever approved has said",
        "how": "who or what agreed: asked, part",
    },
    "nightkiln.batch.refused": {
        "usd_p90": "USD of the quote; null: there was none",
        "why": "why nothing was rented, and what to do",
        "how": "asked (somebody said no), unanswered, month, quote",
    },
    "nightkiln.batch.finished": {
        "epoch": "number of the run within its batch, from 1",
        "exit_code": "0: every job has its result, 1: some failed",
        "total": "jobs of the batch",
        "done": "jobs with a verified result",
        "reused": "jobs that another batch of the store has done",
        "failed": "jobs that failed, each with a reason in the store",
        "left": "jobs that are left: those that this run was not asked for",
        "usd": "USD that this run came to, by our own count",
        "usd_quoted_p50": "USD that were expected; null: nothing was quoted",
        "elapsed_s": "seconds that the run took",
        "store": "where the results are",
    },
    "nightkiln.batch.stopped": {
        "epoch": "number of the run within its batch, from 1",
        "exit_code": "3",
        "total": "jobs of the batch",
        "done": "jobs with a verified result",
        "reused": "jobs that another batch of the store has done",
        "failed": "jobs that failed",
        "left": "jobs that the next run of the batch does",
        "usd": "USD that this run came to, by our own count",
        "usd_quoted_p50": "USD that were expected; null: nothing was quoted",
        "elapsed_s": "seconds that the run took",
        "store": "where the results are",
        "why": "why it stopped before its work was done",
        "not_released": "leases of which nobody confirmed that they ended",
    },
    "nightkiln.lease.lost": {
        "lease_id": "the rented machine",
        "provider": "where it was rented",
        "gpu": "its GPU",
        "host": "the machine, as its provider names it",
        "why": "what was seen of its end",
        "jobs_done": "jobs that it had done",
    },
    "nightkiln.budget.reached": {
        "why": "what is spent, what is left to do, and what to do about it",
    },
    "nightkiln.night.refused": {
        "why": "why this night did not start: which other one is at work, and how to end that",
    },
    "nightkiln.run.failed": {
        "flow": "which flow: nightly, adhoc, retry, reap, maintain and so on",
        "why": "why it failed, and what to do",
    },
}
# A share of a night is no night of its own: that the night began, what it was quoted and how it
# ended is told once, by the run that watches over all shares.
OF_A_SHARE = frozenset({"nightkiln.lease.lost", "nightkiln.budget.reached"})
