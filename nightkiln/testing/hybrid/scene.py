"""A night on rented machines with Modal behind them: both real SDKs, a fast story, a receipt.

::

    async with HybridScene(folder, machines=(machine(1), machine(2))) as scene:
        outcome = await scene.run()
        assert await scene.broken() == []
        print(scene.receipt(outcome))
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, Self

import httpx

from nightkiln.catalog import load_catalog
from nightkiln.catalog.catalog import Environment
from nightkiln.core.model import Usd
from nightkiln.core.terms import Fallback, Late
from nightkiln.night import Outcome
from nightkiln.places import modal_terms
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.environ import environ
from nightkiln.testing.hybrid.controller import SCALEDOWN_S, HybridController
from nightkiln.testing.hybrid.receipt import HybridReceipt, receipt_of
from nightkiln.testing.modal import FakeModal
from nightkiln.testing.modal import Rules as ModalRules
from nightkiln.testing.modal.billing import Phase
from nightkiln.testing.modal.stand_ins import StandIns
from nightkiln.testing.vast_market.controller import BATCH
from nightkiln.testing.vast_market.rules import Rules
from nightkiln.testing.vast_market.scene import HURRY, VastScene
from nightkiln.testing.waiting import until

SPEED = 60.0  # an hour of the story is a minute
USUAL_S = 4.0  # of the story: about what a picture takes, by the shipped beliefs
JOB_S = 60.0  # what a job takes here, as if it were a short film: real processes need their time
COMFYUI = "0.3.75"
THIS = Environment(COMFYUI)  # what the catalog needs


def _market_rules() -> Rules:
    # Bills are of hundredths of a cent here; the service's rounding would hide all the rest.
    return Rules(speed=SPEED, limits_scale=HURRY, charge_decimals=6, has_decoys=False)


def _modal_rules() -> ModalRules:
    # No container is ended by its clock: on a busy computer a second of the story is soon over.
    return ModalRules(queue_s=(0.0, 0.0), cold_s=(30.0, 30.0), limit_s_min=60.0)


def machine(number: int, **facts: Any) -> Mapping[str, Any]:
    """One machine of the market, as its ``/__sim/offers`` takes it."""
    # Rent is by the wall's seconds here and GB are whole: with a price they would be all there is.
    free = {"usd_per_gb_down": 0.0, "usd_per_gb_up": 0.0}
    return {"machine": f"rented-{number}", "s_per_job": JOB_S, **free, **facts}


@dataclass(slots=True)
class HybridScene(VastScene):
    """One catalog, one store, an account at each; runs come and go."""

    rules: Rules = field(default_factory=_market_rules)
    machines: Sequence[Mapping[str, Any]] = tuple(map(machine, range(8)))  # on the market
    fallback: Fallback = Fallback.AUTO
    late: Late = Late.FINISH
    containers: int = 4
    usd_per_hour_max: float = 2.0
    modal_rules: ModalRules = field(default_factory=_modal_rules)
    job_s: float = JOB_S  # of the story, at Modal, and as it is believed
    modal_comfy_faults: tuple[str, ...] = ()  # of the stand-in behind each container
    modal_faults: Sequence[str] = ()
    deploys: Environment | None = THIS  # what the app is for; None: there is none
    has_token: bool = True
    is_proven: bool = False  # the workflow was rendered in earlier nights
    silence_s: float = 20.0
    is_quoted: bool = False
    batch: str = BATCH
    is_fresh: bool = False  # render also what other batches of the store have done
    behind: list[StandIn] = field(default_factory=list)  # a ComfyUI of each container
    lost_s: dict[str, float] = field(default_factory=dict)  # label -> epoch seconds of its end
    _modal: FakeModal | None = None

    async def __aenter__(self) -> Self:
        self.catalog = {"environment": {"comfyui": COMFYUI}, **self.catalog}
        await VastScene.__aenter__(self)
        try:
            await self.tell_market("DELETE", "offers")
            await self.tell_market("POST", "offers", list(self.machines))
            modal = FakeModal(speed=self.rules.speed, rules=self.modal_rules, comfy=self._comfy)
            self._modal = await asyncio.to_thread(modal.__enter__)
            self._stack.push_async_callback(asyncio.to_thread, modal.__exit__, None, None, None)
            told = modal.env()
            if not self.has_token:
                del told["MODAL_TOKEN_ID"], told["MODAL_TOKEN_SECRET"]
            self._stack.enter_context(environ(told, without="MODAL_"))
            if self.deploys is not None:
                await asyncio.to_thread(self.deploy, self.deploys)
            modal.add_faults(*self.modal_faults)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    @property
    def modal(self) -> FakeModal:
        assert self._modal is not None, "enter the scene first"
        return self._modal

    @property
    def controller(self) -> HybridController:
        return HybridController(
            **self._of_every_controller(),
            batch=self.batch,
            is_fresh=self.is_fresh,
            usd_per_hour_max=self.usd_per_hour_max,
            fallback=self.fallback,
            late=self.late,
            containers=self.containers,
            slower=self.job_s / USUAL_S,
            is_proven=self.is_proven,
            silence_s=self.silence_s,
            is_quoted=self.is_quoted,
        )

    def _comfy(self, gpu: str) -> StandIn:
        made = StandIns(self.rules.speed, self.job_s, faults=self.modal_comfy_faults)
        self.behind.append(made(gpu))
        return self.behind[-1]

    def deploy(self, environment: Environment) -> None:
        """Deploy the app for an environment, as ``nightkiln modal deploy`` does. Blocks."""
        from nightkiln.providers.modal.deploying import MODULE, deploy_of, modal_command

        settings = self.controller.settings
        # Where we are billed by the wall, the app's idle windows are told in the story's seconds.
        idle_s = round(SCALEDOWN_S * self.rules.speed)
        terms = replace(modal_terms(settings), scaledown_s=idle_s)
        wanted = deploy_of(environment, terms, commit="c0ffee")
        words = ["deploy", "-m", MODULE, "--name", terms.app, "--tag", wanted.tag]
        done = modal_command(words, token=self.modal.token, plan=wanted.plan, is_quiet=True)
        assert done.returncode == 0, "modal deploy failed"

    async def tell_market(self, verb: str, what: str, told: object = None) -> Any:
        """Pull one of the market's strings."""
        async with httpx.AsyncClient(base_url=self.market.url, trust_env=False) as client:
            answer = await client.request(verb, f"/__sim/{what}/", json=told)
        answer.raise_for_status()
        return answer.json()

    async def lose(self, share: float) -> None:
        """So much of the machines that we have is gone for good, and no others come."""
        await self.tell_market("DELETE", "offers")
        ours = [row for row in self.market.machines() if row["is_billed"]]
        for row in ours[: ceil(share * len(ours))]:
            await self.tell_market("POST", "kill", {"contract": row["contract"]})
            self.lost_s[str(row["label"])] = time.time()

    async def last_bill(self) -> Usd:
        """What Modal has billed when every container has ended."""
        await until(lambda: all(one.phase is Phase.ENDED for one in self.modal.containers))
        return self.modal.billing.usd

    @property
    def environment(self) -> Environment:
        """What the catalog needs."""
        return load_catalog(self.folder / "catalog").environment

    def receipt(self, outcome: Outcome) -> HybridReceipt:
        """What the night cost, by whom and why. Blocks."""
        return receipt_of(
            outcome,
            vast_usd=self.market.truth().spent(),
            modal_usd=self.modal.billing.usd,
            budget=self.budget,
        )
