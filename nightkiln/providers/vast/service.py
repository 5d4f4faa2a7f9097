"""The service's calls that we use, as coroutines: the SDK in threads, each call in its turn.

The SDK is told to try once: its own retries wait a sixth of a second where the service wants
seconds, and they repeat even what rents a machine. What may be repeated is repeated by
``until_answered``, and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import stamina

from nightkiln.providers.vast.errors import (
    Kind,
    VastFailed,
    checked_key,
    refusal,
    translated,
)
from nightkiln.providers.vast.rates import Endpoint, Rates
from nightkiln.providers.vast.values import whole

THREADS = 16  # calls at once: one of each kind, and creations, whose answers may take longer
DRIP = 2.0  # x the time for an answer, which counts anew with each piece of it; then for all of it
TURN_S_MAX = 60.0  # for a turn of anything but a creation
CREATE_TURN_S_MAX = 900.0  # 200 machines, one every 4.5 s
PAGE_ROWS = 25  # of machines; the service gives no more
CHARGES_ROWS = 100
NAP_S = 0.5  # before a call is repeated; the documented pace is kept beside that
NAP_S_MAX = 5.0

T = TypeVar("T")


class VastService:
    """One account at one address. Its key is in no repr, message or log line."""

    def __init__(self, key: str, *, url: str, rates: Rates, answer_s: float) -> None:
        self.url = url.rstrip("/")
        self._key = checked_key(key)
        self._rates, self._answer_s = rates, answer_s
        self._sdk: Any = None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="vast")

    def __repr__(self) -> str:
        return f"VastService({self.url!r})"

    def close(self) -> None:
        """Take no more calls; what is under way ends in its thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def search(
        self, query: Mapping[str, Any], *, is_bid: bool, storage_gb: float, limit: int
    ) -> list[Any]:
        """Rows of offers, cheapest first, as the service gives them."""

        def search(sdk: Any) -> Any:
            # Not ``sdk.search_offers``: that one stumbles over a single row that is no object.
            from vastai.api.offers import search_offers

            return search_offers(
                sdk.client,
                query=dict(query),  # the SDK writes into it
                offer_type="bid" if is_bid else "on-demand",
                order=[["dph_total", "asc"]],
                limit=limit,
                storage=storage_gb,
                no_default=True,
            )

        return _list(await self._ask(Endpoint.SEARCH, search), "search")

    async def create(
        self, ask: int, order: Mapping[str, Any], *, sending: Callable[[], None]
    ) -> int:
        """Rent; the number of what was made. ``sending`` is called when there is no way back.

        Raises:
            VastFailed: ``is_ambiguous`` says whether something may have been made all the same,
                ``contract`` what has been.
        """

        def create(sdk: Any) -> int:
            answer = sdk.create_instance(ask, **order)
            contract = whole(answer.get("new_contract"))
            if not answer.get("success"):
                raise refusal(answer, "create")
            if contract is None:
                raise VastFailed(Kind.SERVICE, "create", said="no number of what was made")
            return contract

        made = await self._ask(Endpoint.CREATE, create, turn_s=CREATE_TURN_S_MAX, sending=sending)
        assert isinstance(made, int)
        return made

    async def page(self, token: str | None) -> Mapping[str, Any]:
        """One page of the account's machines."""
        params: dict[str, Any] = {
            "select_filters": {},
            "order_by": [{"col": "id", "dir": "asc"}],
            "limit": PAGE_ROWS,
        }
        if token is not None:
            params["after_token"] = token
        answer = await self._ask(Endpoint.LIST, lambda sdk: sdk.show_instances_v1(params))
        return _granted(answer, "list")

    async def exists(self, contract: int) -> bool:
        """Whether there is such a machine, asked for it alone."""

        def show(sdk: Any) -> Any:
            # Not ``sdk.show_instance``: that one stumbles over a row with nulls.
            response = sdk.client.get(f"/instances/{contract}/", query_args={"owner": "me"})
            response.raise_for_status()
            return response.json()

        try:
            answer = _granted(await self._ask(Endpoint.SHOW, show), "show")
        except VastFailed as failed:
            if failed.kind is Kind.NO_SUCH_MACHINE:
                return False
            raise
        if "instances" not in answer:
            raise VastFailed(Kind.SERVICE, "show", said="an answer that makes no sense")
        return bool(answer["instances"])

    async def destroy(self, contracts: Sequence[int]) -> None:
        """Order machines destroyed; whether they are is for a listing to say.

        Raises:
            VastFailed: ``NO_SUCH_MACHINE``: one of them is gone already, or all are.
        """
        ids = list(contracts)

        def destroy(sdk: Any) -> Any:
            return sdk.destroy_instance(ids[0]) if len(ids) == 1 else sdk.destroy_instances(ids)

        _granted(await self._ask(Endpoint.DESTROY, destroy), "destroy")

    async def user(self) -> Mapping[str, Any]:
        """The account."""
        return _granted(await self._ask(Endpoint.USER, lambda sdk: sdk.show_user()), "account")

    async def charges(self, from_s: int, to_s: int, token: str | None) -> Mapping[str, Any]:
        """One page of what was billed for machines between two times."""
        params: dict[str, Any] = {
            "charges": True,
            "start_date": from_s,
            "end_date": to_s,
            "limit": CHARGES_ROWS,
            "charge_type": ["instance"],
        }
        if token is not None:
            params["next_token"] = token
        answer = await self._ask(Endpoint.CHARGES, lambda sdk: sdk.show_invoices_v1(**params))
        return _granted(answer, "charges")

    async def _ask(
        self,
        endpoint: Endpoint,
        call: Callable[[Any], Any],
        *,
        turn_s: float = TURN_S_MAX,
        sending: Callable[[], None] = lambda: None,
    ) -> Any:
        """Take a turn and call; a 429 makes everybody wait."""
        await self._rates.turn(endpoint, within_s=turn_s)
        sending()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(DRIP * self._answer_s):
                return await loop.run_in_executor(self._threads, self._answer, endpoint, call)
        except TimeoutError:
            raise VastFailed(Kind.UNANSWERED, endpoint, said="an answer without end") from None
        except VastFailed as failed:
            if failed.kind is Kind.RATE_LIMITED:
                await self._rates.penalise(endpoint, failed.retry_after_s)
            raise

    def _answer(self, endpoint: Endpoint, call: Callable[[Any], Any]) -> Any:
        """Runs in a thread. No exception of the SDK leaves it, whichever: they hold the key.

        An answer of another shape than expected makes the SDK itself stumble, in any way.
        """
        try:
            return call(self._opened())
        except Exception as error:  # noqa: BLE001 - a creation that raises anything is ambiguous
            failed = translated(error, endpoint)
        raise failed  # outside of the handler, so that it carries no context

    def _opened(self) -> Any:
        if self._sdk is None:
            from vastai import VastAI

            _tame(logging.getLogger("vastai"))
            sdk = VastAI(api_key=self._key, server_url=self.url, retry=1)
            sdk.client.timeout = self._answer_s
            self._sdk = sdk
        return self._sdk


async def until_answered(call: Callable[[], Awaitable[T]], *, within_s: float) -> T:
    """Repeat one idempotent call while the service has trouble, at its pace, for a bounded time.

    Raises:
        VastFailed: the last one.
    """
    caller = stamina.AsyncRetryingCaller(
        attempts=None,
        timeout=within_s,
        wait_initial=NAP_S,
        wait_max=NAP_S_MAX,
        wait_jitter=NAP_S,
        wait_exp_base=1.5,
    )
    return await caller.on(_may_be_repeated)(call)


def _may_be_repeated(error: Exception) -> bool:
    return isinstance(error, VastFailed) and error.is_transient


def _granted(answer: Any, verb: str) -> Mapping[str, Any]:
    """The fields of an answer that is no refusal; some answers say nothing of success."""
    if not isinstance(answer, dict):
        raise VastFailed(Kind.SERVICE, verb, said="an answer that makes no sense")
    if answer.get("success") is False:
        raise refusal(answer, verb)
    return answer


def _list(answer: Any, verb: str) -> list[Any]:
    if not isinstance(answer, list):
        raise VastFailed(Kind.SERVICE, verb, said="an answer that makes no sense")
    return answer


def _tame(logger: logging.Logger) -> None:
    """The SDK writes to stderr by itself; here it logs like everybody else."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = True
