"""A machine rented on the simulated market is a whole one, with a dead-man switch."""

from __future__ import annotations

from pathlib import Path

from nightkiln.machine.scripts import start_script
from nightkiln.testing.vast_market import Rules, VastMarket, broken_promises
from nightkiln.testing.vast_market.samples import quiet_night
from nightkiln.testing.vast_market.ssh_body import SshBodies
from tests.vast_market.driving import IMAGE, LABEL, Sdk, until_ready

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMr2i6yNQVVYTzOLrtvGJYsIbyTxzWRlHbVrWnnNM5cA batch"


async def test_a_machine_that_nobody_looks_after_destroys_itself_through_a_storm(
    tmp_path: Path,
) -> None:
    rules = Rules(limits_scale=0.0, faults=("destroy_429@1x2",))
    async with (
        SshBodies(tmp_path) as bodies,
        VastMarket(quiet_night(), rules=rules, bodies=bodies) as market,
    ):
        sdk = Sdk(market)
        offer, *_ = await sdk.offers()
        life = {"NK_LIFE_S": "600", "NK_QUIET_S": "1", "NK_TICK_S": "1"}
        order = {"id": offer["id"], "image": IMAGE, "disk": 40.0, "label": LABEL}
        await sdk(
            "create_instance",
            **order,
            env={"NK_KEY": KEY, "NK_API": market.url, **life},
            onstart_cmd=start_script(),
            runtype="ssh_direct",
            cancel_unavail=True,
        )
        [contract] = market.exchange.contracts.values()

        market.skip(until_ready(contract))
        await market.until(lambda: not contract.is_billed)

        asked = [one for one in market.requests if one.endpoint == "destroy"]
        assert [one.status for one in asked] == [429, 429, 200]
        assert {one.who for one in asked} == {f"contract-{contract.id}"}
        assert broken_promises(market.truth()) == []
