"""The only one who writes artifacts of a run: one after the other, at a pace, never awaited.

Whoever has something to show ``put``s it and goes on; of what was put under a key only the latest
is written. An artifact is made once and then replaced in place, for a night of updates would else
be ten thousand artifacts. While the server is away it is tried again; when it is back it is told
what is true by then.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from httpx import HTTPStatusError
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)
from prefect.utilities.context import get_task_and_flow_run_ids

EVERY_S = 3.0  # between two looks at what there is to write
AGAIN_S = 2.0  # after a write that failed
WRITE_S_MAX = 20.0  # one write; Prefect's client would try for minutes when the server is away
CLOSE_S_MAX = 60.0  # for what the server has not been told when the run is over
HURRY_S_MAX = 10.0  # ... when the run was told to end, and will be killed
GONE = 404
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """What an artifact shows."""

    kind: str  # markdown | table | progress | link
    data: Any  # JSON-safe
    description: str | None = None  # Markdown
    every_s: float = EVERY_S  # at most so often


@dataclass(slots=True)
class Shelf:
    """What is known of one artifact."""

    id: UUID | None = None
    is_unsure: bool = False  # a create that was cut off may have made it all the same
    due_s: float = 0.0  # on the loop's clock


@dataclass(slots=True)
class Writer:
    """Wants to be entered inside a flow run; leaving it waits a while for the last writes."""

    patience_s: float = CLOSE_S_MAX
    _wanted: dict[str, Page] = field(default_factory=dict)
    _shelves: dict[str, Shelf] = field(default_factory=dict)
    _fresh: asyncio.Event = field(default_factory=asyncio.Event)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _flow_run: UUID | None = None
    _writing: asyncio.Task[None] | None = None

    def put(self, key: str, page: Page) -> None:
        """Have this shown under ``key`` before long."""
        self._wanted[key] = page
        self._fresh.set()

    async def __aenter__(self) -> Self:
        _, self._flow_run = get_task_and_flow_run_ids()
        self._writing = asyncio.create_task(self._write_always(), name="artifacts")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._writing is not None
        self._over.set()
        self._fresh.set()
        _, late = await asyncio.wait({self._writing}, timeout=self.patience_s)
        if late:
            self._writing.cancel()
            await asyncio.wait(late)
            _log.warning("Prefect's server was not told of: %s", ", ".join(self._wanted))

    async def _write_always(self) -> None:
        async with get_client() as client:
            while self._wanted or not self._over.is_set():
                await self._fresh.wait()
                for key in self._due():
                    await self._write(client, key)
                if not self._wanted:
                    self._fresh.clear()
                await self._pause()

    def _due(self) -> Sequence[str]:
        now_s, all_of_it = asyncio.get_running_loop().time(), self._over.is_set()
        return [key for key in self._wanted if all_of_it or self._shelf(key).due_s <= now_s]

    def _shelf(self, key: str) -> Shelf:
        return self._shelves.setdefault(key, Shelf())

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._over.wait(), EVERY_S)
        except TimeoutError:
            return

    async def _write(self, client: PrefectClient, key: str) -> None:
        page, shelf = self._wanted[key], self._shelf(key)
        try:
            async with asyncio.timeout(WRITE_S_MAX):
                await self._keep(client, key, page, shelf)
        except Exception as error:  # noqa: BLE001 - whatever a server and its client can raise
            _log.debug("Prefect could not be told of %s", key, exc_info=True)
            if isinstance(error, HTTPStatusError) and error.response.status_code == GONE:
                shelf.id = None  # the server came back with a database of before
            await asyncio.sleep(AGAIN_S)
            return
        shelf.due_s = asyncio.get_running_loop().time() + page.every_s
        if self._wanted[key] is page:
            del self._wanted[key]

    async def _keep(self, client: PrefectClient, key: str, page: Page, shelf: Shelf) -> None:
        if shelf.id is None and shelf.is_unsure:
            shelf.id = await self._found(client, key)
        if shelf.id is not None:
            # Not by the client's own method: it sends all of it a second time, as an event.
            said = {"data": _spelled(page), "description": page.description}
            way = {"id": str(shelf.id)}
            await client.request("PATCH", "/artifacts/{id}", path_params=way, json=said)
            return
        wanted = ArtifactCreate(
            key=key,
            type=page.kind,
            data=_spelled(page),
            description=page.description,
            flow_run_id=self._flow_run,
        )
        shelf.is_unsure = True
        shelf.id = (await client.create_artifact(wanted)).id

    async def _found(self, client: PrefectClient, key: str) -> UUID | None:
        """The artifact that an earlier try may have made."""
        if self._flow_run is None:
            return None
        wanted = ArtifactFilter(
            key=ArtifactFilterKey(any_=[key]),
            flow_run_id=ArtifactFilterFlowRunId(any_=[self._flow_run]),
        )
        found = await client.read_artifacts(artifact_filter=wanted, limit=1)
        return found[0].id if found else None


def _spelled(page: Page) -> Any:
    """As Prefect keeps it: a table is a string of JSON, a link a line of Markdown."""
    if page.kind == "table":
        return json.dumps(page.data)
    return page.data


def link_page(address: str, text: str, description: str) -> Page:
    """A link, as Prefect's link artifacts are."""
    return Page("markdown", f"[{text}]({address})", description)


def table_page(rows: Sequence[Mapping[str, Any]], description: str) -> Page:
    """Rows of columns of one name each, which can be sorted in the UI."""
    return Page("table", [dict(row) for row in rows], description)
