"""Asks on a terminal whether money may be spent; where nobody can be asked, the answer is no."""

from __future__ import annotations

import asyncio
import termios
from functools import partial
from typing import TextIO

from nightkiln.core.errors import Problem
from nightkiln.core.model import Usd
from nightkiln.gate import Ahead
from nightkiln.rehearse import Quote
from nightkiln.rehearse.gate import Consent, freely
from nightkiln.stop_switch import StopSwitch

ANSWER_S_MAX = 600.0  # then the quote is no longer of this moment: silence means no
YES = frozenset({"y", "yes"})


def consent(
    *, is_given: bool, can_ask: bool, keyboard: TextIO, screen: TextIO, switch: StopSwitch
) -> Consent:
    """How a run learns whether it may spend: it has been said already, it is asked, or it may not.

    ``is_given``: nothing is asked. ``can_ask``: if there is a terminal. ``switch``: a run that is
    told to stop meanwhile has its answer.
    """
    if is_given:
        return freely
    if can_ask and keyboard.isatty() and screen.isatty():
        return partial(asked, keyboard=keyboard, screen=screen, switch=switch)
    return unasked


async def unasked(quote: Quote, ahead: Ahead) -> Problem | Usd | None:
    """Nobody is there to say yes."""
    del ahead
    what = f"up to {quote.budget} USD would be spent, and there is no terminal to ask on"
    return Problem("--yes", what, "see the quote, then give --yes")


async def asked(
    quote: Quote, ahead: Ahead, *, keyboard: TextIO, screen: TextIO, switch: StopSwitch
) -> Problem | Usd | None:
    """Ask, and wait for the answer without holding anything up."""
    del ahead
    # What was typed before the question was there is no answer to it.
    termios.tcflush(keyboard.fileno(), termios.TCIFLUSH)
    screen.write(f"start, and spend up to {quote.budget} USD? [y/N] ")
    screen.flush()
    answer = await _answer(keyboard, switch)
    if answer.strip().lower() in YES:
        return None
    if not answer.endswith("\n"):
        screen.write("\n")  # the cursor is still behind the question
    return Problem("the quote", "was not answered with yes", "the same command quotes again")


async def _answer(keyboard: TextIO, switch: StopSwitch) -> str:
    """The next line that is typed; nothing when there is none in time, or the run is to stop."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def hear(line: str) -> None:
        if not answer.done():
            answer.set_result(line)

    switch.connect(lambda *_: hear(""))
    loop.add_reader(keyboard.fileno(), lambda: hear(keyboard.readline()))
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            return await answer
    except TimeoutError:
        return ""
    finally:
        loop.remove_reader(keyboard.fileno())
