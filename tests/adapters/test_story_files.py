"""Stories on disk: never in the way of a night, and whole up to where the writer died."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.errors import BadInput
from nightkiln.core.events import ProviderFacts, Rent, Started, Tick
from nightkiln.core.learning import Scores
from nightkiln.core.model import LeaseId, Offer
from nightkiln.core.priors import Priors
from nightkiln.core.story import Cut, Opening, Step
from nightkiln.core.terms import Terms
from nightkiln.story import GZIP_MAGIC, PIECE_S, StoryFile, read_story
from nightkiln.testing.stories import assert_replays, assert_sound
from nightkiln.testing.waiting import until

STORIES = Path(__file__).resolve().parents[1] / "stories"
OPENING = Opening(
    "night", 1, "1", 1e9, 5.0, Terms("night-1", 4), Priors(), Scores(), {("cloud", "m"): 9.0}
)
STEPS = [Step(Started(5.0, (ProviderFacts("local", bills=False),)))] + [
    Step(Tick(6.0 + number)) for number in range(50)
]


def written(path: Path, steps: list[Step] = STEPS) -> Path:
    story = StoryFile(path, OPENING)
    for step in steps:
        story.tell(step)
    assert story.close() is None
    return path


def test_a_story_is_read_as_it_was_written(tmp_path: Path) -> None:
    opening, lines = read_story(written(tmp_path / "stories" / "dt=2026-01-31" / "s.jsonl.gz"))

    assert opening == OPENING
    assert list(lines) == STEPS


def test_an_unpacked_story_is_read_too(tmp_path: Path) -> None:
    packed, plain = written(tmp_path / "s.jsonl.gz"), tmp_path / "s.jsonl"
    plain.write_bytes(gzip.decompress(packed.read_bytes()))

    assert list(read_story(plain)[1]) == STEPS


def test_a_story_cut_off_after_the_first_byte_of_a_piece_is_read(tmp_path: Path) -> None:
    torn = written(tmp_path / "s.jsonl.gz")
    with torn.open("ab") as file:
        file.write(GZIP_MAGIC[:1])

    assert list(read_story(torn)[1]) == STEPS


@given(st.floats(0, 1))
def test_a_story_cut_off_anywhere_is_the_beginning_of_the_story(share: float) -> None:
    with TemporaryDirectory() as folder:
        data = written(Path(folder) / "whole").read_bytes()
        torn = Path(folder) / "torn"
        torn.write_bytes(data[: round(share * len(data))])

        try:
            steps = list(read_story(torn)[1])
        except BadInput as error:
            steps, said = [], str(error)  # not even the opening was written
        else:
            said = "empty"
        assert "empty" in said
        assert steps == STEPS[: len(steps)]


async def test_why_a_machine_was_rented_is_written_at_once(tmp_path: Path) -> None:
    path, lease_id = tmp_path / "s.jsonl.gz", LeaseId("night-1-lease-000")
    rented = Step(Tick(60.0), (Rent(Offer("cloud", "m-1"), lease_id, 3660.0, "the cheapest"),))
    story = StoryFile(path, OPENING)
    story.tell(STEPS[0])

    story.tell(rented)

    began_s = time.monotonic()
    await until(lambda: path.is_file() and list(_so_far(path)) == [STEPS[0], rented])
    assert time.monotonic() - began_s < PIECE_S
    assert story.close() is None


def _so_far(path: Path) -> Iterator[Step | Cut]:
    """What is written by now, of which the first line may still be missing."""
    try:
        yield from read_story(path)[1]
    except BadInput:
        return


def test_a_disk_that_takes_no_story_is_told_at_the_end_and_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "stories").write_text("a file, where a folder should be")
    story = StoryFile(tmp_path / "stories" / "s.jsonl.gz", OPENING)
    for step in STEPS:
        story.tell(step)

    trouble = story.close()

    assert trouble is not None
    assert "stories" in trouble


def test_another_runs_story_is_never_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path / "s.jsonl.gz")

    assert StoryFile(path, OPENING).close() is not None
    assert list(read_story(path)[1]) == STEPS


def test_what_is_no_story_is_refused_and_says_where(tmp_path: Path) -> None:
    nothing, other, changed = (tmp_path / name for name in ("nothing", "other", "changed"))
    nothing.write_text("")
    other.write_text('{"cut": "x"}\n')
    written(tmp_path / "s")
    lines = gzip.decompress((tmp_path / "s").read_bytes()).splitlines(keepends=True)
    changed.write_bytes(lines[0] + lines[1] + b"not json\n")

    with pytest.raises(BadInput, match="no-such-file: No such file"):
        read_story(tmp_path / "no-such-file")
    with pytest.raises(BadInput, match="nothing: empty"):
        read_story(nothing)
    with pytest.raises(BadInput, match="first line is no opening"):
        read_story(other)
    with pytest.raises(BadInput, match="changed:3: "):
        list(read_story(changed)[1])


def test_a_story_has_one_opening(tmp_path: Path) -> None:
    first, second = written(tmp_path / "a"), written(tmp_path / "b")
    both = tmp_path / "both"
    both.write_bytes(first.read_bytes() + second.read_bytes())

    with pytest.raises(BadInput, match="a second opening"):
        list(read_story(both)[1])


def test_a_bad_night_from_a_store_is_a_regression_test() -> None:
    facts = assert_sound(STORIES / "two-workers-one-bad.jsonl.gz")

    assert sorted(facts.released) == sorted(facts.rented)
    assert len(facts.rented) >= 2
    assert len(set(facts.attempts)) == len(facts.attempts) > 20


def test_a_story_that_the_rules_do_not_tell_any_more_is_shown(tmp_path: Path) -> None:
    path = written(tmp_path / "s.jsonl.gz")  # in which the scheduler answered nothing at all

    with pytest.raises(AssertionError, match=r"differs at event 1\nstory: .*Started"):
        assert_replays(path)


def test_a_cut_story_says_so_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cut"
    written(path)
    with path.open("ab") as file:
        file.write(gzip.compress(b'{"cut":"the disk is too slow"}\n'))

    assert list(read_story(path)[1])[-1] == Cut("the disk is too slow")
