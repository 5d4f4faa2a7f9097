"""Whatever happens, in whatever order: each job settled once, each machine given back."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from nightkiln.core.terms import AtCap, Fallback, Late, Terms
from tests.core.fates import LOAD
from tests.core.world import World

STEPS_MAX = 30_000


@st.composite
def terms(draw: st.DrawFn) -> Terms:
    return Terms(
        "night-1",
        leases_max=draw(st.integers(1, 6)),
        deadline_s=draw(st.sampled_from((None, 600.0, 7200.0, 8 * 3600.0))),
        budget=draw(st.sampled_from((None, Decimal("0.05"), Decimal("0.60"), Decimal(20)))),
        late=draw(st.sampled_from(Late)),
        fallback=draw(st.sampled_from(Fallback)),
        at_cap=draw(st.sampled_from(AtCap)),
        load=LOAD,
        midnight_s=draw(st.sampled_from((None, -9999.0))),
    )


@settings(max_examples=150)
@given(
    terms=terms(), count=st.integers(0, 40), steps=st.integers(0, 400), seed=st.integers(0, 10**6)
)
def test_any_story_settles_every_job_once_and_gives_every_machine_back(
    terms: Terms, count: int, steps: int, seed: int
) -> None:
    world = World(terms, count, seed, is_free=seed % 4 == 0)

    world.chaos(steps)
    world.fairness(STEPS_MAX)

    assert world.run.is_finished
    if not world.run.state.is_stopping:
        assert world.done | world.given_up == world.fetched
        assert not world.catalog
    assert all(truth.is_told_released for truth in world.leases.values())
    if terms.budget is not None:
        assert world.bills_usd <= terms.budget + world.late_usd
