"""The API of the room's server, as far as a room needs it."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import httpx

from nightkiln.core.errors import RoomTrouble

POOL, POOL_TYPE = "nightkiln", "process"
QUEUE = "adhoc"  # work queue of what somebody asks for by a form, as prefect.yaml has it
QUEUE_PATH = f"/work_pools/{POOL}/queues/{QUEUE}"
BUSY_S, BUSY_MAX = 0.5, 60
ANSWER_S_MAX = 20.0  # of a server on a busy computer
FINAL = ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]
BY_DOWN = "ended by nightkiln down; the same parameters resume it"
PAGE = 200  # rows that Prefect gives at once


class PrefectApi:
    """A Prefect server. All calls block; each opens a connection of its own."""

    def __init__(self, url: str, *, auth: str = "", key: str = "") -> None:
        """``auth``: user:password of a server of one's own; ``key``: of Prefect Cloud."""
        self.url = url.rstrip("/")
        token = base64.b64encode(auth.encode()).decode()
        header = f"Bearer {key}" if key else f"Basic {token}" if auth else ""
        self._headers = {"Authorization": header} if header else {}

    def is_ready(self) -> bool:
        """Whether it answers, and reaches its database."""
        try:
            return self._send("GET", "/ready").is_success
        except httpx.HTTPError:
            return False

    def version(self) -> str:
        """Of Prefect, as the server says."""
        return str(self._json("GET", "/admin/version"))

    def block_type_slugs(self) -> frozenset[str]:
        """Kinds of blocks that the server knows; it learns its own when it starts."""
        kinds = self._json("POST", "/block_types/filter", {"limit": PAGE})
        return frozenset(str(kind["slug"]) for kind in kinds)

    def block_id(self, slug: str, name: str) -> str | None:
        """Id of a block, such as ``slack-webhook/ops``; None: there is none of this name."""
        path = f"/block_types/slug/{slug}/block_documents/name/{name}"
        found = self._json("GET", path, may_miss=True)
        return str(found["id"]) if found is not None else None

    def pool_type(self) -> str | None:
        """Of the room's work pool; None: it is not there."""
        pool = self._json("GET", f"/work_pools/{POOL}", may_miss=True)
        return str(pool["type"]) if pool is not None else None

    def queue(self) -> dict[str, Any] | None:
        """The work queue of runs from a form; None: it is not there."""
        found: dict[str, Any] | None = self._json("GET", QUEUE_PATH, may_miss=True)
        return found

    def add_queue(self, *, limit: int) -> None:
        """Create it, with how many runs work at once."""
        body = {"name": QUEUE, "concurrency_limit": limit}
        self._json("POST", f"/work_pools/{POOL}/queues", body)

    def limit_queue(self, limit: int) -> None:
        """Change how many of its runs work at once; those that work go on."""
        self._json("PATCH", QUEUE_PATH, {"concurrency_limit": limit})

    def workers_online(self) -> dict[str, str]:
        """When each Prefect worker of the pool that is online gave its last sign of life."""
        workers = self._json("POST", f"/work_pools/{POOL}/workers/filter", {"limit": PAGE})
        return {
            str(worker["name"]): str(worker["last_heartbeat_time"])
            for worker in workers
            if worker["status"] == "ONLINE"
        }

    def deployments(self) -> list[dict[str, Any]]:
        """Deployments of the pool."""
        wanted = {"limit": PAGE, "work_pools": {"name": {"any_": [POOL]}}}
        found: list[dict[str, Any]] = self._json("POST", "/deployments/filter", wanted)
        return found

    def set_schedule(self, deployment_id: str, schedule_id: str, *, active: bool) -> None:
        """Make a schedule start runs, or none."""
        path = f"/deployments/{deployment_id}/schedules/{schedule_id}"
        self._json("PATCH", path, {"active": active})

    def automations(self) -> list[dict[str, Any]]:
        """All of them."""
        found: list[dict[str, Any]] = self._json("POST", "/automations/filter", {"limit": PAGE})
        return found

    def add_automation(self, wanted: dict[str, Any]) -> None:
        """Create one."""
        self._json("POST", "/automations/", wanted)

    def change_automation(self, automation_id: str, wanted: dict[str, Any]) -> None:
        """Replace what one does; what its trigger has counted so far is forgotten."""
        self._json("PUT", f"/automations/{automation_id}", wanted)

    def cancel(self, flow_run_ids: Iterable[str]) -> None:
        """Ask for flow runs to be cancelled; those that are over stay as they are."""
        for flow_run_id in flow_run_ids:
            state = {"type": "CANCELLING", "name": "Cancelling", "message": BY_DOWN}
            path = f"/flow_runs/{flow_run_id}/set_state"
            self._json("POST", path, {"state": state}, may_miss=True)

    def cancelled(self, flow_run_ids: Iterable[str]) -> None:
        """Write down as cancelled what has no process any more, or it is Running for ever."""
        for flow_run_id in flow_run_ids:
            state = {"type": "CANCELLED", "name": "Cancelled", "message": BY_DOWN}
            path = f"/flow_runs/{flow_run_id}/set_state"
            self._json("POST", path, {"state": state, "force": True}, may_miss=True)

    def unfinished(self, flow_run_ids: Iterable[str]) -> list[str]:
        """Which of these flow runs are not over, as far as the server knows."""
        wanted = {"id": {"any_": sorted(flow_run_ids)}, "state": {"type": {"not_any_": FINAL}}}
        found = self._json("POST", "/flow_runs/filter", {"flow_runs": wanted, "limit": PAGE})
        return [str(each["id"]) for each in found]

    def _json(self, method: str, path: str, body: object = None, *, may_miss: bool = False) -> Any:
        try:
            answer = self._patiently(method, path, body)
        except httpx.HTTPError as error:
            raise RoomTrouble(f"{self.url}{path}: {error!r}; is the server overloaded?") from error
        if may_miss and answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise RoomTrouble(
                f"{self.url} wants PREFECT_API_AUTH_STRING; export it as its user has"
            )
        if not answer.is_success:
            said = f"{answer.status_code} {answer.text[:500]}"
            raise RoomTrouble(f"{method} {self.url}{path}: {said}")
        return answer.json() if answer.content else None

    def _patiently(self, method: str, path: str, body: object) -> httpx.Response:
        """SQLite has one writer: the server says 503 while another one has it."""
        for _ in range(BUSY_MAX):
            answer = self._send(method, path, body)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(BUSY_S)
        return answer

    def _send(self, method: str, path: str, body: object = None) -> httpx.Response:
        # A proxy of the user's environment knows nothing of this computer's ports.
        is_far = not is_loopback(httpx.URL(self.url).host)
        with httpx.Client(trust_env=is_far, timeout=ANSWER_S_MAX, headers=self._headers) as client:
            return client.request(method, f"{self.url}{path}", json=body)


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches it."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
