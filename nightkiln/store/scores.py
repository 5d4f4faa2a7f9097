"""What nights learn, kept in the store: tonight starts from where the last one ended.

    scores/workflows/<digest>/<when>-<batch>-<epoch>.json   seconds per job of this workflow
    scores/market/<when>-<batch>-<epoch>.json               machines, start-ups, losses, blocklist

Each run writes only its own two objects, again and again, so two runs at once take nothing from
each other; readers merge the newest. Everything learned is in the newest ones, for each run starts
from those before it. Whatever is damaged, or cannot be, is left out: it costs a little knowledge.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import isfinite
from typing import TypeVar

from nightkiln.core.learning import Pace, Scores
from nightkiln.core.model import BatchId, Host
from nightkiln.core.outbid import DAY_S, DayRates, Rate
from nightkiln.core.plain import from_json, to_json
from nightkiln.ports.blobs import Blobs

SCORES_VERSION = 1
WORKFLOWS, MARKET = "scores/workflows/", "scores/market/"
RUNS_READ_MAX = 30  # the newest; more would say the same again
SCORES_BYTES_MAX = 8_000_000  # of one object: some 50,000 machines
MACHINES_MAX = 10_000  # remembered, those seen last
NAME_CHARS_MAX = 200  # of a provider, a machine, a GPU
LOG_MAX = 12.0  # of any ratio of seconds: a stand-in is 10,000 times as fast, nothing more so
COUNT_MAX = 1e9
BLOCKED_S_MAX = 30 * 86400.0  # the longest that any cause blocks a machine
# How much many nights may weigh against tonight: else a year of them could not be unlearned.
STARTUPS_MAX = 50.0
EXPOSURE_MAX = 200.0  # hours, or expected failures
OUTBID_HALF_LIFE_S = DAY_S  # prices and rivals of another day
DAY_RATES_HALF_LIFE_S = 14 * DAY_S  # when in a day others bid changes more slowly
DAY_RATES_HOURS_MAX = 8 * EXPOSURE_MAX  # over all parts of the day

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MachinePace:
    """How fast a machine was with one workflow."""

    provider: str
    machine: str
    gpu: str
    jobs: float
    log_s: float
    seen_s: float  # epoch seconds


@dataclass(frozen=True, slots=True)
class MachineLuck:
    """How fast a machine is, against others of its class; whatever the workflow."""

    provider: str
    machine: str
    log: float
    seen_s: float


@dataclass(frozen=True, slots=True)
class Blocked:
    """A machine not to be rented for a while."""

    provider: str
    machine: str
    cause: str
    since_s: float  # epoch seconds, both
    until_s: float

    @property
    def host(self) -> Host:
        return (self.provider, self.machine)


@dataclass(frozen=True, slots=True)
class WorkflowScores:
    """One object under ``WORKFLOWS``."""

    version: int
    written_s: float
    workflow_jobs: int
    machines: tuple[MachinePace, ...]


@dataclass(frozen=True, slots=True)
class MarketScores:
    """One object under ``MARKET``."""

    version: int
    written_s: float
    startup: Pace
    boots: Rate
    lost: Rate
    outbid: Mapping[str, Rate]
    luck: tuple[MachineLuck, ...]
    blocked: tuple[Blocked, ...]
    # Below: unknown to older versions, whose objects are read all the same.
    outbid_by_day: Mapping[str, DayRates] = field(default_factory=dict)


@dataclass(slots=True)
class Remembered:
    """What a run starts from."""

    scores: Scores = field(default_factory=Scores)
    blocked: dict[Host, Blocked] = field(default_factory=dict)
    seen_s: dict[Host, float] = field(default_factory=dict)  # machines of this workflow
    luck_seen_s: dict[Host, float] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)  # keys of objects that could not be used


def read_scores(blobs: Blobs, workflow_digest: str, *, now_s: float) -> Remembered:
    """What earlier runs have learned; nothing, where there were none. Blocking."""
    found = Remembered()
    workflows = _newest(blobs, f"{WORKFLOWS}{workflow_digest}/", WorkflowScores, found.left_out)
    for workflow in workflows:
        _take_workflow(found, workflow)
    for market in _newest(blobs, MARKET, MarketScores, found.left_out):
        _take_market(found, market, now_s)
    return found


def _newest(blobs: Blobs, prefix: str, kind: type[T], left_out: list[str]) -> list[T]:
    """The newest objects under a prefix that can be used, oldest first."""
    read: list[T] = []
    for key in list(blobs.list(prefix))[-RUNS_READ_MAX:]:
        try:
            size = blobs.size(key)
            if size is None or size > SCORES_BYTES_MAX:
                raise ValueError(f"{size} bytes")  # noqa: TRY301 - as everything else wrong with it
            one = from_json(kind, json.loads(blobs.get(key)), where=key)
            if getattr(one, "version", None) != SCORES_VERSION:
                raise ValueError("another version")  # noqa: TRY301
        except (KeyError, ValueError, RecursionError):
            left_out.append(key)
        else:
            read.append(one)
    return sorted(read, key=lambda one: float(getattr(one, "written_s", 0.0)))


def _take_workflow(found: Remembered, workflow: WorkflowScores) -> None:
    scores = found.scores
    scores.workflow_jobs = max(scores.workflow_jobs, min(workflow.workflow_jobs, int(COUNT_MAX)))
    for one in workflow.machines[:MACHINES_MAX]:
        host = (one.provider, one.machine)
        is_sane = _is_name(one.provider, one.machine, one.gpu) and _is_log(one.log_s)
        if not is_sane or not 0 < one.jobs <= COUNT_MAX or not isfinite(one.seen_s):
            continue
        if one.seen_s >= found.seen_s.get(host, one.seen_s):
            found.seen_s[host] = one.seen_s
            scores.machines[host] = Pace(one.gpu, one.jobs, one.log_s)


def _take_market(found: Remembered, market: MarketScores, now_s: float) -> None:
    scores = found.scores
    if _is_log(market.startup.log_s) and 0 <= market.startup.jobs <= COUNT_MAX:
        scores.startup = replace(market.startup, jobs=min(market.startup.jobs, STARTUPS_MAX))
    if _is_rate(market.boots):
        scores.boots = _bounded(market.boots)
    if _is_rate(market.lost):
        scores.lost = _bounded(market.lost)
    _take_outbid(scores, market, max(0.0, now_s - market.written_s))
    for one in market.luck[:MACHINES_MAX]:
        host = (one.provider, one.machine)
        is_sane = _is_name(one.provider, one.machine) and _is_log(one.log) and isfinite(one.seen_s)
        if is_sane and one.seen_s >= found.luck_seen_s.get(host, one.seen_s):
            found.luck_seen_s[host], scores.luck[host] = one.seen_s, one.log
    for block in market.blocked[:MACHINES_MAX]:
        _take_block(found, block, now_s)


def _take_outbid(scores: Scores, market: MarketScores, age_s: float) -> None:
    """What is known of bids; the older, the less it counts."""
    kept = 0.5 ** (age_s / OUTBID_HALF_LIFE_S)
    for gpu, rate in list(market.outbid.items())[:MACHINES_MAX]:
        if len(gpu) <= NAME_CHARS_MAX and _is_rate(rate):
            bounded = _bounded(rate)
            scores.outbid[gpu] = Rate(bounded.events * kept, bounded.hours * kept)
    kept = 0.5 ** (age_s / DAY_RATES_HALF_LIFE_S)
    for gpu, by_day in list(market.outbid_by_day.items())[:MACHINES_MAX]:
        parts = map(Rate, by_day.events, by_day.hours)
        if len(gpu) <= NAME_CHARS_MAX and all(map(_is_rate, parts)):
            share = min(1.0, DAY_RATES_HOURS_MAX / max(sum(by_day.hours), 1.0))
            scores.outbid_by_day[gpu] = by_day.scaled(share * kept)


def _take_block(found: Remembered, block: Blocked, now_s: float) -> None:
    if not _is_name(block.provider, block.machine, block.cause):
        return
    if not isfinite(block.since_s) or not now_s < block.until_s:
        return
    until_s = min(block.until_s, now_s + BLOCKED_S_MAX)
    known = found.blocked.get(block.host)
    if known is None or known.until_s < until_s:
        found.blocked[block.host] = replace(block, until_s=until_s)


def _is_name(*names: str) -> bool:
    return all(0 < len(name) <= NAME_CHARS_MAX for name in names)


def _is_log(value: float) -> bool:
    return -LOG_MAX <= value <= LOG_MAX


def _is_rate(rate: Rate) -> bool:
    return 0 <= rate.events <= COUNT_MAX and 0 <= rate.hours <= COUNT_MAX


def _bounded(rate: Rate) -> Rate:
    """The same rate, from no more experience than ``EXPOSURE_MAX``."""
    share = min(1.0, EXPOSURE_MAX / rate.hours) if rate.hours > 0 else 1.0
    return Rate(rate.events * share, rate.hours * share)


# Writing.


def scores_keys(batch: BatchId, *, started_s: float) -> tuple[str, str]:
    """Where a run keeps what it learns: of its workflow, and of the market."""
    when = datetime.fromtimestamp(started_s, UTC)
    name = f"{when:%Y%m%dT%H%M%S}-{batch.batch}-{batch.epoch:06d}.json"
    return f"{WORKFLOWS}{batch.workflow_digest}/{name}", f"{MARKET}{name}"


def workflow_json(scores: Scores, seen_s: Mapping[Host, float], *, now_s: float) -> bytes:
    """What a run has learned of its workflow."""
    machines = (
        MachinePace(*host, pace.gpu, pace.jobs, pace.log_s, seen_s.get(host, now_s))
        for host, pace in scores.machines.items()
    )
    kept = tuple(_last_seen(machines))
    return _encoded(WorkflowScores(SCORES_VERSION, now_s, scores.workflow_jobs, kept))


def market_json(
    scores: Scores,
    luck: Iterable[MachineLuck],
    blocked: Iterable[Blocked],
    *,
    now_s: float,
) -> bytes:
    """What a run has learned of machines and their market."""
    active = (block for block in blocked if block.until_s > now_s)
    return _encoded(
        MarketScores(
            version=SCORES_VERSION,
            written_s=now_s,
            startup=scores.startup,
            boots=scores.boots,
            lost=scores.lost,
            outbid=scores.outbid,
            outbid_by_day=scores.outbid_by_day,
            luck=tuple(_last_seen(luck)),
            blocked=tuple(sorted(active, key=lambda block: block.host)[:MACHINES_MAX]),
        )
    )


S = TypeVar("S", MachinePace, MachineLuck)


def _last_seen(machines: Iterable[S]) -> Iterator[S]:
    newest = sorted(machines, key=lambda one: -one.seen_s)[:MACHINES_MAX]
    yield from sorted(newest, key=lambda one: (one.provider, one.machine))


def _encoded(one: WorkflowScores | MarketScores) -> bytes:
    return json.dumps(to_json(one), separators=(",", ":"), allow_nan=False).encode()
