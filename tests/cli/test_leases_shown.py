"""What `nightkiln leases` shows: who agrees with whom, and in red where they do not."""

from __future__ import annotations

from decimal import Decimal
from io import StringIO

import pytest
from rich.console import Console

from nightkiln.cli.leases import as_object, exit_code, table, told
from nightkiln.core.model import LeaseId, Offer
from nightkiln.core.reaping import Cause, Fate, Verdict
from nightkiln.lease_book import Entry, Standing
from nightkiln.ports.provider import Billed
from nightkiln.sighting import Finding, Sight

NOW_S = 1_000_000.0
LEASE = LeaseId("nightly-1-lease-000")
OFFER = Offer("vast", "4711", "RTX 4090", Decimal("0.31"))
ENTRY = Entry(
    LEASE, "nightly", 1, "results", OFFER, NOW_S - 5400, NOW_S + 600, Standing.RENTED, "machine 7"
)
BILLED = Billed(LEASE, "main", "99", Decimal("0.310"), NOW_S - 5400, "running", "RTX 4090")
RED = "\x1b[31m"
IN_USE = Verdict(Fate.KEEP, Cause.IN_USE, "its run is alive")


def shown(finding: Finding) -> str:
    """The line of a lease, as a terminal gets it."""
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=200, color_system="standard")
    console.print(table([finding], NOW_S))
    return out.getvalue().splitlines()[1]


def test_a_lease_is_shown_with_its_batch_its_age_its_price_and_what_the_book_says() -> None:
    line = shown(Finding("vast", LEASE, IN_USE, BILLED, ENTRY))

    for said in ("vast nightly-1-lease-000", "RTX 4090", "(1h30m)", "0.310", "rented", "keep"):
        assert said in line
    assert RED not in line


@pytest.mark.parametrize(
    ("verdict", "billed", "entry", "said"),
    [
        (
            Verdict(Fate.FOREIGN, Cause.UNKNOWN, "no run of this computer knows it"),
            BILLED,
            None,
            "billed, and not in the book",
        ),
        (
            Verdict(Fate.KEEP, Cause.MISSING, "its run believes that it has it"),
            None,
            ENTRY,
            "in the book, and not billed",
        ),
        (
            Verdict(Fate.END, Cause.STILL_BILLED, "it was given back"),
            BILLED,
            ENTRY,
            "billed, and ended in the book",
        ),
        (Verdict(Fate.END, Cause.RUN_ENDED, "its run has ended"), BILLED, ENTRY, "run has ended"),
    ],
)
def test_what_differs_and_what_nobody_wants_is_red(
    verdict: Verdict, billed: Billed | None, entry: Entry | None, said: str
) -> None:
    finding = Finding("vast", LEASE, verdict, billed, entry)

    line = shown(finding)

    assert RED in line
    assert said in line
    assert exit_code(Sight((finding,), {})) == 1


def test_a_machine_that_the_book_does_not_know_is_still_of_the_batch_in_its_name() -> None:
    unknown = Verdict(Fate.FOREIGN, Cause.UNKNOWN, "no run of this computer knows it")

    told_of = as_object(Finding("vast", LEASE, unknown, BILLED), NOW_S)

    assert (told_of["batch"], told_of["store"]) == ("nightly", None)


def test_a_file_of_the_book_that_cannot_be_read_is_a_difference() -> None:
    sight, out = Sight((), {}, damaged=("/state/leases/torn.json",)), StringIO()

    told(sight, Console(file=out, width=200))

    assert "/state/leases/torn.json cannot be read" in out.getvalue()
    assert exit_code(sight) == 1
