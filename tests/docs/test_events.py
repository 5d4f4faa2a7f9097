"""The page about events names exactly those that there are."""

from __future__ import annotations

import re

from tasks.event_table import EVENTS
from tests.docs.shown import ROOT

PAGE = ROOT / "docs" / "reference" / "events.md"
_EVENT = re.compile(r"^## `([a-z.]+)`$", re.MULTILINE)
_FIELD = re.compile(r"^\| `(\w+)` \| (.+) \|$", re.MULTILINE)


def test_the_page_says_of_every_event_what_its_payload_holds() -> None:
    _, *parts = _EVENT.split(PAGE.read_text())

    told = {name: dict(_FIELD.findall(text)) for name, text in zip(*[iter(parts)] * 2, strict=True)}

    assert told == EVENTS
