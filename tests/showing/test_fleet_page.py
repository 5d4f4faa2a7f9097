"""The fleet as a table."""

from __future__ import annotations

from nightkiln.ports.observer import Progress, WorkerProgress
from tasks.showing.fleet import ROWS_MAX, fleet_line, fleet_page

NAMES = {"l1": "vast RTX 4090 #1 (0.31/h)", "l2": "vast RTX 3090 #2 (0.20/h)"}
BUSY = WorkerProgress("l1", "m1", "vast", "RTX 4090", "ready", 40, 1, 3, busy_s=160.0, usd=0.35)
LOST = WorkerProgress("l2", "m2", "vast", "RTX 3090", "lost", 0, 2, 0, usd=0.012)
COMING = WorkerProgress("l3", "m3", "vast", "RTX 4090", "starting", 0, 0, 0, "pulling its image")


def progress(*workers: WorkerProgress) -> Progress:
    return Progress("night", 100, 40, 0, 0, 40, 60.0, 40.0, 90.0, workers)


def test_every_lease_has_a_line_and_those_that_live_come_first() -> None:
    page = fleet_page(progress(LOST, BUSY, COMING), NAMES)

    first, _, header, _, *rows = page.splitlines()
    assert first == "1 ready, 1 starting, 1 lost; 0.36 USD so far, by our own count"
    assert header == "| lease | GPU | state | jobs | failed tries | s/job | USD |"
    assert rows == [
        r"| vast RTX 4090 \#1 (0.31/h) | RTX 4090 | ready | 40 | 1 | 4.0 | 0.35 |",
        "| l3 | RTX 4090 | starting: pulling its image | 0 | 0 |  | 0.00 |",
        r"| vast RTX 3090 \#2 (0.20/h) | RTX 3090 | lost | 0 | 2 |  | 0.0120 |",
    ]


def test_a_fleet_that_is_too_large_to_be_shown_says_how_many_are_not() -> None:
    many = [
        WorkerProgress(f"l{number}", "m", "vast", "H100", "ready", 1, 0, 0)
        for number in range(ROWS_MAX + 7)
    ]

    page = fleet_page(progress(*many), {})

    assert page.count("| H100 |") == ROWS_MAX
    assert page.endswith("and 7 more, in the view `leases` of the store\n")


def test_what_a_machine_says_of_itself_is_no_markup() -> None:
    liar = WorkerProgress(
        "l1", "m", "vast", "<img src=x> | **4090**", "starting", 0, 0, 0, "[click](http://evil)"
    )

    page = fleet_page(progress(liar), {"l1": "a | b"})

    assert r"\<img src=x\> \| \*\*4090\*\*" in page
    assert r"\[click\](http:\//evil)" in page
    assert r"a \| b" in page


def test_before_anything_is_rented_the_page_says_so() -> None:
    assert fleet_page(progress(), {}) == "nothing is rented yet\n"
    assert fleet_line(progress()) == "nothing is rented yet"
