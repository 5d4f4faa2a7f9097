"""Offers of all providers, put through one reckoning: what a run would expect of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from nightkiln.compare.stalls import Stall
from nightkiln.core.comparing import (
    Basis,
    Batch,
    BatchParts,
    Candidate,
    Line,
    by_basis,
    expected,
    middle,
    rank,
    seconds_from,
)
from nightkiln.core.learning import Knowledge
from nightkiln.core.model import Kind
from nightkiln.core.priors import Priors, gpu_class
from nightkiln.rehearse import ClassMeasured
from nightkiln.store.scores import Remembered

RENTED = frozenset({Kind.ON_DEMAND, Kind.INTERRUPTIBLE})


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch, and what is known of its workflow."""

    batch: Batch
    priors: Priors
    remembered: Remembered
    dated: str  # of when the priors are
    now_s: float  # epoch seconds: how often bids are lost depends on the hours ahead


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of it."""

    plan: Plan
    lines: tuple[Line, ...]
    told: Mapping[str, str]  # by provider: where its prices come from
    measured: tuple[ClassMeasured, ...]
    unknown: tuple[str, ...]  # GPUs that nobody knows the speed of, so they are left out
    seldom: tuple[str, ...]  # offered on less than half of the nights
    late: tuple[str, ...]  # none of them would be up in time
    notes: tuple[str, ...]  # who did not answer, and what was done about it

    @property
    def groups(self) -> Mapping[Basis, Sequence[Line]]:
        """Lines that can be held against each other."""
        return by_basis(self.lines)

    @property
    def startups_learned(self) -> int:
        """From how many starts of rented machines it is known how long they take."""
        return round(self.plan.remembered.scores.startup.jobs)

    def as_object(self) -> dict[str, Any]:
        """For programs: units in the names."""
        batch = self.plan.batch
        return {
            "jobs": batch.jobs,
            "deadline_s": batch.deadline_s,
            "own_usd_per_hour": batch.own_usd_per_hour,
            "image_gb": batch.load.image_gb,
            "models_gb": batch.load.models_gb,
            "result_gb_per_job": batch.load.result_gb,
            "table_date": self.plan.dated,
            "startups_learned": self.startups_learned,
            "prices": dict(self.told),
            "measured": [_measured_object(one) for one in self.measured],
            "rows": [self._row(line, group) for group in self.groups.values() for line in group],
            "gpus_without_seconds": list(self.unknown),
            "gpus_seldom_offered": list(self.seldom),
            "gpus_not_up_in_time": list(self.late),
            "notes": list(self.notes),
        }

    def _row(self, line: Line, group: Sequence[Line]) -> dict[str, Any]:
        found = line.expected
        learned = line.kind in RENTED and self.startups_learned > 0
        return {
            "basis_seconds": line.basis.seconds.value,
            "basis_price": line.basis.price.value,
            "basis_startup": "measured" if learned else "table",
            "rank_within_basis": rank(line, group),
            "provider": line.provider,
            "gpu": line.gpu,
            "kind": line.kind.value,
            "machines": found.machines,
            "seconds_per_job": found.seconds_per_job,
            "seconds_per_job_sd_fraction": found.seconds_sd,
            "finish_s": found.finish_s,
            "is_late": found.is_late,
            "usd_per_1000": found.usd_per_1000,
            **{
                f"{part.name}_usd_per_1000": found.per_1000(found.parts[part.name])
                for part in fields(BatchParts)
            },
            "startup_fraction": found.startup_fraction,
        }


def compared(
    plan: Plan, stalls: Sequence[Stall], measured: Sequence[ClassMeasured] = ()
) -> Comparison:
    """Every kind of GPU of every stall. Pure."""
    sorting = _Sorting(plan)
    return Comparison(
        plan=plan,
        lines=tuple(line for stall in stalls for line in sorting.lines(stall)),
        told={stall.provider: stall.told for stall in stalls},
        measured=tuple(measured),
        unknown=tuple(sorted(sorting.unknown)),
        seldom=tuple(sorted(sorting.seldom)),
        late=tuple(sorted(sorting.late)),
        notes=tuple(note for stall in stalls for note in stall.notes),
    )


class _Sorting:
    """Sorts offers by kind of GPU, and remembers what had to be left out."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.unknown: set[str] = set()
        self.seldom: set[str] = set()
        self.late: set[str] = set()

    def lines(self, stall: Stall) -> Iterator[Line]:
        """One for each class of GPUs and way to have it."""
        looks = [self._candidates(stall, number) for number in range(len(stall.looks))]
        scores = self._plan.remembered.scores
        for gpu, kind in dict.fromkeys(key for look in looks for key in look):
            told = f"{stall.provider} {gpu}"
            seconds = seconds_from(gpu, scores, self._plan.priors)
            if seconds is None:
                self.unknown.add(told)
                continue
            offered = [look[gpu, kind] for look in looks if (gpu, kind) in look]
            found = [one for each in offered if (one := expected(each, self._plan.batch))]
            if 2 * len(offered) <= len(looks):
                self.seldom.add(told)
            elif not found:
                self.late.add(told)
            else:
                basis = Basis(seconds, stall.price)
                yield Line(stall.provider, gpu, kind, basis, middle(found))

    def _candidates(self, stall: Stall, number: int) -> dict[tuple[str, Kind], list[Candidate]]:
        """One look's machines that are not blocked, with what to expect of each."""
        plan, found = self._plan, dict[tuple[str, Kind], list[Candidate]]()
        # For this look alone: offers of two nights may have one name. Epoch second 0 was midnight.
        knowledge = Knowledge(plan.priors, plan.batch.load, plan.remembered.scores, midnight_s=0.0)
        knowledge.look_again(plan.now_s, plan.batch.deadline_s)
        for offer in stall.looks[number]:
            if offer.host_key not in plan.remembered.blocked:
                candidate = Candidate(offer, knowledge.outlook(offer))
                found.setdefault((gpu_class(offer.gpu), offer.kind), []).append(candidate)
        return found


def _measured_object(one: ClassMeasured) -> dict[str, Any]:
    return {
        "gpu": one.gpu,
        "jobs": one.jobs,
        "machines": one.machines,
        "seconds_per_job": one.seconds_per_job,
        "measured_at": datetime.fromtimestamp(one.seen_s, UTC).isoformat(timespec="seconds"),
    }
