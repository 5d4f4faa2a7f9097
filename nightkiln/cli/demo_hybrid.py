"""``nightkiln demo --night hybrid``: rented machines, Modal behind them, and why it was needed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import typer

from nightkiln.cli.printing import plain
from nightkiln.cli.run import say_outcome, watching
from nightkiln.core.errors import BadInput, Problem
from nightkiln.demo import batch_name
from nightkiln.night import Outcome, StopSwitch
from nightkiln.observers.sentences import outcome_facts
from nightkiln.ports.observer import Observer
from nightkiln.store.home import store_uri

if TYPE_CHECKING:  # both services' SDKs take seconds to load
    from nightkiln.testing.hybrid import HybridScene
    from nightkiln.testing.hybrid.receipt import HybridReceipt

BY_S = 70.0
JOBS, MACHINES = 190, 4
LOST_AT, LOST = 0.4, 0.5  # when, as a share of the time, and how many of the machines
BUDGET_USD = Decimal("2.00")
NEEDED = {"vastai": "vast", "asyncssh": "vast", "modal": "modal"}  # modules, and what brings them
INTRODUCTION = (
    "an hour in a minute: a simulated Vast.ai and a fake Modal on this computer, each spoken to by "
    "its real SDK; bills are of the minute. First the app is deployed, as by 'nightkiln modal "
    "deploy'. After 28 s half of the machines are lost, and no others are on offer; the fallback "
    "does what the rest will not"
)


def hybrid_demo(store: str, *, as_json: bool) -> Outcome:
    """Play the night and print its receipt.

    Raises:
        BadInput: an SDK is not installed.
    """
    if missing := sorted({extra for name, extra in NEEDED.items() if find_spec(name) is None}):
        fix = f"pip install 'nightkiln[{','.join(missing)}]'"
        raise BadInput([Problem("demo --night hybrid", "it wants the real SDKs", fix)])
    if not as_json:
        typer.echo(INTRODUCTION)
    receipt = asyncio.run(_watched(store_uri(store), as_json=as_json))
    outcome = receipt.outcome
    if as_json:
        say_outcome(outcome, as_json=True)
        sys.stdout.write(json.dumps({"event": "receipt", **receipt.facts()}, default=plain) + "\n")
        return outcome
    for line in told(receipt):
        typer.echo(line)
    return outcome


def told(receipt: HybridReceipt) -> Sequence[str]:
    """What came of it, the receipt, and where to read more."""
    outcome = receipt.outcome
    more = f"every decision: nightkiln why {outcome.batch} --store {outcome.store}"
    return [*outcome_facts(outcome), "", *receipt.lines(), more]


async def _watched(store: str, *, as_json: bool) -> HybridReceipt:
    with watching(as_json=as_json) as (observer, switch):
        return await _night(store, observer, switch)


async def _night(store: str, observer: Observer, switch: StopSwitch) -> HybridReceipt:
    from nightkiln.testing.hybrid import HybridScene
    from nightkiln.testing.hybrid.scene import machine

    with TemporaryDirectory(prefix="nk-hybrid-") as folder:
        async with HybridScene(
            Path(folder),
            jobs=JOBS,
            by=f"{BY_S:.0f}s",
            budget=BUDGET_USD,
            machines=tuple(map(machine, range(MACHINES))),
            leases_max=2 * MACHINES,
            is_proven=True,
            batch=f"{batch_name()}-hybrid",
            store=store,
            is_fresh=True,  # else a second demo would find all done, and rent nothing
        ) as scene:
            losing = asyncio.create_task(_lose_some(scene))
            try:
                outcome = await scene.run(switch=switch, observer=observer)
            finally:
                losing.cancel()
                await asyncio.wait([losing])
            return await asyncio.to_thread(scene.receipt, outcome)


async def _lose_some(scene: HybridScene) -> None:
    await scene.market.until(lambda: bool(scene.billed()))
    await asyncio.sleep(LOST_AT * BY_S)
    await scene.lose(LOST)
