"""Our own count of containers' time, held against a service that bills it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from heapq import heappop, heappush
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nightkiln.core.model import LeaseId
from nightkiln.providers.modal.calls import Call
from nightkiln.providers.modal.contract import CONTRACT, Reply, read_reply
from nightkiln.providers.modal.meter import HOUR_S, Meter

CENT = Decimal("0.01")  # a second of a container
ONE, TWO = LeaseId("night-1-lease-001"), LeaseId("night-1-lease-002")
SLOTS_MAX = 5
DIGEST = "0" * 64
WINDOW_S, EXIT_S, START_S = 15.0, 0.5, 60.0  # an idle window, and the end of a container in it
NOON_S = 500_000 * HOUR_S  # any full hour


def call(number: int, submitted_s: float, lease_id: LeaseId = ONE, gpu: str = "") -> Call:
    return Call(f"fc-{number}", lease_id, "", gpu, CENT, submitted_s, submitted_s + 1e6)


def reply(container: str, began_s: float, ended_s: float, *, cold: bool = False) -> Reply:
    times = {"t_enter": began_s, "t_start": began_s, "t_end": ended_s}
    told = {"contract": CONTRACT, "environment": DIGEST, "status": "done", **times}
    return read_reply({**told, "container": container, "tag": "", "is_cold": cold}, DIGEST)


def a_meter(containers_max: int = 4) -> Meter:
    return Meter(WINDOW_S - EXIT_S, EXIT_S, START_S, containers_max)


def ran(meter: Meter, one: Call, where: str, *, until_s: float, cold: bool = False) -> None:
    """A call from its hand-over to its end."""
    meter.handed_over(one)
    answered(meter, one, where, until_s=until_s, cold=cold)


def answered(
    meter: Meter, one: Call, where: str, *, until_s: float, cold: bool = False, took_s: float = 1.0
) -> None:
    answer = reply(where, until_s - took_s, until_s, cold=cold)
    meter.answered(one, answer, usd_per_s=CENT, heard_s=until_s)


def test_start_wait_render_and_idle_window_are_all_paid() -> None:
    meter = a_meter()

    ran(meter, call(1, 90), "a", until_s=135, cold=True)
    ran(meter, call(2, 136), "a", until_s=142)

    assert meter.usd(ONE, now_s=142) == CENT * 52  # from hand-over to the end, without a gap
    assert meter.usd(ONE, now_s=150) == CENT * 60  # and it idles
    assert meter.usd_at_most(ONE) == CENT * 67  # to the end of its window


def test_two_leases_share_a_container_without_paying_twice() -> None:
    meter = a_meter()

    ran(meter, call(1, 100), "a", until_s=135, cold=True)
    ran(meter, call(2, 136, TWO), "a", until_s=140)

    assert meter.usd(ONE, now_s=140) == CENT * 35
    assert meter.usd(TWO, now_s=140) == CENT * 5
    assert meter.usd_at_most(ONE) + meter.usd_at_most(TWO) == CENT * (40 + 15)


def test_a_container_that_was_started_for_another_call_is_paid_from_there() -> None:
    meter = a_meter()
    first, second, third = call(1, 100), call(2, 101, TWO), call(3, 132, TWO)
    meter.handed_over(first)
    meter.handed_over(second)

    answered(meter, first, "a", until_s=130, cold=True)
    answered(meter, second, "a", until_s=131)  # the container that it was to have is not up yet
    meter.handed_over(third)
    answered(meter, third, "b", until_s=140, cold=True)

    assert meter.usd(ONE, now_s=140) + meter.usd(TWO, now_s=140) == CENT * (31 + 9 + 39)


def test_a_container_that_never_gets_a_call_is_paid_for() -> None:
    meter = a_meter()
    first, second = call(1, 100), call(2, 101, TWO)
    meter.handed_over(first)
    meter.handed_over(second)

    answered(meter, first, "a", until_s=130, cold=True)  # 29 s of start
    answered(meter, second, "a", until_s=131)

    assert meter.usd_at_most(TWO) == CENT * Decimal(1 + 15 + 60 + 15)


def test_calls_that_wait_at_the_limit_start_nothing() -> None:
    meter = a_meter(containers_max=1)
    first, second = call(1, 100), call(2, 100)
    meter.handed_over(first)
    meter.handed_over(second)

    answered(meter, first, "a", until_s=130, cold=True)
    answered(meter, second, "a", until_s=140)

    assert meter.usd_at_most(ONE) == CENT * (40 + 15)


def test_a_call_that_was_lost_counts_from_its_hand_over() -> None:
    meter = a_meter()
    ran(meter, call(1, 100), "a", until_s=135, cold=True)
    lost = call(2, 138)
    meter.handed_over(lost)

    meter.ended(lost, now_s=150, with_container=False)

    assert meter.usd(ONE, now_s=150) == CENT * 50  # its container had waited for it since 135


def test_a_call_that_is_taken_back_while_its_container_starts_has_that_start_paid() -> None:
    meter = a_meter()
    wanted = call(1, 100)
    meter.handed_over(wanted)

    meter.ended(wanted, now_s=110, with_container=True)

    assert meter.usd(ONE, now_s=110) == CENT * 10
    assert meter.usd_at_most(ONE) == CENT * Decimal(START_S + WINDOW_S)


def test_a_call_that_is_begun_anew_elsewhere_pays_for_both() -> None:
    meter = a_meter()
    ran(meter, call(1, 100), "a", until_s=130, cold=True)
    ran(meter, call(2, 100), "b", until_s=130, cold=True)
    begun_anew = call(3, 130)
    meter.handed_over(begun_anew)

    elsewhere = "b" if meter._of_call["fc-3"].name == "a" else "a"  # type: ignore[union-attr]
    answered(meter, begun_anew, elsewhere, until_s=200, took_s=30)  # taken away at 170

    assert meter.usd(ONE, now_s=200) >= CENT * (30 + 30 + 70 + 40)


def test_a_result_of_a_dead_run_is_not_paid_until_somebody_looked() -> None:
    meter = a_meter()

    answered_later = reply("a", 130, 140, cold=True)
    meter.answered(call(1, 100), answered_later, usd_per_s=CENT, heard_s=100_000)

    assert meter.usd_at_most(ONE) == CENT * (40 + 10 + 15)


def test_a_container_that_lies_about_its_times_is_paid_by_our_clock() -> None:
    meter = a_meter()
    one = call(1, 1_000_000)
    meter.handed_over(one)

    lie = reply("a", 0.0, 1_000_005, cold=True)
    meter.answered(one, lie, usd_per_s=CENT, heard_s=1_000_010)

    assert meter.usd(ONE, now_s=1_000_010) == CENT * 10


def test_time_is_told_by_the_hours_in_which_it_was_spent() -> None:
    meter = a_meter()

    ran(meter, call(1, NOON_S - 100), "a", until_s=NOON_S + HOUR_S - 5, cold=True)

    hours = meter.by_hour(ONE, now_s=float("inf"))
    noon = NOON_S // HOUR_S
    assert hours == {noon - 1: CENT * 100, noon: CENT * HOUR_S, noon + 1: CENT * 10}
    assert sum(hours.values(), Decimal(0)) == meter.usd_at_most(ONE)


# A service with many calls, where anything may go wrong.


@dataclass(slots=True, eq=False)
class Box:
    """A container as the service has it; billed from ``begun_s`` to ``ended_s``."""

    name: str
    begun_s: float
    is_up: bool = False
    takes_calls: bool = True
    ended_s: float | None = None
    idle_s: float | None = None  # since when; None: it does not idle
    has_had: int = 0
    has: Call | None = None


@dataclass(slots=True)
class Service:
    """Starts a container for each call that finds none, hands out calls in their order."""

    meter: Meter
    starts_s: Iterator[float]
    boxes_max: int
    boxes: list[Box] = field(default_factory=list)
    waiting: list[Call] = field(default_factory=list)
    events: list[tuple[float, int, str, object]] = field(default_factory=list)
    runs_s: dict[str, float] = field(default_factory=dict)
    dies_after_s: dict[str, float] = field(default_factory=dict)  # its container; once
    lost: int = 0
    numbers: Iterator[int] = field(default_factory=count)

    def at(self, when_s: float, what: str, about: object) -> None:
        heappush(self.events, (when_s, next(self.numbers), what, about))

    def living(self) -> list[Box]:
        return [box for box in self.boxes if box.ended_s is None]

    def put(self, one: Call, now_s: float) -> None:
        self.meter.handed_over(one)
        self.waiting.append(one)
        self.look(now_s)

    def look(self, now_s: float) -> None:
        """Hand out what waits, and start containers for the rest."""
        idle = [box for box in self.living() if box.takes_calls and box.idle_s is not None]
        for box in sorted(idle, key=lambda one: -(one.idle_s if one.idle_s is not None else 0)):
            if self.waiting:
                self.begin(box, self.waiting.pop(0), now_s)
        coming = sum(not box.is_up for box in self.living())
        room = self.boxes_max - sum(box.takes_calls for box in self.living())
        for _ in range(min(len(self.waiting) - coming, room)):
            box = Box(f"ta-{len(self.boxes)}", now_s)
            self.boxes.append(box)
            self.at(now_s + next(self.starts_s), "up", box)

    def begin(self, box: Box, one: Call, now_s: float) -> None:
        box.has, box.idle_s = one, None
        box.has_had += 1
        dies_s = self.dies_after_s.pop(one.call_id, None)
        runs_s = self.runs_s[one.call_id]
        if dies_s is not None and dies_s < runs_s:
            self.at(now_s + dies_s, "dies", (box, one))
        else:
            self.at(now_s + runs_s, "done", (box, one, now_s))

    def idle(self, box: Box, now_s: float) -> None:
        box.is_up, box.has, box.idle_s = True, None, now_s
        self.at(now_s + WINDOW_S - EXIT_S, "leaves", (box, now_s))

    def step(self) -> tuple[float, Call | None]:
        """The next thing that happens; the call that is over by that."""
        now_s, _, what, about = heappop(self.events)
        over = None
        if what == "call":
            assert isinstance(about, Call)
            self.put(about, now_s)
        elif what == "up":
            assert isinstance(about, Box)
            self.idle(about, now_s)
        else:
            assert isinstance(about, tuple)
            over = self.happened(what, about, now_s)
        self.look(now_s)
        return now_s, over

    def happened(self, what: str, about: tuple[Any, ...], now_s: float) -> Call | None:
        box, *rest = about
        assert isinstance(box, Box)
        if what == "leaves":
            if box.idle_s == rest[0] and box.ended_s is None:
                box.takes_calls, box.ended_s = False, now_s + EXIT_S
            return None
        one = rest[0]
        assert isinstance(one, Call)
        if box.has is not one:
            return None  # taken back meanwhile
        if what == "dies":
            box.ended_s, box.has = now_s, None
            self.lost += 1
            self.waiting.insert(0, one)
            return None
        began_s = rest[1]
        assert isinstance(began_s, float)
        self.idle(box, now_s)
        answer = reply(box.name, began_s, now_s, cold=box.has_had == 1)
        self.meter.answered(one, answer, usd_per_s=CENT, heard_s=now_s)
        return one

    def take_back(self, one: Call, now_s: float, *, ends_container: bool) -> None:
        """Cancelled by us, wherever it is."""
        self.lost += 1
        if one in self.waiting:
            self.waiting.remove(one)
        for box in self.living():
            if box.has is one and ends_container:
                box.ended_s, box.has = now_s, None
            elif box.has is one:
                self.idle(box, now_s)
        self.meter.ended(one, now_s=now_s, with_container=ends_container)

    def billed(self) -> Decimal:
        assert all(box.ended_s is not None for box in self.boxes)
        lives = (Decimal(repr(box.ended_s)) - Decimal(repr(box.begun_s)) for box in self.boxes)
        return CENT * sum(lives, Decimal(0))


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one call, in whole seconds."""

    pause_s: int  # after the one before on this lease
    runs_s: int
    dies_after_s: int | None
    taken_back_s: int | None  # after its hand-over


def fates(*, pause_s_max: int = 0, are_lost: bool = False) -> st.SearchStrategy[Fate]:
    return st.builds(
        Fate,
        pause_s=st.integers(0, pause_s_max),
        runs_s=st.integers(1, 60),
        dies_after_s=st.none() | st.integers(2, 60) if are_lost else st.none(),
        taken_back_s=st.none() | st.integers(0, 90) if are_lost else st.none(),
    )


BUSY = fates()  # the next call follows at once
CALM = fates(pause_s_max=30)
WILD = fates(pause_s_max=14, are_lost=True)
STARTS = st.lists(st.integers(5, int(START_S)), min_size=1, max_size=8)


def played(slots: list[list[Fate]], starts: list[int]) -> Service:
    """Each slot hands over its calls one after the other, to the end of the last container."""
    cycle = (float(starts[number % len(starts)]) for number in count())
    service = Service(a_meter(SLOTS_MAX), cycle, SLOTS_MAX)
    numbers, queues = count(), {LeaseId(f"s-{n}"): list(slot) for n, slot in enumerate(slots)}

    def give_next(lease_id: LeaseId, now_s: float) -> None:
        if not queues[lease_id]:
            return
        fate = queues[lease_id].pop(0)
        one = call(next(numbers), now_s + fate.pause_s, lease_id)
        service.runs_s[one.call_id] = float(fate.runs_s)
        if fate.dies_after_s is not None:
            service.dies_after_s[one.call_id] = float(fate.dies_after_s)
        service.at(one.submitted_s, "call", one)
        if fate.taken_back_s is not None:
            backs[one.call_id] = one.submitted_s + fate.taken_back_s

    backs: dict[str, float] = {}
    open_calls: dict[str, Call] = {}
    for lease_id in list(queues):
        give_next(lease_id, 1000.0)
    while service.events:
        due = min((s, name) for name, s in backs.items()) if backs else None
        if due is not None and due[0] <= service.events[0][0] and due[1] in open_calls:
            del backs[due[1]]
            one = open_calls.pop(due[1])
            service.take_back(one, due[0], ends_container=len(one.call_id) % 2 == 0)
            service.look(due[0])
            give_next(one.lease_id, due[0])
            continue
        top = service.events[0]
        now_s, over = service.step()
        if top[2] == "call":
            assert isinstance(top[3], Call)
            open_calls[top[3].call_id] = top[3]
        if over is not None:
            open_calls.pop(over.call_id, None)
            backs.pop(over.call_id, None)
            give_next(over.lease_id, now_s)
    return service


def counted(service: Service, slots: int) -> Decimal:
    return sum(
        (service.meter.usd_at_most(LeaseId(f"s-{number}")) for number in range(slots)), Decimal(0)
    )


@settings(deadline=None)
@given(st.lists(st.lists(BUSY, max_size=6), min_size=1, max_size=SLOTS_MAX), STARTS)
def test_of_leases_that_are_kept_busy_our_count_is_never_below_the_bill(
    slots: list[list[Fate]], starts: list[int]
) -> None:
    service = played(slots, starts)

    assert counted(service, len(slots)) >= service.billed()


@settings(deadline=None)
@given(st.lists(st.lists(WILD, max_size=6), min_size=1, max_size=SLOTS_MAX), STARTS)
def test_a_call_that_is_lost_hides_no_more_than_the_container_that_follows_it(
    slots: list[list[Fate]], starts: list[int]
) -> None:
    service = played(slots, starts)

    hidden = CENT * Decimal(service.lost * (START_S + WINDOW_S))
    assert counted(service, len(slots)) + hidden >= service.billed()


@settings(deadline=None)
@given(st.lists(CALM, max_size=8), STARTS)
def test_one_slot_on_a_calm_night_counts_exactly_what_is_billed(
    slot: list[Fate], starts: list[int]
) -> None:
    service = played([slot], starts)

    assert counted(service, 1) == service.billed()
