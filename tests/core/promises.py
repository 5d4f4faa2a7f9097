"""What must hold after every event of any story."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from nightkiln.core.events import Cancel, Command, Extend, FetchJobs, GiveUp, Submit
from nightkiln.core.scheduler import Scheduler

if TYPE_CHECKING:
    from tests.core.world import World


def check_state(world: World) -> None:
    """The scheduler's books agree with what really happened."""
    state = world.run.state
    queue, settled = state.queue, world.done | world.given_up
    assert not world.done & world.given_up
    assert queue.open == len(world.fetched - settled)
    assert state.done == len(world.done)
    assert state.failed == len(world.given_up)
    waiting = set(queue.waiting())
    tried = {each.job_id for each in state.trying.values() if not each.is_moot}
    assert waiting | tried == world.fetched - settled
    assert not waiting & tried
    assert len(list(queue.waiting())) == len(waiting) == len(queue)
    assert len(state.trying) == sum(len(held.running) for held in state.leases.values())
    for lease_id, held in state.leases.items():
        assert set(held.running) == world.leases[lease_id].running
    ended = {lease_id for lease_id, each in world.leases.items() if each.is_told_released}
    assert set(state.leases) == set(world.leases) - ended


def check_budget(run: Scheduler) -> None:
    """What is spent and reserved stays within the budget."""
    left = run.state.ledger.left(run.state.now_s)
    assert left is None or left >= 0, "more is reserved than the budget"


def check_scan(run: Scheduler) -> None:
    """A scan of everything finds no job command that the indexed step has missed."""
    other = deepcopy(run)
    other.state.dirty = set(other.state.leases)
    assert not [each for each in other._decide(is_tick=False) if _is_of_a_job(each)]
    other.state.is_fleet_dirty = True
    more = list(other._decide(is_tick=False))
    extended = {each.lease_id for each in more if isinstance(each, Extend)}
    for command in more:
        if isinstance(command, Submit):
            assert command.lease_id in extended
        else:
            assert not _is_of_a_job(command)


def _is_of_a_job(command: Command) -> bool:
    return isinstance(command, Submit | Cancel | GiveUp | FetchJobs)
