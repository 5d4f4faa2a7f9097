"""A line is on disk when append returns, and a damaged file gives what is whole in it."""

from __future__ import annotations

import asyncio
import errno
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import OsDisk
from nightkiln.journal import LINE_BYTES_MAX, FileJournal, read_journal
from nightkiln.testing.disk import SteppedDisk, VolatileDisk


def test_lines_are_read_back_in_the_order_of_their_calls(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "journal.jsonl"

    async def write() -> None:
        journal = FileJournal(path)
        await asyncio.gather(*(journal.append("ticket", {"number": n}) for n in range(100)))
        await journal.close()

    asyncio.run(write())

    assert [entry["number"] for entry in read_journal(path)] == list(range(100))
    assert all(entry["kind"] == "ticket" for entry in read_journal(path))


def test_lines_that_wait_together_share_one_sync(tmp_path: Path) -> None:
    steps: list[str] = []
    disk = SteppedDisk(OsDisk(), lambda _number, name: steps.append(name.split()[0]))

    async def write() -> None:
        journal = FileJournal(tmp_path / "journal", disk=disk)
        await asyncio.gather(*(journal.append("line", {"number": n}) for n in range(50)))
        await journal.close()

    asyncio.run(write())

    assert steps.count("sync_log") == steps.count("append")
    assert 1 <= steps.count("sync_log") < 10  # of 50 lines; mostly two


def test_an_acknowledged_line_outlives_a_power_cut(tmp_path: Path) -> None:
    disk = VolatileDisk(OsDisk())
    path = tmp_path / "night" / "1.jsonl"

    async def write() -> None:
        journal = FileJournal(path, disk=disk)
        await journal.append("rendered", {"job": "a"})
        disk.lose_power()

    asyncio.run(write())

    assert list(read_journal(path)) == [{"kind": "rendered", "job": "a"}]


def test_a_failed_write_reaches_every_waiter_and_all_later_lines(tmp_path: Path) -> None:
    def fail_to_sync(_number: int, name: str) -> None:
        if name.startswith("sync_log"):
            raise OSError(errno.EIO, "Input/output error")

    async def write() -> list[object]:
        journal = FileJournal(tmp_path / "j", disk=SteppedDisk(OsDisk(), fail_to_sync))
        waiting = [journal.append("line", {}) for _ in range(3)]
        outcomes: list[object] = list(await asyncio.gather(*waiting, return_exceptions=True))
        outcomes += await asyncio.gather(journal.append("later", {}), return_exceptions=True)
        await journal.close()
        return outcomes

    outcomes = asyncio.run(write())

    assert len(outcomes) == 4
    assert all(isinstance(outcome, StoreUnusable) for outcome in outcomes)


def test_a_line_whose_caller_was_cancelled_does_not_disturb_the_others(tmp_path: Path) -> None:
    async def write() -> None:
        journal = FileJournal(tmp_path / "j")
        cancelled = asyncio.create_task(journal.append("line", {"number": 0}))
        await asyncio.sleep(0)
        cancelled.cancel()
        await journal.append("line", {"number": 1})
        await journal.close()

    asyncio.run(write())

    assert [entry["number"] for entry in read_journal(tmp_path / "j")][-1] == 1


def test_a_closed_journal_takes_no_line(tmp_path: Path) -> None:
    async def write() -> None:
        journal = FileJournal(tmp_path / "j")
        await journal.close()
        await journal.close()
        with pytest.raises(StoreUnusable, match="closed"):
            await journal.append("line", {})

    asyncio.run(write())


def test_a_line_that_is_too_long_is_refused_before_it_is_written(tmp_path: Path) -> None:
    async def write() -> None:
        journal = FileJournal(tmp_path / "j")
        with pytest.raises(StoreUnusable, match="are allowed"):
            await journal.append("line", {"text": "x" * LINE_BYTES_MAX})
        await journal.append("line", {"text": "short"})
        await journal.close()

    asyncio.run(write())

    assert [entry["text"] for entry in read_journal(tmp_path / "j")] == ["short"]


@given(numbers=st.lists(st.integers(), min_size=1, max_size=5), cut=st.integers(0, 200))
def test_a_torn_last_line_is_ignored(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], cut: int
) -> None:
    lines = [json.dumps({"kind": "n", "number": n}).encode() + b"\n" for n in numbers]
    path = tmp_path_factory.mktemp("journal") / "j"
    content = b"".join(lines)[:cut]
    path.write_bytes(content)
    damaged: list[int] = []

    read = [entry["number"] for entry in read_journal(path, on_damage=damaged.append)]

    assert read == numbers[: content.count(b"\n")]
    assert damaged == []


def test_a_damaged_line_is_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "j"
    too_long = b'{"kind":"b","x":"' + b"x" * (2 * LINE_BYTES_MAX) + b'"}'
    path.write_bytes(
        b'{"kind":"a"}\n' + b"\0\0\0\n" + too_long + b"\n" + b"[]\n" + b'{"no":1}\n{"kind":"c"}\n'
    )
    damaged: list[int] = []

    read = [entry["kind"] for entry in read_journal(path, on_damage=damaged.append)]

    assert read == ["a", "c"]
    assert damaged == [2, 3, 4, 5]


def test_lines_after_a_torn_one_are_not_glued_to_it(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(b'{"kind":"whole"}\n{"kind":"to')

    async def write() -> None:
        journal = FileJournal(path)
        await journal.append("next", {})
        await journal.close()

    asyncio.run(write())

    assert [entry["kind"] for entry in read_journal(path)] == ["whole", "next"]


def test_a_journal_that_cannot_be_read_says_which(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="missing"):
        list(read_journal(tmp_path / "missing"))
