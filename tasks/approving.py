"""Asks in Prefect whether a night may spend what it was quoted, and waits for the answer.

The flow run is paused while it waits: its page shows the quote and a form. A pause is a state on
the server and nothing else; the process waits here, keeps the claim of its batch and hears signals.
The time for the answer is counted here, too: when the server's own ran out, it would take no other
end than a failure from the run.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import httpx
from prefect import get_client, get_run_logger
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from prefect.input import RunInput, keyset_from_paused_state
from prefect.states import Paused, Running
from pydantic import Field, ValidationError, create_model

from nightkiln.core.approval import (
    Answer,
    Decision,
    Rules,
    Unanswered,
    Word,
    decision,
    must_ask,
    wait_s,
)
from nightkiln.core.errors import Problem, Refused
from nightkiln.core.model import Usd
from nightkiln.core.monthly import is_about_month
from nightkiln.gate import Ahead
from nightkiln.observers.sentences import duration
from nightkiln.rehearse import Quote
from nightkiln.rehearse.question import question
from tasks.events import emitted
from tasks.params import RunParams

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

POLL_S = 2.0  # between two looks at the server
SPARE_S = 3600.0  # that the server would wait longer than we do
TOLD_S_MAX = 20.0  # to tell the server that nothing is waited for any more

_HOW = {Word.REFUSED: "asked", Word.UNANSWERED: "unanswered"}
_TROUBLE = (httpx.HTTPError, PrefectException)  # the server is away, or out of its mind


@dataclass(slots=True)
class Asking:
    """The consent of a run in Prefect: asked for where its quote is above what was agreed to."""

    rules: Rules
    poll_s: float = POLL_S
    decided: Decision | None = field(default=None, init=False)  # None: nobody was asked
    was_cancelled: bool = field(default=False, init=False)  # in Prefect, while it waited

    async def __call__(self, quote: Quote, ahead: Ahead) -> Problem | Usd | None:
        if not must_ask(self.rules, usd_p90=quote.usd.p90):
            return None
        within_s = wait_s(self.rules, left_s=ahead.left_s)
        told = question(quote, ahead, self.rules, wait_s=within_s)
        get_run_logger().info(
            "waiting %s for somebody to approve up to %s USD; nothing is rented meanwhile",
            duration(within_s),
            quote.budget,
        )
        try:
            answer = await answered(told, quote.budget, within_s=within_s, poll_s=self.poll_s)
        except CancelledThereError as error:
            self.was_cancelled = True
            return Problem("the quote", f"was not answered: {error}")
        self.decided = decision(self.rules, answer, budget=quote.budget)
        if not self.decided.may_spend:
            return _refusal(self.decided.word, within_s)
        how = "part" if self.decided.word is Word.PART else "asked"
        get_run_logger().info("%s: up to %s USD may be spent", how, self.decided.budget)
        emitted(
            "nightkiln.batch.approved",
            batch=ahead.batch,
            usd_p90=quote.usd.p90,
            budget_usd=self.decided.budget,
            how=how,
        )
        return self.decided.budget


class CancelledThereError(Exception):
    """The flow run was told to end in Prefect, and no signal came of it."""


def rules_of(params: RunParams) -> Rules:
    """What the form says about being asked."""
    return Rules(
        above=Decimal(str(params.approve_above_usd)),
        within_s=60.0 * params.approve_within_minutes,
        unanswered=Unanswered(params.unanswered),
    )


def tell_refused(error: Refused, asking: Asking) -> None:
    """Tell whoever listens why a batch spends nothing."""
    is_month = any(is_about_month(problem) for problem in error.problems)
    word = asking.decided.word if asking.decided is not None else None
    how = _HOW.get(word, "quote") if word is not None else "quote"
    emitted(
        "nightkiln.batch.refused",
        batch=error.batch,
        usd_p90=error.usd_p90,
        why=str(error),
        how="month" if is_month else how,
    )


def _refusal(word: Word, within_s: float) -> Problem:
    fix = "run it again to be asked again, or choose fewer rows"
    if word is Word.UNANSWERED:
        return Problem("the quote", f"was not answered within {duration(within_s)}", fix)
    return Problem("the quote", "was refused by whoever was asked", fix)


async def answered(
    told: str, budget: Usd, *, within_s: float, poll_s: float = POLL_S
) -> Answer | None:
    """Pause the flow run until somebody has filled in its form; None: nobody did in time.

    Raises:
        CancelledThereError: the run was cancelled, or ended by force, instead of answered.
    """
    context = FlowRunContext.get()
    assert context is not None, "asked outside a flow run"
    assert context.flow_run is not None
    form = form_of(told, budget)
    async with get_client() as client:
        seconds = math.ceil(within_s + SPARE_S)
        pause = _Pause(client, context.flow_run.id, form, seconds, poll_s)
        try:
            async with asyncio.timeout(within_s):
                return await pause.answer()
        except TimeoutError:
            return await pause.give_up()


def form_of(told: str, budget: Usd) -> type[RunInput]:
    """What the page of a paused run shows. Nothing is chosen beforehand: a yes has to be meant."""
    answer: Any = (
        Literal["approve", "refuse"],
        Field(title="Answer", description="approve: rent and render. refuse: nothing is rendered."),
    )
    cap: Any = (
        float,
        Field(
            float(budget),
            gt=0,
            le=float(budget),
            title="Cap",
            description="USD that this run may spend at most; lower it to render a part.",
        ),
    )
    made = create_model("Approval", __base__=RunInput, answer=answer, cap_usd=cap)
    return made.with_initial_data(description=told)


@dataclass(slots=True)
class _Pause:
    """One question to the people of a flow run."""

    client: PrefectClient
    run_id: UUID
    form: type[RunInput]
    seconds: int  # that the server would wait
    poll_s: float
    tries: int = 0
    keys: Any = None

    async def answer(self) -> Answer:
        """Ask, wait until the run was resumed, and return what was said then."""
        while True:
            await self._begin()
            if (said := await self._heard()) is not None:
                return said
            # The server has forgotten the question, or somebody let the run go on by hand.

    async def _begin(self) -> None:
        """Pause the run, however long the server takes to hear of it."""
        while True:
            try:
                if await self._is_paused() and self.keys is not None:
                    return  # it had heard; only its reply was lost
                self.tries += 1
                # A run that is retried has been asked before, under another key.
                count = (await self.client.read_flow_run(self.run_id)).run_count
                key = f"quote-{count}-{self.tries}"
                paused: State[Any] = Paused(timeout_seconds=self.seconds, pause_key=key)
                keys = keyset_from_paused_state(paused)
                paused.state_details.run_input_keyset = dict(keys)  # type: ignore[arg-type]
                await self.form.asave(keys, self.run_id)  # first: nobody sees it without a form
                self.keys = keys
                done = await self.client.set_flow_run_state(self.run_id, paused)
                if done.status is SetStateStatus.ACCEPT:
                    return
            except _TROUBLE as error:
                get_run_logger().warning("nobody can be asked yet: %s", error)
            await asyncio.sleep(self.poll_s)

    async def _heard(self) -> Answer | None:
        while True:
            await asyncio.sleep(self.poll_s)
            try:
                if not await self._is_paused():
                    return await self._said()
            except _TROUBLE:
                continue  # a server that is down for a while ends no night

    async def give_up(self) -> Answer | None:
        """The time is over: go on without an answer, unless it came at the last moment."""
        try:
            async with asyncio.timeout(TOLD_S_MAX):
                if self.keys is None:
                    return None
                if not await self._is_paused():
                    return await self._said()
                await self.client.set_flow_run_state(self.run_id, Running())
        except (*_TROUBLE, TimeoutError) as error:
            get_run_logger().warning("the page still says that it is paused: %s", error)
        return None

    async def _is_paused(self) -> bool:
        state = (await self.client.read_flow_run(self.run_id)).state
        if state is not None and (state.is_final() or state.is_cancelling()):
            raise CancelledThereError(f"the flow run is {state.name} there")
        return state is not None and state.is_paused()

    async def _said(self) -> Answer | None:
        try:
            said: Any = await self.form.aload(self.keys, self.run_id)
        except ValidationError:  # there is none
            return None
        return Answer(is_yes=said.answer == "approve", cap=Decimal(str(said.cap_usd)))
