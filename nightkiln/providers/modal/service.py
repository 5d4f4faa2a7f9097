"""The calls of Modal that we use, as coroutines, each with a deadline, its errors as ours.

The SDK runs in a thread of its own; every call is its ``.aio`` form, so nothing here blocks. The
client belongs to this object and is made from its own token, not the process's. Nothing that can
cost money twice is repeated here, but for a spawn that was refused for its pace: a refusal spawns
nothing.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

import stamina

from nightkiln.providers.modal.contract import CONTRACT, CONTRACTS, environments_in, mark_of
from nightkiln.providers.modal.errors import Kind, ModalFailed, translated
from nightkiln.providers.modal.facts import Deployed, Item, Seen, Stats
from nightkiln.providers.modal.terms import ModalTerms

CLASS, METHOD, DOWNLOAD = "Comfy", "render", "download_models"
NAP_S, NAP_S_MAX = 0.5, 5.0
DOWNLOAD_S_MAX = 4 * 3600.0
CLOSE_S_MAX = 5.0

T = TypeVar("T")


class Pending:
    """There is no result yet."""


PENDING: Final = Pending()


class _Pace(Exception):
    """A spawn that was refused because there are too many; nothing was spawned."""

    def __init__(self, failed: ModalFailed) -> None:
        super().__init__(str(failed))
        self.failed = failed


class ModalService:
    """One app in one workspace. Its token is in no repr, message or log line."""

    def __init__(self, token_id: str, token_secret: str, terms: ModalTerms) -> None:
        if not token_id or not token_secret:
            raise ModalFailed(Kind.NO_TOKEN, "token")
        self._token, self._terms = (token_id, token_secret), terms
        self._sdk: Any = None
        self._client: Any = None
        self._version: int | None = None
        self._contract = CONTRACT
        self._renders: dict[str | None, Any] = {}  # by GPU; each is looked up once
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        return f"ModalService({self._terms.app!r})"

    async def close(self) -> None:
        """Hang up. Idempotent, and never an error: nobody could do anything about it."""
        client, self._client = self._client, None
        self._renders.clear()  # they belong to that client
        if client is not None:
            with suppress(ModalFailed):
                await self._asked("close", client.close.aio(), within_s=CLOSE_S_MAX)

    async def deployed(self, digest: str) -> Deployed:
        """See, within the deadline of the first contact, that the app is there for an environment.

        From then on calls go to that very version. No container is started for it.

        Raises:
            ModalFailed: it is not, or nobody answers; what to do is in the message.
        """
        limits = self._terms.limits
        return await self._asked(
            "look-up", self._deployed(digest), within_s=limits.first_contact_s, is_first=True
        )

    async def _deployed(self, digest: str) -> Deployed:
        seen = await self._seen()
        contract, mark = await self._mark(digest, seen)
        if seen.version != self._version:
            self._version = seen.version
            self._renders.clear()
        facts = await self._render(None).info.aio()
        return Deployed(
            version=seen.version,
            gpus=tuple(name for name, _ in facts.gpus),
            timeout_s=float(facts.timeout),
            # The service says nobody's start-up timeout, so the app says it like this.
            startup_timeout_s=float((await mark.info.aio()).timeout),
            contract=contract,
        )

    async def _mark(self, digest: str, seen: Seen) -> tuple[int, Any]:
        """The newest contract that both sides speak, and the function that says so."""
        for contract in CONTRACTS:
            mark = self._function(mark_of(digest, contract), seen.version)
            try:
                await mark.hydrate.aio()
            except self._sdk.exception.NotFoundError:
                continue
            self._contract = contract
            return contract, mark
        said = seen.difference(digest)
        raise ModalFailed(Kind.OTHER_ENVIRONMENT, "look-up", said=said)

    async def call_nothing(self, digest: str) -> None:
        """Begin a call that has no inputs: it runs nowhere, and is refused as any other would be.

        Raises:
            ModalFailed: it was refused, or nobody answers.
        """
        await self._connected()
        mark = mark_of(digest, self._contract)
        asking = self._called_for(self._function(mark, self._version))
        await self._asked("call", asking, within_s=self._terms.limits.first_contact_s)

    async def _called_for(self, function: Any) -> None:
        async for _ in function.map.aio([]):
            raise AssertionError("nothing was asked for")

    async def seen(self) -> Seen:
        """The app, whatever it is for.

        Raises:
            ModalFailed: there is none, or nobody answers.
        """
        limits = self._terms.limits
        return await self._asked(
            "look-up", self._seen(), within_s=limits.first_contact_s, is_first=True
        )

    async def _seen(self) -> Seen:
        where = {**self._where, "client": await self._connected()}
        app = await self._sdk.App.lookup.aio(self._terms.app, **where)
        info = await app.info.aio()
        return Seen(info.lifecycle.version, environments_in(info.functions))

    async def spawn(self, request: Mapping[str, Any], *, gpu: str | None) -> str:
        """Hand a call over; its id. ``gpu``: on one of these, not of the app's own list.

        Raises:
            ModalFailed: ``is_ambiguous`` says whether something may have been spawned.
        """
        await self._connected()
        limits = self._terms.limits
        within_s = limits.upload_s if request.get("files") else limits.answer_s

        async def once() -> str:
            try:
                spawning = self._render(gpu).spawn.aio(dict(request))
                call = await self._asked("spawn", spawning, within_s=within_s)
            except ModalFailed as error:
                if error.kind is Kind.RATE_LIMITED:
                    raise _Pace(error) from None
                raise
            return str(call.object_id)

        caller = stamina.AsyncRetryingCaller(
            attempts=None, timeout=limits.spawn_s, wait_initial=NAP_S, wait_max=NAP_S_MAX
        )
        try:
            return await caller.on(_Pace)(once)
        except _Pace as pace:
            raise pace.failed from None

    async def result(self, call_id: str, *, wait_s: float) -> Any | Pending:
        """What a call has returned; ``PENDING`` when there is nothing after ``wait_s``.

        Raises:
            ModalFailed: it ended without a result, or nobody answers.
        """
        limits = self._terms.limits
        asking = self._result(call_id, wait_s)
        return await self._asked("result", asking, within_s=wait_s + limits.upload_s)

    async def _result(self, call_id: str, wait_s: float) -> Any | Pending:
        call = await self._call(call_id)
        try:
            return await call.get.aio(timeout=wait_s)
        except TimeoutError:  # the builtin one: not finished yet
            return PENDING

    async def cancel(self, call_id: str, *, ends_container: bool) -> None:
        """Stop a call, running or waiting. Also one that is over.

        Raises:
            ModalFailed: nobody answers.
        """
        limits = self._terms.limits
        call = await self._call(call_id)
        cancelling = call.cancel.aio(terminate_containers=ends_container)
        await self._asked("cancel", cancelling, within_s=limits.answer_s)

    async def stats(self) -> Stats:
        """What the app's class is doing, on its own list of GPUs.

        Raises:
            ModalFailed: nobody answers.
        """
        await self._connected()
        asking = self._render(None).get_current_stats.aio()
        found = await self._asked("stats", asking, within_s=self._terms.limits.answer_s)
        return Stats(found.backlog, found.num_total_runners, found.num_running_inputs)

    async def rates(self) -> Mapping[str, Decimal]:
        """Prices by the service's own names.

        Raises:
            ModalFailed: it does not say.
        """
        client = await self._connected()
        workspace = self._sdk.Workspace.from_context(client=client)
        asking = workspace.billing.rates.aio()
        found = await self._asked("rates", asking, within_s=self._terms.limits.answer_s)
        return {str(name): usd for name, usd in found.items() if isinstance(usd, Decimal)}

    async def report(self, start: datetime, end: datetime) -> Sequence[Item]:
        """What was billed, by object and full hour; for plans that have such a report.

        Raises:
            ModalFailed: it does not say.
        """
        client = await self._connected()
        workspace = self._sdk.Workspace.from_context(client=client)
        asking = workspace.billing.report.aio(start=start, end=end, resolution="h")
        found = await self._asked("report", asking, within_s=self._terms.limits.answer_s)
        return [
            Item(str(one.description), one.interval_start.timestamp(), one.cost) for one in found
        ]

    async def download(self, models: Sequence[Mapping[str, Any]]) -> list[str]:
        """Have the app bring models into its volume; those that were not there.

        Raises:
            ModalFailed: one of them is not to be had as it should be.
        """
        await self._connected()
        function = self._function(DOWNLOAD, None)
        asking = function.remote.aio([dict(model) for model in models])
        found = await self._asked("download_models", asking, within_s=DOWNLOAD_S_MAX)
        return [str(path) for path in found]

    @property
    def _where(self) -> dict[str, Any]:
        name = self._terms.environment_name
        return {"environment_name": name} if name else {}

    def _render(self, gpu: str | None) -> Any:
        """The method; with a GPU of one kind, a pool of containers of its own."""
        if gpu not in self._renders:
            found = self._sdk.Cls.from_name(
                self._terms.app, CLASS, version=self._version, client=self._client, **self._where
            )
            if gpu is not None:
                found = found.with_options(gpu=gpu, max_containers=self._terms.max_containers)
            self._renders[gpu] = getattr(found(), METHOD)
        return self._renders[gpu]

    def _function(self, name: str, version: int | None) -> Any:
        return self._sdk.Function.from_name(
            self._terms.app, name, version=version, client=self._client, **self._where
        )

    async def _call(self, call_id: str) -> Any:
        client = await self._connected()
        return self._sdk.FunctionCall.from_id(call_id, client=client)

    async def _connected(self) -> Any:
        async with self._opening:
            if self._client is None:
                # Seconds of work the first time, and not ours to make the loop wait for.
                try:
                    self._sdk = await asyncio.to_thread(importlib.import_module, "modal")
                except ModuleNotFoundError as error:
                    raise ModalFailed(Kind.NOT_INSTALLED, "import", said=str(error)) from error
                self._client = await self._sdk.Client.from_credentials.aio(*self._token)
            return self._client

    async def _asked(
        self, verb: str, asking: Awaitable[T], *, within_s: float, is_first: bool = False
    ) -> T:
        try:
            async with asyncio.timeout(within_s):
                return await asking
        except TimeoutError:
            kind = Kind.UNREACHABLE if is_first else Kind.UNANSWERED
            raise ModalFailed(kind, verb, said=f"no answer in {within_s:g} s") from None
        except Exception as error:  # noqa: BLE001 - a call may raise whatever its code raised
            raise translated(error, verb) from None  # it may hold what was sent
