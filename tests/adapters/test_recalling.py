"""What a killed run has paid for: fetched, verified, kept; or rendered again, and said so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from PIL import Image

from nightkiln.blobs import LocalBlobs
from nightkiln.catalog import load_catalog
from nightkiln.core.errors import ProviderError
from nightkiln.core.model import AttemptId, Job, JobId, LeaseId, Settled, Ticket, Timings
from nightkiln.dispatch import Landing, VerifyRules
from nightkiln.ports.worker import Place, Rendered
from nightkiln.recalling import OVER_S_MAX, RECALL_S_MAX, Left, Recalling
from nightkiln.testing.samples import write_catalog

NOW_S = 1_800_000_000.0
WHERE = Place("ta-1 v3 git-c0ffee", "NVIDIA L40S")


@dataclass(frozen=True, slots=True)
class Picture:
    """An output that was made before we were there."""

    node: str = "7"
    is_damaged: bool = False

    async def save(self, path: Path) -> None:
        Image.effect_noise((64, 64), 90).save(path, "PNG")
        if self.is_damaged:
            path.write_bytes(path.read_bytes()[:100])


@dataclass
class Keeping:
    """A provider that keeps what tickets name; None: it says nothing at all."""

    kept: Mapping[str, Rendered | None] | None
    entered: int = 0
    asked: list[str] = field(default_factory=list)
    within_s: list[float] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self.entered += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.entered -= 1

    async def recall(self, ticket: Ticket, *, within_s: float) -> Rendered | None:
        assert within_s > 0
        self.asked.append(ticket)
        self.within_s.append(within_s)
        if self.kept is None:
            raise ProviderError("it is away", provider="modal")
        return self.kept[ticket]


def left(ticket: str, job: str = "a") -> Left:
    return Left(
        ticket=Ticket(ticket),
        provider="modal",
        ref="L40S-0",
        lease_id=LeaseId("night-1-lease-000"),
        attempt_id=AttemptId(f"night-1-{ticket}"),
        job=Job(JobId(job * 64), {"prompt": "a fox", "negative": "", "seed": 1}),
        started_s=NOW_S - 60.0,
    )


def made(*, is_damaged: bool = False) -> Rendered:
    return Rendered([Picture(is_damaged=is_damaged)], Timings(NOW_S, NOW_S + 5, 5.0), WHERE)


async def recalled(
    folder: Path, provider: Any, *tickets: Left, is_past: bool = False
) -> tuple[list[Settled], list[str]]:
    """What came of it, and what people were told. ``is_past``: nothing more is rented there."""
    told: list[str] = []

    async def warn(message: str) -> None:
        told.append(message)

    staging = folder / "staging"
    staging.mkdir()
    landing = Landing(LocalBlobs(folder / "store"), staging, "night", VerifyRules())
    catalog = load_catalog(write_catalog(folder / "catalog", 2))
    now: dict[str, Any] = {} if is_past else {"modal": provider}
    past = {"modal": provider} if is_past else {}
    recalling = Recalling(now, landing, catalog, lambda: NOW_S, warn, past)
    return list(await recalling.settled(tickets)), told


async def test_what_was_paid_for_is_a_result_like_any_other(tmp_path: Path) -> None:
    provider = Keeping({"one": made()})

    [settled], told = await recalled(tmp_path, provider, left("one"))

    [attempt] = settled.attempts
    assert (settled.status, len(settled.outputs)) == ("done", 1)
    assert (attempt.host, attempt.gpu, attempt.gpu_s) == (WHERE.host, WHERE.gpu, 5.0)
    assert (tmp_path / "store" / settled.outputs[0].uri).is_file()
    assert (provider.entered, told) == (0, [])


async def test_a_job_that_was_tried_twice_is_settled_once(tmp_path: Path) -> None:
    provider = Keeping({"one": None, "two": made(), "three": made()})
    tickets = [left("one"), left("two"), left("three")]

    settled, _ = await recalled(tmp_path, provider, *tickets)

    assert [one.job.id for one in settled] == ["a" * 64]
    assert sorted(provider.asked) == ["one", "three", "two"]


async def test_a_result_that_is_damaged_is_none(tmp_path: Path) -> None:
    settled, _ = await recalled(tmp_path, Keeping({"one": made(is_damaged=True)}), left("one"))

    assert settled == []


async def test_a_service_that_says_nothing_holds_up_no_night(tmp_path: Path) -> None:
    settled, told = await recalled(tmp_path, Keeping(None), left("one"), left("two", "b"))

    assert settled == []
    [said] = told
    assert "2 jobs of the run before may be paid for, and are rendered again" in said
    assert "it is away" in said


async def test_a_provider_that_keeps_nothing_is_not_even_entered(tmp_path: Path) -> None:
    class Forgetful:
        """Has no ``recall``."""

    settled, told = await recalled(tmp_path, Forgetful(), left("one"))

    assert (settled, told) == ([], [])


async def test_what_was_paid_for_where_nothing_more_is_rented_is_fetched_without_waiting(
    tmp_path: Path,
) -> None:
    provider = Keeping({"one": made()})

    [settled], told = await recalled(tmp_path, provider, left("one"), is_past=True)

    assert (settled.status, provider.entered, told) == ("done", 0, [])
    assert provider.within_s == [OVER_S_MAX]
    assert OVER_S_MAX < RECALL_S_MAX / 5
