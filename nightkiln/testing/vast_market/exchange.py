"""The market itself: who has which machine at what price, and what it costs."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import Any

from nightkiln.core.model import Kind, Usd
from nightkiln.testing.market import Night
from nightkiln.testing.market.billing import quoted
from nightkiln.testing.vast_market.asks import Ask, Asks, min_bid_usd_h, storage_usd_gb_month
from nightkiln.testing.vast_market.body import Bodies
from nightkiln.testing.vast_market.boxes import box_of
from nightkiln.testing.vast_market.clock import Agenda, StoryClock
from nightkiln.testing.vast_market.contract import Contract, Order
from nightkiln.testing.vast_market.fate import Stay, fate_of
from nightkiln.testing.vast_market.lifecycle import UNBEATABLE, Lives
from nightkiln.testing.vast_market.meter import HOURS_PER_MONTH, Bill, Meter, Prices, exact
from nightkiln.testing.vast_market.replies import Refused
from nightkiln.testing.vast_market.rules import Rules

CONTRACT_FIRST = 20_000_000
CONTRACTS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What a create asks beside the order."""

    cancels_if_unavailable: bool
    is_taken: bool  # somebody took it since the search
    trouble: frozenset[str]


class Exchange:
    """All state of the market; every call begins by letting happen what is due."""

    def __init__(self, night: Night, rules: Rules, bodies: Bodies) -> None:
        self.night, self.rules = night, rules
        self.clock = StoryClock(rules.speed, rules.now)
        self.agenda = Agenda()
        self.asks = Asks(night)
        self.contracts: dict[int, Contract] = {}
        self.credit: Usd = rules.credit
        self.url = ""  # known once it is served
        self.lives = Lives(
            self.clock, self.agenda, lambda one: bodies(box_of(one, night, rules, self.url))
        )
        self._ids = count(CONTRACT_FIRST)
        self._taken: set[str] = set()  # stretches that were rented: their fate is used up
        self._is_broke = False

    @property
    def wall_s(self) -> float:
        """The moment up to which all has happened: nothing is billed beyond it."""
        return self.clock.wall_of(self.agenda.now_s)

    def tick(self) -> None:
        """Let happen what is due, and stop everything when the credit is gone."""
        self.agenda.run(self.clock.story_s)
        if not any(contract.is_billed for contract in self.contracts.values()):
            return
        is_broke = self.spent >= self.credit
        if is_broke and not self._is_broke:
            for contract in self.living():
                contract.troubles.append("no credit")
                self.lives.stop(contract)
        self._is_broke = is_broke

    # Offers.

    def offers(self, kind: Kind, disk_gb: float) -> Iterator[dict[str, Any]]:
        """What could be rented now. Nothing of a machine that we have, nothing that we had."""
        story_s = self.agenda.now_s
        busy = {contract.ask.machine_id for contract in self.living()}
        for ask in self.asks.listed(story_s):
            if ask.machine_id not in busy and ask.stretch.ref not in self._taken:
                yield self.asks.row(ask, story_s, kind, disk_gb)
        if self.rules.has_decoys:
            yield from self.asks.decoys(story_s, kind, disk_gb)

    def _available(self, ask_id: int) -> Ask | None:
        ask = self.asks.get(ask_id)
        if ask is None or not ask.stretch.listed_s <= self.agenda.now_s < ask.stretch.gone_s:
            return None
        is_busy = any(one.ask.machine_id == ask.machine_id for one in self.living())
        return None if is_busy or ask.stretch.ref in self._taken else ask

    # Contracts.

    def rent(self, ask_id: int, order: Order, terms: Terms) -> Contract:
        """A machine, or one that is stopped and billed for its disk; as the service does.

        Raises:
            Refused: it cannot be had; a bid that is too low leaves a contract all the same.
        """
        ask = self._available(ask_id)
        if ask is None:
            raise _gone(ask_id, is_cancelled=terms.cancels_if_unavailable)
        if self.spent >= self.credit:
            message = "Your account lacks credit; see the billing page."
            raise Refused(400, "insufficient_credit", message)
        if order.disk_gb > ask.disk_gb:
            raise Refused(400, "invalid_args", f"disk: at most {ask.disk_gb} GB are there")
        if terms.is_taken:
            self._taken.add(ask.stretch.ref)
            if terms.cancels_if_unavailable:
                raise _gone(ask_id, is_cancelled=True)
            return self._stranded(ask, order, rival_usd_h=UNBEATABLE)
        minimum = quoted(min_bid_usd_h(self.night, ask.stretch, self.agenda.now_s))
        if order.price is not None and exact(order.price) < minimum:
            contract = self._stranded(ask, order, rival_usd_h=float(minimum))
            said = f"bid {order.price} is below the minimum {minimum}"
            raise Refused(400, "invalid_price", said, new_contract=contract.id)
        contract = self._contract(ask, order, terms.trouble)
        self._taken.add(ask.stretch.ref)
        self.lives.begin(contract)
        return contract

    def _stranded(self, ask: Ask, order: Order, *, rival_usd_h: float) -> Contract:
        """One that never had its GPU: stopped, and its disk is billed."""
        contract = self._contract(ask, order, frozenset())
        contract.rival_usd_h = rival_usd_h
        contract.troubles.append("stranded")
        self.lives.stop(contract)
        return contract

    def _contract(self, ask: Ask, order: Order, trouble: frozenset[str]) -> Contract:
        assert len(self.contracts) < CONTRACTS_MAX
        night, stretch, rules = self.night, ask.stretch, self.rules
        kind = Kind.ON_DEMAND if order.price is None else Kind.INTERRUPTIBLE
        wall_s, story_s = self.wall_s, self.agenda.now_s
        stay = Stay(night, stretch, kind, story_s, rules.strikes_s)
        image_gb = rules.image_gb if rules.image_gb is not None else night.market.batch.image_gb
        models = rules.models_gb if rules.models_gb is not None else night.market.batch.models_gb
        fate = fate_of(stay, trouble)
        term_s = min(fate.ends_s, ask.term_s * rules.speed)
        contract = Contract(
            id=next(self._ids),
            ask=ask,
            kind=kind,
            order=order,
            key=secrets.token_hex(32),
            fate=fate,
            meter=self._meter(ask, order, wall_s),
            rented_s=story_s,
            created_s=wall_s,
            ends_s=story_s + term_s,
            image_gb=0.0 if stretch.is_cached else image_gb,
            models_gb=models,
            label=order.label,
        )
        self.contracts[contract.id] = contract
        self.lives.keep(contract)
        return contract

    def _meter(self, ask: Ask, order: Order, wall_s: float) -> Meter:
        night, stretch = self.night, ask.stretch
        on_demand = quoted(night.gpu_usd_h(stretch, Kind.ON_DEMAND, self.agenda.now_s))
        usd_per_hour = on_demand if order.price is None else exact(order.price)
        monthly = exact(storage_usd_gb_month(night, stretch))
        prices = Prices(
            storage_usd_per_hour=monthly * exact(order.disk_gb) / HOURS_PER_MONTH,
            usd_per_gb_in=quoted(stretch.usd_per_gb_down),
            usd_per_gb_out=quoted(stretch.usd_per_gb_up),
        )
        return Meter(prices, usd_per_hour=usd_per_hour, since_s=wall_s)

    def contract(self, contract_id: int) -> Contract | None:
        """One whose row is still shown."""
        found = self.contracts.get(contract_id)
        return found if found is not None and self.is_shown(found) else None

    def is_shown(self, contract: Contract) -> bool:
        return self.agenda.now_s < contract.row_until_s

    def living(self) -> list[Contract]:
        """All that is billed, or would be if its host were there."""
        return [contract for contract in self.contracts.values() if contract.is_billed]

    def row(self, contract: Contract) -> dict[str, Any]:
        """Its row in the listing."""
        end_wall_s = self.clock.wall_of(contract.ends_s)
        return contract.row(self.agenda.now_s, self.wall_s, end_wall_s)

    def bid(self, contract: Contract, usd_per_hour: Usd) -> None:
        """Another price from now on; enough of it beats the rival."""
        contract.meter.reprice(self.wall_s, usd_per_hour)
        rival = contract.rival_usd_h
        if rival is not None and usd_per_hour >= exact(rival):
            self.lives.resume(contract)

    def rival(self, contract: Contract, usd_per_hour: float | None) -> None:
        """Somebody bids for a machine of ours; infinite: on demand; None: he leaves."""
        if usd_per_hour is None:
            if contract.rival_usd_h is not None:
                self.lives.resume(contract)
        elif exact(usd_per_hour) > contract.meter.usd_per_hour:
            self.lives.outbid(contract, usd_per_hour)

    # Money.

    @property
    def spent(self) -> Usd:
        return sum((self.bill(one).usd for one in self.contracts.values()), Decimal(0))

    def bill(self, contract: Contract) -> Bill:
        """What it has cost so far."""
        return contract.bill(self.wall_s, self.agenda.now_s)


def _gone(ask_id: int, *, is_cancelled: bool) -> Refused:
    if is_cancelled:
        said = f"error 410/3907: no_such_ask Instance type {ask_id} is no longer available."
        return Refused(410, "no_such_ask", said, ask_id=ask_id)
    said = f"error 404/3603: no_such_ask Instance type by id {ask_id} is not available."
    return Refused(404, "invalid_args", said, ask_id=ask_id)
