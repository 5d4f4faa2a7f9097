"""What the controller itself is up to, as measured."""

from __future__ import annotations

import pytest

from nightkiln.core.model import Job, JobId, Output, OutputFacts, Settled
from nightkiln.dispatch import Controller
from nightkiln.dispatch.controller import BYTES_KEPT_FREE, CORES_USED_MAX, JOBS_MIN

MB = 1_000_000


class Computer:
    """A processor and a disk that tests turn by hand."""

    def __init__(self, free: int | None) -> None:
        self.spent_s, self.free = 0.0, free

    def controller(self) -> Controller:
        return Controller(lambda: self.spent_s, lambda: self.free)


def result(size: int) -> Settled:
    facts = OutputFacts(size=size, sha256="0" * 64, ext="png", media="image/png")
    return Settled(Job(JobId("job"), {}), "done", (Output(0, "9", "images/x.png", facts),))


def test_a_few_results_say_nothing() -> None:
    controller = Computer(10 * MB).controller()
    for _ in range(JOBS_MIN - 1):
        controller.kept(result(MB))

    assert controller.capacity() is None


def test_processor_time_of_the_jobs_bounds_how_many_a_second_can_be_taken_in() -> None:
    computer = Computer(None)
    computer.spent_s = 100.0  # planning
    controller = computer.controller()
    controller.start()
    computer.spent_s += JOBS_MIN * 0.010
    for _ in range(JOBS_MIN):
        controller.kept(result(MB))

    capacity = controller.capacity()

    assert capacity is not None
    assert capacity.jobs_per_s == pytest.approx(CORES_USED_MAX / 0.010)
    assert capacity.jobs_room is None


@pytest.mark.parametrize(("free_mb", "room"), [(0, 0), (500, 0), (1004, 2), (3000, 1000)])
def test_the_disk_has_room_for_as_many_as_were_large_so_far(free_mb: int, room: int) -> None:
    controller = Computer(free_mb * MB).controller()
    for _ in range(JOBS_MIN):
        controller.kept(result(2 * MB))

    capacity = controller.capacity()

    assert BYTES_KEPT_FREE == 1000 * MB
    assert capacity is not None
    assert capacity.jobs_room == room
