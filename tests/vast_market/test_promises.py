"""The judge of nights finds every broken promise, and none where all is well."""

from __future__ import annotations

from decimal import Decimal

from nightkiln.testing.vast_market import Request, Truth, broken_promises
from nightkiln.testing.vast_market.truth import LedgerRow, MachineRow
from tests.vast_market.driving import LABEL, driven

KEY = "very-secret-key"


def machine(label: str, created: float, destroyed: float | None) -> MachineRow:
    return MachineRow(
        contract=int(created),
        label=label,
        machine=1,
        host=1,
        offer="a.0",
        kind="on_demand",
        status="running",
        intended="running",
        is_billed=destroyed is None,
        is_shown=True,
        usd_per_hour=Decimal("0.4"),
        ssh_port=None,
        story=[],
        trouble=[],
        created=created,
        destroyed=destroyed,
    )


def bill(label: str, usd: str) -> LedgerRow:
    return LedgerRow(
        contract=1,
        label=label,
        kind="on_demand",
        gpu_s=0.0,
        gpu_usd=Decimal(usd),
        storage_s=0.0,
        storage_usd=Decimal(0),
        gb_in=0.0,
        in_usd=Decimal(0),
        gb_out=0.0,
        out_usd=Decimal(0),
        usd=Decimal(usd),
        created=0.0,
        destroyed=None,
    )


def request(at_s: float, limit: str, *, url: str = "/api/", body: object = None) -> Request:
    return Request(at_s, "GET", url, limit, limit, "owner", body, 200)


def judged(
    machines: tuple[MachineRow, ...] = (),
    ledger: tuple[LedgerRow, ...] = (),
    requests: tuple[Request, ...] = (),
    budget: Decimal | None = None,
) -> list[str]:
    truth = Truth(ledger=ledger, machines=machines, requests=requests, secrets=(KEY,))
    return broken_promises(truth, budget=budget)


async def test_a_night_in_which_all_is_given_back_breaks_nothing() -> None:
    async with driven() as sdk:
        contract = await sdk.rent()
        assert broken_promises(sdk.market.truth()) == [
            f"{LABEL} (contract {contract.id}, None) is still billed"
        ]

        await sdk("destroy_instance", contract.id)

        assert broken_promises(sdk.market.truth(), budget=Decimal(1)) == []


def test_a_label_that_stands_for_two_machines_at_once_is_found() -> None:
    after = judged((machine(LABEL, 1.0, 5.0), machine(LABEL, 5.0, 9.0)))
    at_once = judged((machine(LABEL, 1.0, 5.0), machine(LABEL, 4.0, 9.0)))
    others = judged((machine("mine", 1.0, 5.0), machine("mine", 4.0, None)))

    assert (after, others) == ([], [])
    assert at_once == [f"{LABEL} stood for two machines at once: 1 and 4"]


def test_one_burst_is_forgiven_and_no_more() -> None:
    paced = tuple(request(3.0 * n, "destroy") for n in range(20))
    burst = (*paced, request(57.1, "destroy"))
    storm = (*burst, request(57.2, "destroy"))

    assert judged(requests=paced) == judged(requests=burst) == []
    assert len(judged(requests=storm)) == 1
    assert judged(requests=tuple(request(6.0 * n, "search") for n in range(30))) == []
    assert len(judged(requests=tuple(request(4.0 * n, "search") for n in range(30)))) == 1


def test_a_key_in_an_address_or_on_its_way_to_a_machine_is_found_and_not_repeated() -> None:
    in_url = judged(requests=(request(0.0, "show", url=f"/api/?api_key={KEY}"),))
    in_env = judged(requests=(request(0.0, "create", body={"env": {"KEY": KEY}}),))

    assert len(in_url) == len(in_env) == 1
    assert KEY not in in_url[0] + in_env[0]


def test_more_than_the_budget_is_found_by_our_labels_only() -> None:
    ledger = (bill(LABEL, "0.6"), bill("nk/main/other", "0.6"), bill("somebody", "9"))

    assert judged(ledger=ledger, budget=Decimal("1.2")) == []
    assert judged(ledger=ledger, budget=Decimal("1.1")) != []
