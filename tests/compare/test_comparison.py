"""Offers put side by side: what each line rests on, and what is left out with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from math import log
from xml.etree import ElementTree as ET

import pytest

from nightkiln.compare import Comparison, Plan, Stall, compared
from nightkiln.compare.chart import LINES_MAX, chart
from nightkiln.core.comparing import Batch, Line, PriceFrom, SecondsFrom
from nightkiln.core.learning import Pace, Scores
from nightkiln.core.model import Kind, Offer
from nightkiln.core.priors import Priors
from nightkiln.core.terms import Load
from nightkiln.rehearse.picture import png, svg
from nightkiln.store.scores import Blocked, Remembered

H_S = 3600.0
NOW_S = 1_795_255_983.0
TABLE = Priors(seconds_per_job={"RTX 4090": 4.0, "L40S": 5.0})
BATCH = Batch(jobs=1000, deadline_s=8 * H_S, load=Load(result_gb=0.001), machines_max=16)
CHEAP = Offer("vast", "cheap", "RTX 4090", Decimal("0.40"), kind=Kind.ON_DEMAND, machine="7")
BID = replace(CHEAP, ref="bid", usd_per_hour=Decimal("0.20"), kind=Kind.INTERRUPTIBLE)
CONTAINER = Offer(
    "modal", "L40S-0", "L40S", Decimal("2.00"), kind=Kind.SERVERLESS, idle_tail_s=15.0
)


def plan(remembered: Remembered | None = None, batch: Batch = BATCH) -> Plan:
    known = remembered if remembered is not None else Remembered()
    return Plan(batch, TABLE, known, "2026-11-21", NOW_S)


def stall(*looks: Iterable[Offer], price: PriceFrom = PriceFrom.LIVE) -> Stall:
    offers = [tuple(look) for look in looks]
    name = next(offer.provider for look in offers for offer in look)
    return Stall(name, price, "of now", tuple(offers))


def measured(gpu: str, seconds: float, *, prior_s: float) -> Remembered:
    pace = Pace(gpu, 50, log(seconds / prior_s))
    return Remembered(scores=Scores(machines={("local", "here"): pace}))


def line(found: Comparison, gpu: str, kind: Kind = Kind.ON_DEMAND) -> Line:
    [only] = [one for one in found.lines if (one.gpu, one.kind) == (gpu, kind)]
    return only


def test_each_kind_of_gpu_and_each_way_to_have_it_is_a_line() -> None:
    found = compared(plan(), [stall([CHEAP, BID]), stall([CONTAINER], price=PriceFrom.LISTED)])

    assert [(one.provider, one.gpu, one.kind) for one in found.lines] == [
        ("vast", "RTX 4090", Kind.ON_DEMAND),
        ("vast", "RTX 4090", Kind.INTERRUPTIBLE),
        ("modal", "L40S", Kind.SERVERLESS),
    ]


def test_without_a_measurement_seconds_are_those_of_the_table() -> None:
    found = line(compared(plan(), [stall([CHEAP])]), "RTX 4090")

    assert found.basis.seconds is SecondsFrom.TABLE
    assert found.expected.seconds_per_job == pytest.approx(4.0)


def test_what_was_measured_on_one_gpu_is_carried_over_to_others() -> None:
    known = measured("RTX 4090", 8.0, prior_s=4.0)
    offers = [CHEAP, replace(CHEAP, ref="other", machine="8", gpu="L40S")]

    found = compared(plan(known), [stall(offers)])

    own, other = line(found, "RTX 4090"), line(found, "L40S")
    assert (own.basis.seconds, other.basis.seconds) == (SecondsFrom.MEASURED, SecondsFrom.CARRIED)
    assert 1.5 * 4 < own.expected.seconds_per_job <= 8
    assert 1.5 * 5 < other.expected.seconds_per_job <= 10
    assert own.expected.seconds_sd < 0.5


def test_lines_that_rest_on_different_things_have_no_common_rank() -> None:
    known = measured("RTX 4090", 8.0, prior_s=4.0)

    found = compared(plan(known), [stall([CHEAP]), stall([CONTAINER], price=PriceFrom.LISTED)])

    rows = found.as_object()["rows"]
    assert [(row["basis_seconds"], row["basis_price"]) for row in rows] == [
        ("measured", "live"),
        ("carried", "listed"),
    ]
    assert [row["rank_within_basis"] for row in rows] == [1, 1]


def test_a_gpu_of_which_nobody_knows_the_speed_is_left_out_and_named() -> None:
    found = compared(plan(), [stall([replace(CHEAP, gpu="B300")])])

    assert (found.lines, found.unknown) == ((), ("vast B300",))


def test_a_machine_that_is_not_to_be_rented_again_is_not_counted() -> None:
    block = Blocked("vast", "7", "lost", NOW_S, NOW_S + H_S)

    assert compared(plan(Remembered(blocked={block.host: block})), [stall([CHEAP])]).lines == ()


def test_of_several_nights_the_middle_one_is_told_whatever_offers_are_called() -> None:
    dear, cheap = (replace(CHEAP, usd_per_hour=Decimal(usd)) for usd in ("0.80", "0.20"))

    found = line(compared(plan(), [stall([dear], [CHEAP], [cheap])]), "RTX 4090")

    assert found.expected == line(compared(plan(), [stall([CHEAP])]), "RTX 4090").expected


def test_what_is_seldom_on_offer_is_left_out_and_named() -> None:
    seldom = replace(CHEAP, gpu="L40S", machine="9")

    found = compared(plan(), [stall([CHEAP, seldom], [CHEAP], [CHEAP])])

    assert [one.gpu for one in found.lines] == ["RTX 4090"]
    assert found.seldom == ("vast L40S",)


def test_what_would_not_be_up_in_time_is_named() -> None:
    soon = plan(batch=replace(BATCH, deadline_s=30.0))

    assert compared(soon, [stall([CHEAP])]).late == ("vast RTX 4090",)


def test_starts_that_were_seen_count_for_machines_that_are_rented_alone() -> None:
    known = Remembered(scores=Scores(startup=Pace("", 12, log(2.0))))

    found = compared(plan(known), [stall([CHEAP]), stall([CONTAINER])]).as_object()

    basis = {row["provider"]: row["basis_startup"] for row in found["rows"]}
    assert basis == {"vast": "measured", "modal": "table"}
    assert found["startups_learned"] == 12


def test_a_program_is_told_units_and_parts_that_add_up() -> None:
    paid = replace(BATCH, own_usd_per_hour=1.0)

    [row] = compared(plan(batch=paid), [stall([CONTAINER])]).as_object()["rows"]

    parts = ("rendering", "startup", "storage", "network", "idle", "own_time")
    assert row["usd_per_1000"] == pytest.approx(sum(row[f"{one}_usd_per_1000"] for one in parts))
    assert row["idle_usd_per_1000"] > 0
    assert 0 < row["startup_fraction"] < 1
    assert row["finish_s"] == pytest.approx(60 + 5000)


def test_a_chart_names_every_line_and_what_it_rests_on() -> None:
    late = [replace(CHEAP, ref=f"slow-{n}", machine=f"{n}", gpu="L40S") for n in range(2)]
    hurried = plan(batch=replace(BATCH, deadline_s=2800.0))

    found = compared(hurried, [stall([CHEAP, *late]), stall([CONTAINER], price=PriceFrom.LISTED)])

    assert any(one.expected.is_late for one in found.lines)
    picture = chart(found)
    words = "".join(ET.fromstring(svg(picture)).itertext())  # noqa: S314 - our own text
    for said in ("vast RTX 4090, on demand", "modal L40S", "asked now", "a dated price list"):
        assert said in words
    assert ", late, " in words
    assert png(picture).startswith(b"\x89PNG")


def test_a_chart_of_what_costs_nothing_has_names_and_no_bars() -> None:
    own = Offer("local", "http://here", "RTX 4090")

    found = compared(plan(), [stall([own], price=PriceFrom.OWN)])

    assert "local RTX 4090" in svg(chart(found))
    assert png(chart(found)).startswith(b"\x89PNG")


def test_a_chart_does_not_grow_for_ever() -> None:
    priors = replace(TABLE, seconds_per_job={f"GPU {n}": 4.0 for n in range(100)})
    offers = [replace(CHEAP, ref=str(n), machine=str(n), gpu=f"GPU {n}") for n in range(100)]

    found = compared(replace(plan(), priors=priors), [stall(offers)])

    assert len(found.lines) == 100
    assert svg(chart(found)).count("vast GPU") == LINES_MAX
    assert "60 lines more" in svg(chart(found))
