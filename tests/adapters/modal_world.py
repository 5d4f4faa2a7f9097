"""What tests of the Modal provider share: the real SDK, the fake Modal, the real app, and haste."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from nightkiln.catalog.catalog import Environment
from nightkiln.core.model import AttemptId, BoundJob, JobId, Lease, LeaseId, Need
from nightkiln.providers.modal import Limits, ModalProvider, ModalTerms
from nightkiln.providers.modal.deploying import MODULE, deploy_of, modal_command
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.environ import environ as environ_with
from nightkiln.testing.modal import FakeModal, Rules
from nightkiln.testing.samples import text_to_image
from tests.modal_fake.yard import talking_to

NEED = Need(vram_gb=16)
HOUR_S = 3600.0
HASTY = Limits(
    first_contact_s=5.0,
    answer_s=5.0,
    spawn_s=3.0,
    upload_s=10.0,
    poll_s=0.5,
    over_s=5.0,
    fresh_s=0.0,  # each verb looks again
    start_s=10.0,
    exit_s=0.2,
)
TERMS = ModalTerms(max_containers=4, scaledown_s=15, limits=HASTY)
ENVIRONMENT = Environment("0.3.75")
OTHER = Environment("0.3.60")
AT_ONCE = (0.0, 0.0)
SPEED = 60.0
QUICK = Rules(queue_s=AT_ONCE, cold_s=(1.0, 1.0), limit_s_min=60.0)
JOB = BoundJob(JobId("0" * 64), text_to_image(), outputs_expected=1)


def environ(changes: Mapping[str, str]) -> AbstractContextManager[None]:
    """Variables for the time being; the SDK reads where the service is from nowhere else."""
    return environ_with(changes, without="MODAL_")


@dataclass(frozen=True, slots=True)
class Nothing:
    """Stands behind a container in whose image ComfyUI cannot be started."""

    url: str = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """There is nothing to end."""


@dataclass(slots=True)
class Behind:
    """What stands behind the containers that start from now on: a stand-in with options."""

    options: dict[str, Any] = field(default_factory=dict)
    is_there: bool = True
    made: list[StandIn] = field(default_factory=list)

    def __call__(self, gpu: str) -> AbstractAsyncContextManager[Any]:
        if not self.is_there:
            return Nothing()
        self.made.append(StandIn(gpu_name=f"NVIDIA {gpu}", **self.options))
        return self.made[-1]

    def from_now_on(self, **options: Any) -> None:
        """Containers that start later have such a stand-in."""
        self.options, self.is_there = options, True
        self.made.clear()

    @property
    def is_rendering(self) -> bool:
        """Whether a prompt has come to one of them: a call is on its way through its container."""
        return any(one.submitted for one in self.made)


@contextmanager
def a_modal(
    *faults: str, rules: Rules = QUICK, speed: float = SPEED, behind: Behind | None = None
) -> Iterator[FakeModal]:
    """A fake with a stand-in ComfyUI behind each container, in use; a story second takes 17 ms."""
    comfy = behind if behind is not None else Behind()
    with (
        FakeModal(speed=speed, faults=faults, rules=rules, comfy=comfy) as modal,
        talking_to(modal),
    ):
        yield modal


def deployed(
    modal: FakeModal, environment: Environment = ENVIRONMENT, terms: ModalTerms = TERMS
) -> str:
    """Deploy the app as ``nightkiln modal deploy`` does; its tag."""
    deploy = deploy_of(environment, terms, commit="c0ffee")
    words = ["deploy", "-m", MODULE, "--name", terms.app, "--tag", deploy.tag]
    done = modal_command(words, token=modal.token, plan=deploy.plan, is_quiet=True)
    assert done.returncode == 0
    return deploy.tag


def a_provider(
    modal: FakeModal,
    state: Path,
    terms: ModalTerms = TERMS,
    *,
    environment: Environment = ENVIRONMENT,
    clock: Callable[[], float] = time.time,
    **limits: float,
) -> ModalProvider:
    """The provider under test."""
    chosen = replace(terms, limits=replace(terms.limits, **limits))
    return ModalProvider(*modal.token, chosen, state=state, digest=environment.digest, clock=clock)


def lease_id(number: int, batch: str = "night") -> LeaseId:
    return LeaseId(f"{batch}-1-lease-{number:03d}")


def attempt(number: int) -> AttemptId:
    return AttemptId(f"night-1-{number}")


async def rented(provider: ModalProvider, number: int = 0, *, life_s: float = HOUR_S) -> Lease:
    """One more slot."""
    offer = (await provider.offers(NEED, limit=1))[0]
    until_s = time.time() + life_s
    return await provider.rent(offer, lease_id(number), NEED, expires_at_s=until_s)


def all_ended(modal: FakeModal) -> bool:
    """Whether every container is gone."""
    return all(one.phase == "ended" for one in modal.containers)


def open_calls(modal: FakeModal) -> list[str]:
    """Calls that wait or run, by the fake's own books."""
    return [one.call_id for one in modal.calls if "OPEN" in one.statuses and not one.is_cancelled]


def requests(modal: FakeModal, name: str) -> int:
    """How often that was called."""
    return sum(request.name == name for request in modal.requests)


async def until(claim: Callable[[], bool], *, within_s: float = 20.0) -> None:
    """Wait for something that nobody tells us of."""
    async with asyncio.timeout(within_s):
        while not claim():  # noqa: ASYNC110 - the fake has no event for it
            await asyncio.sleep(0.02)
