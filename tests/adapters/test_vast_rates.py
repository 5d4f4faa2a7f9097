"""The limits of Vast.ai are kept by everybody together."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightkiln.core.errors import StoreUnusable
from nightkiln.providers.vast.errors import Kind, VastFailed
from nightkiln.providers.vast.rates import PACES, Endpoint, Rates

URL = "https://example.test"


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self, now_s: float = 1_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def rates(folder: Path, clock: Clock, key: str = "key-of-mine") -> Rates:
    return Rates(folder, key=key, url=URL, clock=clock)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    endpoint=st.sampled_from(list(Endpoint)),
    steps=st.lists(st.tuples(st.integers(0, 1), st.floats(0, 20)), max_size=30),
)
def test_two_who_share_a_folder_never_call_more_often_than_is_documented(
    tmp_path: Path, endpoint: Endpoint, steps: list[tuple[int, float]]
) -> None:
    clock, folder = Clock(), tmp_path / str(time.monotonic_ns())
    both = [rates(folder, clock), rates(folder, clock)]
    taken: list[float] = []

    for who, wait_s in steps:
        clock.now_s += wait_s
        if both[who]._take(endpoint) == 0:
            taken.append(clock.now_s)

    pace = PACES[endpoint]
    for first, last in zip(taken, taken[pace.calls :], strict=False):
        assert last - first >= pace.seconds


def test_the_wait_that_is_told_is_enough(tmp_path: Path) -> None:
    clock = Clock()
    mine = rates(tmp_path, clock)
    assert mine._take(Endpoint.CREATE) == 0

    clock.now_s += mine._take(Endpoint.CREATE)

    assert mine._take(Endpoint.CREATE) == 0


def test_each_account_and_endpoint_has_limits_of_its_own(tmp_path: Path) -> None:
    clock = Clock()
    assert rates(tmp_path, clock)._take(Endpoint.LIST) == 0

    assert rates(tmp_path, clock, key="another-key")._take(Endpoint.LIST) == 0
    assert rates(tmp_path, clock)._take(Endpoint.SHOW) == 0
    assert rates(tmp_path, clock)._take(Endpoint.LIST) > 0


async def test_after_a_429_everybody_waits_as_long_as_the_service_wants(tmp_path: Path) -> None:
    clock = Clock()
    mine, other = rates(tmp_path, clock), rates(tmp_path, clock)

    await mine.penalise(Endpoint.CREATE, None)
    assert other._take(Endpoint.CREATE) == pytest.approx(12.0)
    await mine.penalise(Endpoint.LIST, 40.0)
    assert other._take(Endpoint.LIST) == pytest.approx(40.0)
    await mine.penalise(Endpoint.DESTROY, 1e9)
    assert other._take(Endpoint.DESTROY) <= 3600.0


async def test_a_turn_that_does_not_come_in_time_is_not_waited_for(tmp_path: Path) -> None:
    mine = Rates(tmp_path, key="key-of-mine", url=URL, clock=time.time)
    await mine.turn(Endpoint.CREATE, within_s=1.0)

    with pytest.raises(VastFailed) as caught:
        await mine.turn(Endpoint.CREATE, within_s=0.1)

    assert caught.value.kind is Kind.RATE_LIMITED


async def test_turns_are_taken_one_after_the_other(tmp_path: Path) -> None:
    mine = Rates(tmp_path, key="key-of-mine", url=URL, clock=time.time)
    begun_s = time.monotonic()

    await asyncio.gather(*(mine.turn(Endpoint.LIST, within_s=10.0) for _ in range(3)))

    assert time.monotonic() - begun_s >= 2.0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', "null", "[" * 100_000])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rates" / "vast.json"
    path.parent.mkdir()
    path.write_text(content)

    assert rates(tmp_path, Clock())._take(Endpoint.LIST) == 0
    assert rates(tmp_path, Clock())._take(Endpoint.LIST) > 0


def test_times_of_another_clock_do_not_stop_us_for_years(tmp_path: Path) -> None:
    future = Clock(2e9)
    assert rates(tmp_path, future)._take(Endpoint.LIST) == 0

    assert rates(tmp_path, Clock())._take(Endpoint.LIST) == 0


def test_a_clock_that_is_set_back_holds_nobody_up(tmp_path: Path) -> None:
    clock = Clock()
    mine = rates(tmp_path, clock)
    assert mine._take(Endpoint.DESTROY) == 0

    clock.now_s -= 1800

    assert mine._take(Endpoint.DESTROY) == 0
    assert 0 < mine._take(Endpoint.DESTROY) < 4


def test_the_file_holds_no_key_and_is_private(tmp_path: Path) -> None:
    rates(tmp_path, Clock(), key="very-secret-key")._take(Endpoint.LIST)

    path = tmp_path / "rates" / "vast.json"
    assert "very-secret-key" not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "rates").write_text("in the way")

    with pytest.raises(StoreUnusable, match="rates"):
        rates(tmp_path, Clock())._take(Endpoint.LIST)


def test_processes_share_their_turns(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from nightkiln.providers.vast.rates import Endpoint, Rates\n"
        "mine = Rates(Path(sys.argv[1]), key='key-of-mine', url='u', clock=time.time)\n"
        "print(sum(mine._take(Endpoint.DESTROY) == 0 for _ in range(50)))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]

    began_s = time.monotonic()
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    taken = [int(process.communicate(timeout=60)[0]) for process in running]

    assert 1 <= sum(taken) <= 1 + (time.monotonic() - began_s) / PACES[Endpoint.DESTROY].seconds
    assert json.loads((tmp_path / "rates" / "vast.json").read_text())
