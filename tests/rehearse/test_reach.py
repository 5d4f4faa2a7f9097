"""What is rehearsed is what a run may have: within its cap, from those that are there."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from nightkiln.core.model import Kind
from nightkiln.core.terms import Fallback, Late
from nightkiln.gate import Ahead
from nightkiln.goals import Goals
from nightkiln.rehearse import Script, play, with_jobs
from nightkiln.rehearse.gate import script_ahead
from nightkiln.rehearse.script import with_containers
from nightkiln.testing.market import shipped_market

H_S = 3600.0
ORDINARY = shipped_market()
NOTHING_IS_SO_CHEAP = Decimal("0.01")


def script() -> Script:
    return Script(with_jobs(ORDINARY, 300), 2 * H_S, lump=5, late=Late.STOP)


@pytest.mark.parametrize(
    ("providers", "asked", "played"),
    [
        ((), Fallback.AUTO, Fallback.AUTO),  # nothing is set up yet
        (("vast", "modal"), Fallback.AUTO, Fallback.AUTO),
        (("vast", "modal"), Fallback.NEVER, Fallback.NEVER),
        (("vast",), Fallback.AUTO, Fallback.NEVER),  # its app was not there
        (("cloud",), Fallback.AUTO, Fallback.NEVER),
        (("modal",), Fallback.AUTO, Fallback.ONLY),
    ],
)
def test_a_run_is_quoted_for_those_that_it_rents_from(
    providers: tuple[str, ...], asked: Fallback, played: Fallback
) -> None:
    goals = Goals(budget=Decimal(5), fallback=asked)

    ahead = Ahead(300, goals, 64, 0.0, frozenset(providers))

    assert script_ahead(ORDINARY, ahead).fallback is played


def test_where_no_machine_is_under_the_cap_the_fallback_does_all() -> None:
    played = play(replace(script(), usd_per_hour_max=NOTHING_IS_SO_CHEAP), seed=1)

    assert played.jobs_left == 0
    assert {kind for kind, usd in played.usd_by_kind.items() if usd} == {Kind.SERVERLESS}


def test_where_nothing_can_be_had_nothing_is_done_or_spent() -> None:
    capped = replace(script(), usd_per_hour_max=NOTHING_IS_SO_CHEAP, fallback=Fallback.NEVER)

    played = play(capped, seed=1)

    assert (played.jobs_done, played.usd) == (0, 0)


def test_no_more_containers_run_at_once_than_are_allowed() -> None:
    market = with_containers(with_jobs(ORDINARY, 3000), 2)

    played = play(Script(market, H_S, lump=5, fallback=Fallback.ONLY), seed=1)

    assert played.leases_most <= 2
    assert played.jobs_left > 0
