"""``nightkiln market``: the simulated market by hand, to try everything without an account."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import sys
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from nightkiln.cli.options import JsonOption
from nightkiln.core.errors import BadInput, Problem
from nightkiln.testing.vast_market import FAULTS, Bare, Bodies, Rules, VastMarket, night_of
from nightkiln.testing.vast_market.faults import plan_of
from nightkiln.testing.vast_market.ssh_body import SshBodies

if TYPE_CHECKING:
    from nightkiln.testing.modal import FakeModal

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
    with_modal: Annotated[
        bool,
        typer.Option("--with-modal", help="A fake Modal beside it, with what its SDK deploys."),
    ] = False,
    modal_faults: Annotated[
        list[str] | None,
        typer.Option(metavar="none|default|NAME", help="The same for the fake Modal."),
    ] = None,
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

    With --with-modal there is a Modal, too: what the real `modal` SDK deploys to it runs in
    processes of this computer, with a stand-in for ComfyUI behind each.

    Example: nightkiln market --speed 60 --faults default

    Exit codes: 0 it was ended, 2 no such fault, or the port is taken.
    """
    with_modal = with_modal or modal_faults is not None
    if list_faults:
        _list_faults(with_modal=with_modal, as_json=as_json)
        return
    rules = Rules(speed=speed, port=port, faults=tuple(faults if faults is not None else ()))
    plan_of(str(seed)).add(rules.faults)  # so that a wrong name is told before anything starts
    modal = _modal(seed, speed, modal_faults) if with_modal else None
    try:
        asyncio.run(_serve(seed, rules, modal, is_bare=bare, as_json=as_json))
    except OSError as error:
        raise BadInput([Problem(f"port {port}", f"cannot listen: {error.strerror}")]) from error


def _modal(seed: int, speed: float, faults: list[str] | None) -> FakeModal:
    """The fake, not started yet; its SDK is a second to import and not always there."""
    try:
        from nightkiln.testing.modal.ordinary import ordinary_modal
    except ImportError as error:
        raise BadInput(
            [Problem("--with-modal", str(error), "pip install 'nightkiln[modal]'")]
        ) from error
    return ordinary_modal(seed=seed, speed=speed, faults=faults if faults is not None else ())


def _list_faults(*, with_modal: bool, as_json: bool) -> None:
    told = {name: fault.says for name, fault in FAULTS.items()}
    if with_modal:
        from nightkiln.testing.modal.fault_table import FAULTS as MODAL_FAULTS

        told = {name: fault.says for name, fault in MODAL_FAULTS.items()}
    width = max(map(len, told))
    for name, says in told.items():
        typer.echo(
            json.dumps({"fault": name, "says": says}) if as_json else f"{name:{width}}  {says}"
        )


async def _serve(
    seed: int, rules: Rules, modal: FakeModal | None, *, is_bare: bool, as_json: bool
) -> None:
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
        if modal is not None:
            stack.enter_context(modal)
        served = await stack.enter_async_context(VastMarket(night, rules=rules, bodies=bodies))
        _say_hello(served, modal, seed, as_json=as_json)
        await stop.wait()
        _say_goodbye(served, as_json=as_json)
        if modal is not None:
            _say_modal_goodbye(modal, as_json=as_json)


def _say_hello(served: VastMarket, modal: FakeModal | None, seed: int, *, as_json: bool) -> None:
    environment = modal.env() if modal is not None else {}
    if as_json:
        line = {"event": "listening", "url": served.url, "api_key": served.key, "seed": seed}
        typer.echo(json.dumps(line | ({"modal": environment} if modal is not None else {})))
    else:
        typer.echo(f"# a simulated market: seed {seed}, {served.rules.speed:g} times as fast")
        typer.echo(f"export NIGHTKILN_VAST_URL={served.url}")
        typer.echo(f"export NIGHTKILN_VAST_API_KEY={served.key}")
        for name, value in environment.items():
            typer.echo(f"export {name}={shlex.quote(value)}")
        typer.echo(f"# the truth: {served.url}/__sim/ledger   Ctrl-C ends it")
    sys.stdout.flush()  # whoever started it in a pipe waits for this


def _say_modal_goodbye(modal: FakeModal, *, as_json: bool) -> None:
    bill, calls = modal.billing, modal.calls
    if as_json:
        facts = {"event": "modal_ended", "calls": len(calls), "usd": float(bill.usd)}
        typer.echo(json.dumps({**facts, "container_s": float(bill.seconds)}))
        return
    typer.echo(
        f"# on Modal {len(calls)} calls took {bill.seconds:.1f} container seconds for "
        f"{bill.usd:.4f} USD"
    )


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
