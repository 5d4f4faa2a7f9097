"""How many examples a property with slow ones is tried on."""

from __future__ import annotations

from hypothesis import settings

SAMPLE, WHOLE = "sample", "whole"  # profiles: of make test, of make test-long


def few(count: int, *, of: int) -> settings:
    """``count`` examples in ``make test``, ``of`` them in ``make test-long``."""
    is_whole = settings.get_current_profile_name() == WHOLE
    return settings(max_examples=of if is_whole else count)
