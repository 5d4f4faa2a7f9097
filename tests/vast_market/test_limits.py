"""Calls are refused that come too early, in the service's words."""

from __future__ import annotations

import pytest
import requests

from nightkiln.testing.vast_market import LimitStyle
from nightkiln.testing.vast_market.limits import THRESHOLD_S, Limiter
from tests.vast_market.driving import answer, driven


@pytest.mark.parametrize("limit", sorted(THRESHOLD_S))
def test_a_call_may_be_made_again_after_the_documented_wait_and_not_before(limit: str) -> None:
    limiter = Limiter(1.0, LimitStyle.TEXT)

    assert limiter.refusal("me", limit, 0.0) is None
    assert limiter.refusal("you", limit, 0.0) is None
    if limit != "create":
        assert limiter.refusal("me", limit, THRESHOLD_S[limit] - 0.01) is not None
    assert limiter.refusal("me", limit, THRESHOLD_S[limit]) is None


def test_a_create_that_comes_too_early_waits_for_twelve_seconds() -> None:
    limiter = Limiter(1.0, LimitStyle.TEXT)

    assert limiter.refusal("me", "create", 0.0) is None
    assert limiter.refusal("me", "create", 1.0) is not None
    assert limiter.refusal("me", "create", 12.9) is not None
    assert limiter.refusal("me", "create", 24.9) is None


def test_ten_searches_a_minute_pass() -> None:
    limiter = Limiter(1.0, LimitStyle.TEXT)
    passed = [limiter.refusal("me", "search", float(second)) is None for second in range(11)]

    assert passed == [True] * 10 + [False]
    assert limiter.refusal("me", "search", 60.0) is None


@pytest.mark.parametrize("style", LimitStyle)
async def test_the_sdk_meets_429_in_every_way_that_it_is_said(style: LimitStyle) -> None:
    async with driven(limits_scale=1.0, limit_style=style) as sdk:
        await sdk("show_instances_v1", {})
        with pytest.raises(requests.HTTPError, match="429") as raised:
            await sdk("show_instances_v1", {})

        said = answer(raised)
        assert "threshold=1" in said.text
        assert ("Retry-After" in said.headers) == (style is LimitStyle.RETRY_AFTER)
        assert said.headers["Content-Type"].startswith("text/plain") == (style is LimitStyle.TEXT)
