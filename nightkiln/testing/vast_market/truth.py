"""What is true of the market, for whoever holds a client's books against it."""

from __future__ import annotations

from typing import TypedDict

from nightkiln.core.model import Usd
from nightkiln.testing.vast_market.contract import Contract
from nightkiln.testing.vast_market.exchange import Exchange


class LedgerRow(TypedDict):
    """What one contract has cost; moments are epoch seconds."""

    contract: int
    label: str | None
    kind: str
    gpu_s: float
    gpu_usd: Usd
    storage_s: float
    storage_usd: Usd
    gb_in: float
    in_usd: Usd
    gb_out: float
    out_usd: Usd
    usd: Usd
    created: float
    destroyed: float | None


class MachineRow(TypedDict):
    """What one contract truly is."""

    contract: int
    label: str | None
    machine: int
    host: int
    offer: str  # the stretch of the night
    kind: str
    status: str | None
    intended: str
    is_billed: bool
    is_shown: bool
    usd_per_hour: Usd
    ssh_port: int | None
    story: list[str]  # what befell it
    trouble: list[str]  # what ails it
    created: float
    destroyed: float | None


def ledger(exchange: Exchange) -> list[LedgerRow]:
    """Every contract's bill, in the order of creating."""
    return [_bill(exchange, contract) for contract in exchange.contracts.values()]


def machines(exchange: Exchange) -> list[MachineRow]:
    """Every contract there ever was."""
    return [_machine(exchange, contract) for contract in exchange.contracts.values()]


def _bill(exchange: Exchange, contract: Contract) -> LedgerRow:
    bill = exchange.bill(contract)
    return LedgerRow(
        contract=contract.id,
        label=contract.label,
        kind=contract.kind.value,
        gpu_s=float(bill.gpu_s),
        gpu_usd=bill.gpu_usd,
        storage_s=float(bill.storage_s),
        storage_usd=bill.storage_usd,
        gb_in=float(bill.gb_in),
        in_usd=bill.in_usd,
        gb_out=float(bill.gb_out),
        out_usd=bill.out_usd,
        usd=bill.usd,
        created=contract.created_s,
        destroyed=contract.destroyed_s,
    )


def _machine(exchange: Exchange, contract: Contract) -> MachineRow:
    return MachineRow(
        contract=contract.id,
        label=contract.label,
        machine=contract.ask.machine_id,
        host=contract.ask.host_id,
        offer=contract.ask.stretch.ref,
        kind=contract.kind.value,
        status=contract.status,
        intended=contract.intended,
        is_billed=contract.is_billed,
        is_shown=exchange.is_shown(contract),
        usd_per_hour=contract.meter.usd_per_hour,
        ssh_port=contract.inside.port if contract.inside is not None else None,
        story=list(contract.troubles),
        trouble=sorted(contract.fate.trouble),
        created=contract.created_s,
        destroyed=contract.destroyed_s,
    )
