"""What a killed run made is adopted when its journal proves it, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nightkiln.core.model import Settled
from nightkiln.journal import FileJournal
from nightkiln.store.adopt import AdoptionReport, adoptable, drop_journals, settled_fields
from nightkiln.store.claims import write_ended
from nightkiln.store.store import Store
from nightkiln.testing.settled import BATCH, done, failed, picture

NEXT = 2


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"), create=True)


def journal(store: Store, settled: Sequence[Settled], *, epoch: int = 1) -> None:
    """What a run that settled these leaves in its journal when it is killed."""

    async def write() -> None:
        lines = FileJournal(store.journal_path(BATCH.batch, epoch))
        await lines.append("ticket", {"attempt_id": "1", "ticket": "abc"})
        for one in settled:
            await lines.append("rendered", settled_fields(one))
        await lines.close()

    asyncio.run(write())


def keep_pictures(store: Store, *numbers: int) -> None:
    for number in numbers:
        store.blobs.put(done(number).outputs[0].uri, picture(number))


def adopted(
    store: Store, *, committed: frozenset[str] = frozenset(), before_epoch: int = NEXT
) -> tuple[list[Settled], AdoptionReport]:
    report = AdoptionReport()
    found = adoptable(
        store, BATCH.batch, before_epoch=before_epoch, committed=committed, report=report
    )
    return list(found), report


def test_a_result_that_the_journal_proves_is_adopted_as_it_was(store: Store) -> None:
    keep_pictures(store, 1)
    journal(store, [done(1), failed(2)])

    found, report = adopted(store)

    assert found == [done(1), failed(2)]
    assert (report.journals, report.adopted, report.unproven) == (1, 2, 0)


@pytest.mark.parametrize("content", [None, b"", b"x", picture(2), picture(1)[:-1] + b"!"])
def test_a_file_that_is_missing_or_another_proves_nothing(
    store: Store, content: bytes | None
) -> None:
    journal(store, [done(1)])
    if content is not None:
        store.blobs.put(done(1).outputs[0].uri, content)

    found, report = adopted(store)

    assert found == []
    assert report.unproven == 1


def test_a_done_job_without_any_file_proves_nothing(store: Store) -> None:
    journal(store, [replace(done(1), outputs=())])

    assert adopted(store)[0] == []


def test_what_the_store_shows_already_is_left_out(store: Store) -> None:
    keep_pictures(store, 1, 2)
    journal(store, [done(1), done(2)])

    found, _ = adopted(store, committed=frozenset({done(1).job.id}))

    assert found == [done(2)]


def test_of_several_lines_about_a_job_one_is_adopted_and_success_wins(store: Store) -> None:
    keep_pictures(store, 1)
    journal(store, [done(1), done(1)], epoch=1)
    journal(store, [failed(1)], epoch=2)

    found, report = adopted(store, before_epoch=3)

    assert found == [done(1)]
    assert report.journals == 2


def test_a_run_that_ended_in_order_has_nothing_to_adopt(store: Store) -> None:
    keep_pictures(store, 1)
    journal(store, [done(1)])
    write_ended(store.blobs, BATCH.batch, 1, {"exit_code": None})
    cut_short, _ = adopted(store)
    journal(store, [done(1)], epoch=2)
    write_ended(store.blobs, BATCH.batch, 2, {"exit_code": 0})

    in_order, report = adopted(store, before_epoch=3)

    assert cut_short == in_order == [done(1)]
    assert report.journals == 1


def test_lines_that_cannot_be_read_are_counted_and_cost_only_themselves(store: Store) -> None:
    keep_pictures(store, 1)
    journal(store, [done(1)])
    path = store.journal_path(BATCH.batch, 1)
    path.write_bytes(
        b'{"kind":"rendered","settled":{}}\n{"kind":"settled"}\nnot json\n' + path.read_bytes()
    )

    found, report = adopted(store)

    assert found == [done(1)]
    assert report.damaged_lines == 3


def test_dropped_journals_are_gone_up_to_this_run(store: Store) -> None:
    for epoch in (1, 2, 3):
        journal(store, [done(1)], epoch=epoch)

    drop_journals(store, replace(BATCH, epoch=2))

    assert [store.journal_path(BATCH.batch, epoch).exists() for epoch in (1, 2, 3)] == [
        False,
        False,
        True,
    ]
