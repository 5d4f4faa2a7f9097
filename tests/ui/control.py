"""A control room whose pages are looked at: the one of tests/room, for tests that cannot await.

Playwright has the thread of the test, so the room lives in a loop of another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from nightkiln.testing.comfyui import StandIn
from tests.docs.shown import free_port
from tests.room.room import ROOT, Room

MARKET_SPEED = 60.0  # of the simulated market, where one is started


class Control:
    """A room, and its verbs for those who cannot await."""

    def __init__(self, room: Room, portal: BlockingPortal, market_port: str) -> None:
        self.room = room
        self.market_port = market_port  # where runs look for Vast.ai; nobody may be there
        self._portal = portal

    @property
    def url(self) -> str:
        """Of the server."""
        return self.room.url

    @contextmanager
    def stand_ins(self, **how: Any) -> Iterator[Sequence[StandIn]]:
        """Two ComfyUI servers, which the Prefect worker's environment names."""
        with self._portal.wrap_async_context_manager(self.room.stand_ins(**how)) as servers:
            yield servers

    def run(self, deployment: str, params: Mapping[str, Any]) -> str:
        """Ask for a run, as the form does; its id."""
        run: str = self._portal.call(self.room.run, deployment, params)
        return run

    def ended(self, run: str) -> Mapping[str, Any]:
        """The state that a run has ended in."""
        return self._portal.call(self.room.ended, run)

    def names(self) -> list[str]:
        """Ids of the runs that the server knows."""
        return [str(run["id"]) for run in self._portal.call(self.room.runs)]

    def task_runs(self, run: str) -> list[Mapping[str, Any]]:
        """What the timeline of a run shows."""
        wanted = {"flow_runs": {"id": {"any_": [run]}}}
        found: list[Mapping[str, Any]] = self._portal.call(
            partial(self.room.asked, "/task_runs/filter", wanted)
        )
        return found

    def form(self, deployment: str) -> Mapping[str, Any]:
        """The JSON schema that a deployment's form is drawn from, and the deployment's ``id``."""
        wanted = {"deployments": {"name": {"any_": [deployment]}}}
        [found] = self._portal.call(partial(self.room.asked, "/deployments/filter", wanted))
        return {**found["parameter_openapi_schema"], "id": found["id"]}


@contextmanager
def control_room(folder: Path) -> Iterator[Control]:
    """Open until the end; the catalogs lie where the flows run, as in a checkout."""
    market_port = free_port()
    room = Room(
        folder,
        NIGHTKILN_STORE=str(folder / "store"),
        NIGHTKILN_VAST_URL=f"http://127.0.0.1:{market_port}",
        NIGHTKILN_VAST_API_KEY="simulated-market-key",
    )
    with start_blocking_portal() as portal:
        try:
            portal.call(room.open)
            (room.checkout / "catalogs").symlink_to(ROOT / "catalogs")
            yield Control(room, portal, market_port)
        finally:
            room.close()
