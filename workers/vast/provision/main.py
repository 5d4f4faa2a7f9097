"""Does all of a plan, or says why not."""

from __future__ import annotations

import fcntl
import sys
import threading
import traceback
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from provision.machine import comfy_folder, comfy_python, restart
from provision.models import Models
from provision.nodes import Nodes
from provision.plan import Plan, Stopped, Trouble, read_plan
from provision.status import Status


def main() -> None:
    """Provision the machine; the exit status is 1 if that failed.

    While one is at work, another start is nothing.
    """
    folder = Path(sys.argv[0]).resolve().parent
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        try:
            plan = read_plan(folder / "plan.json")
        except (KeyError, TypeError, ValueError) as error:
            why = f"plan.json cannot be carried out: {error}"
            Status(folder / "status.json", []).end("failed", kind="comfy", why=why)
            sys.exit(1)
        sys.exit(0 if provisioned(folder, plan) else 1)


def provisioned(folder: Path, plan: Plan) -> bool:
    """Whether all is there now; status.json says more."""
    status = Status(folder / "status.json", plan.models)
    publisher = threading.Thread(target=status.keep_publishing)
    publisher.start()
    try:
        restarted = _provision(folder, plan, status)
    except Trouble as trouble:
        status.end("failed", kind=trouble.kind, why=trouble.why)
        return False
    except Exception as error:  # noqa: BLE001 - whatever it is, the controller must hear of it
        traceback.print_exc()
        why = f"provisioning is broken: {type(error).__name__}"
        status.end("failed", kind="comfy", why=why)
        return False
    else:
        status.end("done", restarted=restarted)
        return True
    finally:
        publisher.join()


def _provision(folder: Path, plan: Plan, status: Status) -> bool:
    """Whether ComfyUI was started again for it."""
    comfy = comfy_folder(folder)
    models = Models(folder, comfy / "models", plan, status)
    nodes = Nodes(folder, comfy, comfy_python(comfy), plan)
    models.check_room()
    with ThreadPoolExecutor(plan.parallel + 1) as pool:
        work = [pool.submit(_place_nodes, nodes, plan, models.stop)]
        work += [pool.submit(models.place, model) for model in plan.models]
        _first_trouble(work, models.stop)
    due = folder / "restart-due"  # also by an earlier start that was ended before it came to it
    if not due.exists():
        return False
    if plan.restart:
        restart(plan.restart)
    due.unlink()
    return bool(plan.restart)


def _place_nodes(nodes: Nodes, plan: Plan, stop: threading.Event) -> None:
    for node in plan.nodes:
        nodes.place(node, stop)


def _first_trouble(work: list[Future[None]], stop: threading.Event) -> None:
    """Wait for all; when one fails, the others need not go on.

    Raises:
        Trouble: the first, in the plan's order, so that every machine tells the same.
    """
    wait(work, return_when=FIRST_EXCEPTION)
    stop.set()
    wait(work)
    for error in (future.exception() for future in work):
        if error is not None and not isinstance(error, Stopped):
            raise error
