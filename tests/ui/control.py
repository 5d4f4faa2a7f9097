"""A control room whose pages are looked at: the one of tests/room, for tests that cannot await.

Playwright has the thread of the test, so the room lives in a loop of another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.waiting import until
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
        return str(self._portal.call(self.room.run, deployment, params))

    def ended(self, run: str) -> Mapping[str, Any]:
        """The state that a run has ended in."""
        return self._portal.call(self.room.ended, run)

    def goes_on(self, run: str) -> None:
        """Wait until a run that waited for an answer has heard it."""
        self._portal.call(until, partial(self.room.is_in, run, "RUNNING"))

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

    def artifact(self, run: str, key: str) -> str:
        """Where the page of an artifact of a run is."""
        wanted = {"artifacts": {"flow_run_id": {"any_": [run]}, "key": {"any_": [key]}}}
        [found] = self._portal.call(partial(self.room.asked, "/artifacts/filter", wanted))
        return f"/v2/artifacts/artifact/{found['id']}"

    def form(self, deployment: str) -> Mapping[str, Any]:
        """The JSON schema that a deployment's form is drawn from, and the deployment's ``id``."""
        wanted = {"deployments": {"name": {"any_": [deployment]}}}
        [found] = self._portal.call(partial(self.room.asked, "/deployments/filter", wanted))
        return {**found["parameter_openapi_schema"], "id": found["id"]}


class Files(SimpleHTTPRequestHandler):
    """Hands out a store, as whoever wants galleries in a browser lets something do."""

    def do_GET(self) -> None:
        if self.path == "/favicon.ico":
            self.send_response(HTTPStatus.NO_CONTENT)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Nobody reads it."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A web server over a folder; its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def control_room(folder: Path) -> Iterator[Control]:
    """Open until the end; the catalogs lie where the flows run, as in a checkout."""
    with served(folder / "store") as gallery:
        yield from _opened(folder, gallery)


def _opened(folder: Path, gallery: str) -> Iterator[Control]:
    market_port = free_port()
    room = Room(
        folder,
        NIGHTKILN_STORE=str(folder / "store"),
        NIGHTKILN_GALLERY_URL=gallery,
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
