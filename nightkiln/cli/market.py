"""``nightkiln market``: the simulated market by hand, to try everything without an account."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from nightkiln.cli.options import JsonOption
from nightkiln.core.errors import BadInput, Problem
from nightkiln.testing.vast_market import FAULTS, Bare, Bodies, Rules, VastMarket, night_of
from nightkiln.testing.vast_market.faults import FaultPlan
from nightkiln.testing.vast_market.ssh_body import SshBodies

PORT_MAX = 65_535
SPEED_MAX = 10_000.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def market(
    *,
    port: Annotated[
        int,
        typer.Option(min=0, max=PORT_MAX, metavar="PORT", help="On loopback; 0 picks a free one."),
    ] = 0,
    seed: Annotated[
        int, typer.Option(metavar="SEED", help="The same seed tells the same story.")
    ] = 1,
    speed: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=SPEED_MAX,
            metavar="TIMES",
            help="How many times faster things happen: starts, losses, rendering. Bills and rate "
            "limits go by the wall clock all the same, so a night costs so many times less.",
        ),
    ] = 60.0,
    faults: Annotated[
        list[str] | None,
        typer.Option(
            metavar="none|default|NAME",
            help="What goes wrong beyond the night itself: nothing, a little of everything, or "
            "one fault as NAME, NAME@N (the N-th call), NAME@NxM (M calls from there) or "
            "NAME%PERCENT; give it again for each further one.",
        ),
    ] = None,
    list_faults: Annotated[
        bool, typer.Option("--list-faults", help="Print the names of all faults, and end.")
    ] = False,
    bare: Annotated[
        bool, typer.Option("--bare", help="Machines that listen and say nothing: the API alone.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a simulated Vast.ai on this computer until Ctrl-C.

    It answers as the service does, with its prices, states, limits and troubles. A machine that is
    rented there is an SSH server on loopback behind which a stand-in for ComfyUI renders. What is
    printed, put into the environment, makes every other command use it. The truth about what was
    rented and what it cost is under /__sim/ledger, /__sim/machines and /__sim/requests.

    Example: nightkiln market --speed 60 --faults default

    Exit codes: 0 it was ended, 2 no such fault, or the port is taken.
    """
    if list_faults:
        _list_faults(as_json=as_json)
        return
    rules = Rules(speed=speed, port=port, faults=tuple(faults if faults is not None else ()))
    FaultPlan(str(seed)).add(rules.faults)  # so that a wrong name is told before anything starts
    try:
        asyncio.run(_serve(seed, rules, is_bare=bare, as_json=as_json))
    except OSError as error:
        raise BadInput([Problem(f"port {port}", f"cannot listen: {error.strerror}")]) from error


def _list_faults(*, as_json: bool) -> None:
    if as_json:
        for name, fault in FAULTS.items():
            typer.echo(json.dumps({"fault": name, "says": fault.says}))
        return
    width = max(map(len, FAULTS))
    for name, fault in FAULTS.items():
        typer.echo(f"{name:{width}}  {fault.says}")


async def _serve(seed: int, rules: Rules, *, is_bare: bool, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        bodies: Bodies = Bare
        if not is_bare:
            folder = stack.enter_context(TemporaryDirectory(prefix="nightkiln-market-"))
            bodies = await stack.enter_async_context(SshBodies(Path(folder)))
        night = night_of(seed, speed=rules.speed)
        served = await stack.enter_async_context(VastMarket(night, rules=rules, bodies=bodies))
        _say_hello(served, seed, as_json=as_json)
        await stop.wait()
        _say_goodbye(served, as_json=as_json)


def _say_hello(served: VastMarket, seed: int, *, as_json: bool) -> None:
    if as_json:
        line = {"event": "listening", "url": served.url, "api_key": served.key, "seed": seed}
        typer.echo(json.dumps(line))
    else:
        typer.echo(f"# a simulated market: seed {seed}, {served.rules.speed:g} times as fast")
        typer.echo(f"export NIGHTKILN_VAST_URL={served.url}")
        typer.echo(f"export NIGHTKILN_VAST_API_KEY={served.key}")
        typer.echo(f"# the truth: {served.url}/__sim/ledger   Ctrl-C ends it")
    sys.stdout.flush()  # whoever started it in a pipe waits for this


def _say_goodbye(served: VastMarket, *, as_json: bool) -> None:
    rows = served.ledger()
    usd = sum((row["usd"] for row in rows), Decimal(0))
    living = [str(row["label"]) for row in rows if row["destroyed"] is None]
    if as_json:
        facts = {"event": "ended", "contracts": len(rows), "usd": float(usd)}
        typer.echo(json.dumps({**facts, "still_billed": living}))
        return
    typer.echo(f"# {len(rows)} machines were rented for {usd:.4f} USD")
    if living:
        typer.echo(f"# {len(living)} of them were never given back: {', '.join(living)}")
