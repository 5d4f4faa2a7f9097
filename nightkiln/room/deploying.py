"""What somebody has switched off in the UI stays off: deploying must not start spending.

Prefect makes the schedules of a deployment anew whenever it is deployed, switched on as its file
says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

DEPLOY_ALL = ("--no-prompt", "deploy", "--all")  # of the prefect command line, in the checkout


class Schedules(Protocol):
    """The part of Prefect's API that is needed here."""

    def deployments(self) -> list[dict[str, object]]:
        """Those that there are, with their schedules."""

    def set_schedule(self, deployment_id: str, schedule_id: str, *, active: bool) -> None:
        """Make a schedule start runs, or none."""


@contextmanager
def kept_off(api: Schedules, tell: Callable[[str], None]) -> Iterator[None]:
    """Schedules that are off as this begins are off again as it ends.

    Also when deploying fails: some may be deployed by then. ``tell``: of each switched off again.
    """
    off = {
        (each["name"], schedule["slug"])
        for each in api.deployments()
        for schedule in _schedules(each)
        if not schedule["active"]
    }
    try:
        yield
    finally:
        for each in api.deployments() if off else ():
            for schedule in _schedules(each):
                if (each["name"], schedule["slug"]) in off and schedule["active"]:
                    api.set_schedule(str(each["id"]), str(schedule["id"]), active=False)
                    tell(f"{each['name']}: its schedule stays off, as it was")


def _schedules(deployment: Mapping[str, object]) -> list[dict[str, object]]:
    found = deployment.get("schedules")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
