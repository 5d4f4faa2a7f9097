"""One run per batch: who may take it, who is told to wait, who must stop."""

from __future__ import annotations

import errno
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nightkiln.blobs import LocalBlobs
from nightkiln.core.errors import ClaimHeld, ClaimLost, StoreUnusable
from nightkiln.disk import OsDisk
from nightkiln.ports.blobs import Blobs
from nightkiln.store.claim import Claim, acquire
from nightkiln.store.claims import (
    STALE_S,
    Free,
    Held,
    SeenClaim,
    StopRequest,
    TakeOver,
    claim_key,
    newest_claim,
    read_stop,
    request_stop,
    who_may,
    write_ended,
    write_heartbeat,
)
from nightkiln.store.processes import Process, is_dead, this_process
from nightkiln.testing.disk import SteppedDisk
from nightkiln.testing.waiting import until
from tests.adapters.places import BOTH, place_in

ALIVE_S = 1_000.0
RUNNING = SeenClaim(
    epoch=3,
    owner=Process("kiln", 42, "here", "7"),
    started_s=900.0,
    alive_s=ALIVE_S,
    ended=None,
)
ENDED = replace(RUNNING, ended={"exit_code": 0})


class Clock:
    """Time that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now_s = ALIVE_S

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("newest", "age_s", "is_proven_dead", "verdict"),
    [
        pytest.param(None, 0, False, Free(1), id="a batch that never ran is free"),
        pytest.param(ENDED, 1, False, Free(4), id="a batch whose run has ended is free"),
        pytest.param(ENDED, 999, True, Free(4), id="however long ago"),
        pytest.param(RUNNING, 0, False, Held(RUNNING), id="a run that is alive keeps its batch"),
        pytest.param(RUNNING, STALE_S, False, Held(RUNNING), id="up to the limit"),
        pytest.param(RUNNING, STALE_S + 1, False, TakeOver(4, RUNNING), id="not beyond it"),
        pytest.param(RUNNING, 1, True, TakeOver(4, RUNNING), id="a dead process is not waited for"),
        pytest.param(RUNNING, -999, False, Held(RUNNING), id="a clock ahead of ours is alive"),
    ],
)
def test_who_may_take_a_batch(
    *, newest: SeenClaim | None, age_s: float, is_proven_dead: bool, verdict: object
) -> None:
    assert verdict == who_may(
        newest, now_s=ALIVE_S + age_s, stale_s=STALE_S, is_proven_dead=is_proven_dead
    )


@pytest.fixture(params=BOTH)
def blobs(request: pytest.FixtureRequest) -> Blobs:
    """A folder, or a bucket."""
    return place_in(request.param, request)()


def _alive_s(blobs: Blobs) -> float:
    seen = newest_claim(blobs, "night")
    assert seen is not None
    return seen.alive_s


async def test_a_second_run_is_told_who_has_the_batch_and_what_to_do(blobs: Blobs) -> None:
    clock = Clock()

    async with Claim(blobs, "night", clock=clock):
        clock.now_s += 30
        with pytest.raises(ClaimHeld, match="nightkiln stop night") as held:
            async with Claim(blobs, "night", clock=clock):
                raise AssertionError("two runs have one batch")

    assert held.value.since_s == ALIVE_S
    assert held.value.owner == f"{this_process().host}:{this_process().pid}"


async def test_the_next_run_gets_the_next_epoch_as_soon_as_one_has_ended(blobs: Blobs) -> None:
    clock = Clock()

    async with Claim(blobs, "night", clock=clock) as first:
        first.end({"exit_code": 0})
    async with Claim(blobs, "night", clock=clock) as second:
        assert (first.epoch, second.epoch, second.took_over_from) == (1, 2, None)

    seen = newest_claim(blobs, "night")
    assert seen is not None
    assert seen.ended == {"exit_code": None, "ended_s": ALIVE_S}  # cut short: it never said how


async def test_other_batches_are_nobody_elses_business(blobs: Blobs) -> None:
    clock = Clock()

    async with Claim(blobs, "night", clock=clock), Claim(blobs, "night-2", clock=clock) as other:
        assert other.epoch == 1


async def test_a_run_whose_heartbeat_is_stale_loses_its_batch(blobs: Blobs) -> None:
    clock = Clock()

    async with Claim(blobs, "night", clock=clock, heartbeat_s=3600) as asleep:
        await asleep.still_mine()
        clock.now_s += STALE_S + 1
        async with Claim(blobs, "night", clock=clock) as awake:
            assert awake.epoch == 2
            assert awake.took_over_from == this_process()
            with pytest.raises(ClaimLost, match="epoch 2"):
                await asleep.still_mine()


async def test_a_heart_that_finds_a_higher_epoch_says_that_the_batch_is_lost(blobs: Blobs) -> None:
    clock = Clock()

    async with Claim(blobs, "night", clock=clock, heartbeat_s=0) as mine:
        blobs.create(claim_key("night", 2), b"{}")

        assert isinstance(await mine.lost(), ClaimLost)
        with pytest.raises(ClaimLost):
            await mine.still_mine()


async def test_heartbeats_keep_the_batch(blobs: Blobs) -> None:
    clock = Clock()

    async with Claim(blobs, "night", clock=clock, heartbeat_s=0):
        clock.now_s += STALE_S - 1
        await until(lambda: _alive_s(blobs) == clock.now_s)
        clock.now_s += STALE_S - 1

        with pytest.raises(ClaimHeld):
            acquire(blobs, "night", now_s=clock.now_s)


async def test_a_run_that_cannot_write_heartbeats_gives_up_before_others_take_over(
    tmp_path: Path,
) -> None:
    clock = Clock()

    def fail(_number: int, name: str) -> None:
        if "replace" in name:
            clock.now_s += 20
            raise OSError(errno.EIO, "Input/output error")

    blobs = LocalBlobs(tmp_path, disk=SteppedDisk(OsDisk(), fail))

    async with Claim(blobs, "night", clock=clock, heartbeat_s=0) as claim:
        lost = await claim.lost()

    assert "no heartbeat" in str(lost)
    assert clock.now_s > ALIVE_S + STALE_S


@pytest.mark.parametrize("when", ['"tonight"', "null", "[]", "1" + "0" * 400])
def test_a_stop_that_was_written_by_hand_is_a_stop(when: str, tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    blobs.put(claim_key("night", 1, "stop"), f'{{"now": true, "requested_s": {when}}}'.encode())

    assert read_stop(blobs, "night", 1) == StopRequest(now=True, requested_s=0.0)


@pytest.mark.parametrize("content", [b"[1]", b"stop it", b"[" * 100_000, b"\xff"])
def test_a_stop_that_makes_no_sense_is_the_stores_trouble(content: bytes, tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    blobs.put(claim_key("night", 1, "stop"), content)

    with pytest.raises(StoreUnusable, match="damaged"):
        read_stop(blobs, "night", 1)


@pytest.mark.parametrize("when", ['"tonight"', "null", "1" + "0" * 400])
def test_a_claim_without_a_time_is_the_stores_trouble(when: str, tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    owner = '{"host": "kiln", "pid": 1, "place": "", "mark": ""}'
    content = f'{{"owner": {owner}, "started_s": {when}}}'.encode()
    blobs.put(claim_key("night", 1), content)

    with pytest.raises(StoreUnusable, match="not a claim"):
        newest_claim(blobs, "night")


async def test_a_stop_is_found_by_the_run_that_it_is_meant_for(blobs: Blobs) -> None:
    clock = Clock()
    assert request_stop(blobs, "night", now=True, requested_s=1.0) is None

    async with Claim(blobs, "night", clock=clock) as claim:
        assert await claim.stop_requested() is None
        asked = request_stop(blobs, "night", now=False, requested_s=2.0)
        soft = await claim.stop_requested()
        request_stop(blobs, "night", now=True, requested_s=3.0)
        hard = await claim.stop_requested()
    async with Claim(blobs, "night", clock=clock) as following:
        assert await following.stop_requested() is None

    assert asked is not None
    assert asked.owner == this_process()
    assert soft is not None
    assert (soft.now, soft.requested_s) == (False, 2.0)
    assert hard is not None
    assert hard.now


def test_a_damaged_claim_is_named(blobs: Blobs) -> None:
    blobs.put(claim_key("night", 1), b"{torn")

    with pytest.raises(StoreUnusable, match=r"claims/night/000001\.json is damaged"):
        acquire(blobs, "night", now_s=0)


def test_the_first_word_about_the_end_counts(blobs: Blobs) -> None:
    acquire(blobs, "night", now_s=0)

    write_ended(blobs, "night", 1, {"exit_code": 0})
    write_ended(blobs, "night", 1, {"exit_code": None})
    write_heartbeat(blobs, "night", 1, alive_s=5.0)

    seen = newest_claim(blobs, "night")
    assert seen is not None
    assert (seen.alive_s, seen.ended) == (5.0, {"exit_code": 0})


_RACER = """
import sys, time
from pathlib import Path
from nightkiln.blobs import LocalBlobs
from nightkiln.core.errors import ClaimHeld
from nightkiln.store.claim import acquire
print("ready", flush=True)
sys.stdin.readline()
try:
    won = acquire(LocalBlobs(Path(sys.argv[1])), "night", now_s=time.time())
    print("won", won.epoch, flush=True)
except ClaimHeld:
    print("held", flush=True)
sys.stdin.readline()
"""


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ask(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_of_processes_that_want_a_batch_at_once_one_gets_it_and_its_death_frees_it(
    tmp_path: Path,
) -> None:
    for epoch in (1, 2):  # the second time, the winner of the first has been killed
        racers = [_start(_RACER, str(tmp_path)) for _ in range(4)]
        assert [_answer(racer) for racer in racers] == ["ready"] * 4

        for racer in racers:
            _ask(racer)
        answers = [_answer(racer) for racer in racers]

        for racer in racers:
            racer.kill()
            racer.communicate()
        assert sorted(answers) == ["held", "held", "held", f"won {epoch}"]


_NAMES_ITSELF = """
import sys
from nightkiln.store.processes import this_process
p = this_process()
print(p.host, p.pid, p.place, p.mark, sep="|", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to prove a death")
def test_a_process_is_dead_when_it_can_be_proven_and_not_before() -> None:
    child = _start(_NAMES_ITSELF)
    host, pid, place, mark = _answer(child).split("|")
    process = Process(host, int(pid), place, mark)

    was_dead_alive = is_dead(process)
    is_reused_pid_dead = is_dead(replace(process, mark="1"))
    child.kill()
    child.communicate()

    assert not was_dead_alive
    assert is_reused_pid_dead
    assert is_dead(process)
    assert not is_dead(replace(process, place="another kernel"))
    assert not is_dead(replace(process, host="another host"))
    assert not is_dead(replace(process, place=""))
