"""What happens to rented machines, moment by moment: the state machine of the service.

``null -> created -> loading -> running``; stopped by us, by a rival or by the end of the term it
is ``exited`` and keeps its disk, and its bill for it; offline is a matter of the host, beside that.
"""

from __future__ import annotations

from collections.abc import Callable

from nightkiln.testing.vast_market.body import Body
from nightkiln.testing.vast_market.clock import Agenda, StoryClock
from nightkiln.testing.vast_market.contract import Contract
from nightkiln.testing.vast_market.fate import NEVER_S, REBOOT_S, Failure
from nightkiln.testing.vast_market.inside import Deed, Inside

RESTART_S = 20.0  # of the story, from having the GPU again until it runs
DELETED_AFTER_S = 48 * 3600.0  # from the end of a term until the service deletes what is left
RIVAL_PREMIUM = 1.2  # times our price: what a rival of the night's bids
UNBEATABLE = float("inf")  # somebody on demand

Act = Callable[[Contract], None]


class Lives:
    """Plans what is drawn, and carries out what is ordered."""

    def __init__(
        self, clock: StoryClock, agenda: Agenda, bodies: Callable[[Contract], Body]
    ) -> None:
        self._clock, self._agenda, self._bodies = clock, agenda, bodies

    # What is drawn.

    def begin(self, contract: Contract) -> None:
        """It has its GPU: all that its fate says will happen."""
        fate, begins_s = contract.fate, contract.rented_s
        self._then(contract, begins_s + fate.created_s, self._is_created)
        failure = fate.fails
        if failure is None or failure.status != "created":
            self._then(contract, begins_s + fate.loading_s, self._loads)
        if failure is not None:
            self._then(contract, begins_s + failure.at_s, lambda one: self._fails(one, failure))
        self._then(contract, begins_s + fate.runs_s, self._runs)
        self._then(contract, begins_s + fate.ports_s, self._shows_ports)
        self._then(contract, begins_s + fate.outbid_s, self.outbid)
        self._then(contract, begins_s + fate.frozen_s, self._freezes)
        self._then(contract, begins_s + fate.exits_s, self._exits)
        self._then(contract, begins_s + fate.reboots_s, self.reboot)
        for window in fate.away:
            self._always(contract, begins_s + window.from_s, self._goes_away)
            self._always(contract, begins_s + window.to_s, self._comes_back)

    def keep(self, contract: Contract) -> None:
        """It exists: its term will end."""
        self._always(contract, contract.ends_s, self._ends)

    def _is_created(self, contract: Contract) -> None:
        self._set(contract, actual="created")

    def _loads(self, contract: Contract) -> None:
        self._set(contract, actual="loading")

    def _fails(self, contract: Contract, failure: Failure) -> None:
        contract.troubles.append(failure.said)
        contract.halted_s = self._agenda.now_s
        self._set(contract, actual=failure.status, said=failure.said)

    def _runs(self, contract: Contract) -> None:
        said = f"success, running {contract.order.image}/ssh"
        wall_s = self._clock.wall_of(self._agenda.now_s)
        contract.set(wall_s, actual="running", current="running", said=said, ran_s=wall_s)
        if contract.inside is None:
            contract.inside = Inside(self._bodies(contract))
            contract.inside.do(Deed.START)
        else:
            contract.inside.do(Deed.REBOOT)
        if not contract.is_online:
            contract.inside.do(Deed.FREEZE)

    def _shows_ports(self, contract: Contract) -> None:
        contract.shows_ports = True

    def _freezes(self, contract: Contract) -> None:
        contract.troubles.append("frozen")
        self._set(contract, actual="frozen")
        self._do(contract, Deed.FREEZE)

    def _exits(self, contract: Contract) -> None:
        contract.troubles.append("exited")
        self._set(contract, actual="exited", said=None)
        self._do(contract, Deed.STOP)

    def _goes_away(self, contract: Contract) -> None:
        contract.troubles.append("offline")
        self._set(contract, is_online=False)
        self._do(contract, Deed.FREEZE)

    def _comes_back(self, contract: Contract) -> None:
        if contract.is_lost:
            return
        contract.troubles.append("online")
        self._set(contract, is_online=True)
        if contract.actual != "frozen":
            self._do(contract, Deed.THAW)

    def _ends(self, contract: Contract) -> None:
        contract.troubles.append("end of term")
        self.stop(contract)
        self._always(contract, self._agenda.now_s + DELETED_AFTER_S, self.destroy)

    # What is ordered, by us or by somebody else.

    def outbid(self, contract: Contract, rival_usd_h: float | None = None) -> None:
        """A rival has the GPU from now on; what fate says of his leaving comes true."""
        if contract.rival_usd_h is None:
            contract.troubles.append("outbid")
        ours = float(contract.meter.usd_per_hour)
        self.stop(contract)
        contract.rival_usd_h = rival_usd_h if rival_usd_h is not None else ours * RIVAL_PREMIUM
        leaves_s = self._agenda.now_s + contract.fate.resumes_after_s
        if rival_usd_h is None:
            self._then(contract, leaves_s, self.resume)

    def resume(self, contract: Contract) -> None:
        """The rival is gone, or outbid: it starts again, whether we want it or not."""
        contract.troubles.append("resumed")
        contract.rival_usd_h = None
        self.start(contract)

    def stop(self, contract: Contract) -> None:
        """It gives up its GPU and keeps its disk."""
        contract.turn += 1
        contract.shows_ports = False
        if contract.halted_s is None:
            contract.halted_s = self._agenda.now_s
        states = {"current": "stopped", "intended": "stopped", "following": "stopped"}
        self._set(contract, actual="exited", said=None, **states)
        self._do(contract, Deed.STOP)

    def start(self, contract: Contract) -> None:
        """It wants its GPU again, and has it unless a rival does."""
        contract.turn += 1
        self._set(contract, intended="running", following="running")
        if contract.rival_usd_h is not None:
            return
        runs_s = self._agenda.now_s + RESTART_S
        self._then(contract, runs_s, self._runs)
        self._then(contract, runs_s, self._shows_ports)

    def reboot(self, contract: Contract) -> None:
        """Its container starts anew on the same disk; its port may be another one."""
        contract.troubles.append("rebooted")
        contract.shows_ports = False
        self._set(contract, actual="rebooting")
        runs_s = self._agenda.now_s + REBOOT_S
        self._then(contract, runs_s, self._runs)
        self._then(contract, runs_s, self._shows_ports)

    def kill(self, contract: Contract) -> None:
        """Its host is gone for good."""
        if contract.destroyed_s is None:
            contract.is_lost = True
            contract.halted_s = self._agenda.now_s
            self._goes_away(contract)

    def destroy(self, contract: Contract) -> None:
        """Nothing is billed from now on; the row is still there for a while."""
        if contract.destroyed_s is not None:
            return
        contract.turn += 1
        if contract.halted_s is None:
            contract.halted_s = self._agenda.now_s
        contract.row_until_s = self._agenda.now_s + contract.fate.gone_after_s
        wall_s = self._clock.wall_of(self._agenda.now_s)
        contract.set(wall_s, destroyed_s=wall_s)
        self._do(contract, Deed.DISCARD)

    # How.

    def _set(self, contract: Contract, **states: str | bool | None) -> None:
        contract.set(self._clock.wall_of(self._agenda.now_s), **states)

    def _do(self, contract: Contract, deed: Deed) -> None:
        if contract.inside is not None:
            contract.inside.do(deed)

    def _then(self, contract: Contract, story_s: float, act: Act) -> None:
        """Only if nothing ended this turn of its life until then."""
        turn = contract.turn

        def happen() -> None:
            if contract.turn == turn and contract.destroyed_s is None:
                act(contract)

        if story_s < NEVER_S:
            self._agenda.at(story_s, happen)

    def _always(self, contract: Contract, story_s: float, act: Act) -> None:
        """Whatever it does then, unless it is destroyed."""

        def happen() -> None:
            if contract.destroyed_s is None:
                act(contract)

        if story_s < NEVER_S:
            self._agenda.at(story_s, happen)
