"""``make demo``: the flow on the demo catalog and two stand-in workers, one of which misbehaves.

``scripts/demo`` starts it with a Prefect home of its own, whose server lives as long as the run.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from prefect import flow
from rich.console import Console

from nightkiln.cli.demo import tell
from nightkiln.demo import INTRODUCTION, batch_name, demo_catalog, stand_ins
from nightkiln.night import Outcome, StopSwitch
from nightkiln.observers import PlainLines
from nightkiln.signals import stopping_on_signals
from tasks.batch import render
from tasks.options import LocalOptions
from tasks.params import BatchParams
from tasks.results import RESULTS
from tasks.showing.closing import leave


@flow(name="demo", retries=0, persist_result=False, result_storage=RESULTS)
async def demo(store: str = "nightkiln-demo") -> Outcome:
    """Render the demo catalog on two stand-ins; every job is done all the same.

    Args:
        store: Folder for the results.
    """
    async with stand_ins() as urls:
        params = BatchParams(
            catalog=demo_catalog(),
            store=store,
            options=LocalOptions(worker_urls=list(urls)),
            name=batch_name(),
            fresh=True,
        )
        settings, switch, lines = params.settings(), StopSwitch(), PlainLines(sys.stdout)
        with stopping_on_signals(switch):
            outcome = await render(params, settings, is_nightly=False, switch=switch, also=lines)
    await leave(outcome, settings)
    return outcome


def main() -> int:
    """Run the flow, and tell what came of it."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{INTRODUCTION} (Prefect's own server starts first: some 20 s)")
    outcome = asyncio.run(demo(str(Path("nightkiln-demo").absolute())))
    tell(outcome, console)
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
