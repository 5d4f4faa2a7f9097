"""A run at the simulated market, in a hurry; also as a process of its own, to be killed.

What waits for a real market's minutes waits for seconds here; nothing else is different. As a
process it reads a ``Controller`` as JSON from stdin and ends with the run's exit code.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from nightkiln.catalog import Catalog
from nightkiln.core.model import Usd
from nightkiln.core.plain import from_json, to_json
from nightkiln.core.priors import Priors
from nightkiln.core.story import Opening
from nightkiln.core.terms import Late, Rules
from nightkiln.gate import Gate, unquoted
from nightkiln.machine.goods import Goods
from nightkiln.machine.scripts import provision_program
from nightkiln.machine.stay import ArrivalLimits, LinkLimits
from nightkiln.night import Outcome, StopSwitch
from nightkiln.observers import JsonLines
from nightkiln.ports.observer import Observer
from nightkiln.ports.provider import Provider
from nightkiln.providers.vast import Limits, VastProvider, VastTerms
from nightkiln.settings import Settings
from nightkiln.signals import stopping_on_signals
from nightkiln.wiring import Request, chosen_catalog, run_batch

BATCH = "night"
RELEASE_S_MAX = 20.0
DOWNLOAD_TRIES = 4
RESULTS_PER_S = 1000.0  # pictures are small here, and machines as fast as the story

RULES = Rules(
    plan_every_s=1.0,
    offers_every_s=1.0,
    swap_every_s=30.0,
    boot_extra_s=15.0,
    boot_s_max=40.0,
    last_s=5.0,
    gap_s=5.0,
    gap_s_max=15.0,
    job_limit_s_min=5.0,
)
LIMITS = Limits(
    answer_s=3.0,
    list_s=10.0,
    search_s=10.0,
    release_s=RELEASE_S_MAX,
    ambiguous_s=15.0,
    farewell_s=15.0,
    appear_s=5.0,
    destroy_again_s=1.0,
    offline_s=3.0,
    scheduling_s=3.0,
    stopping_s=2.0,
)
ARRIVAL = ArrivalLimits(
    armed_s_max=10.0,
    link=LinkLimits(
        connect_s_max=5.0, retry_s=0.2, broken_s=8.0, reconnect_s_max=8.0, keepalive_s=1.0
    ),
)


@dataclass(frozen=True, slots=True)
class Controller:
    """One run of the catalog in ``folder``, with store and state beside it."""

    folder: str
    url: str
    key: str  # of a simulated market: it opens nothing else
    pace: float  # x the service's documented waits between calls
    budget: Usd = Decimal(5)
    batch: str = BATCH
    leases_max: int = 3
    deadman_s: float = 30.0
    by: str = ""  # deadline, as the setting
    speed: float = 1.0  # of the market's story, as far as beliefs about it go
    disk: str = ""  # as ``nightkiln.testing.disk`` reads it
    store: str = ""  # empty: in ``folder``
    is_fresh: bool = False  # render also what other batches of the store have done
    usd_per_hour_max: float = VastTerms().usd_per_hour_max  # of a machine
    more: Mapping[str, str] = field(default_factory=dict)  # of the settings

    @property
    def settings(self) -> Settings:
        """What a user would have set."""
        usual: dict[str, Any] = {
            "store": self.store or str(Path(self.folder) / "store"),
            "state": str(Path(self.folder) / "state"),
            "budget": self.budget,
            "by": self.by,
            "late": Late.FINISH,
            "results_per_s": RESULTS_PER_S,
            "release_s": RELEASE_S_MAX,
            "disk": self.disk,
        }
        return Settings(**usual | dict(self.more_settings()) | dict(self.more))

    def more_settings(self) -> Mapping[str, Any]:
        """What is set beside that, or otherwise."""
        return {}

    def provider(self, goods: Goods | None = None) -> VastProvider:
        """The account."""
        terms = VastTerms(
            url=self.url,
            startup_s=60.0,
            deadman_s=self.deadman_s,
            poll_s=0.3,
            usd_per_hour_max=self.usd_per_hour_max,
            limits=replace(LIMITS, pace=self.pace),
        )
        state = self.settings.state_folder
        return VastProvider(self.key, terms, state=state, goods=goods, arrival=ARRIVAL)

    async def run(
        self,
        said: TextIO,
        *,
        switch: StopSwitch | None = None,
        observer: Observer | None = None,
    ) -> Outcome:
        """Work on the batch to its end; ``observer`` is told, else ``said`` gets JSON lines."""
        catalog = chosen_catalog(Path(self.folder) / "catalog")
        program = await asyncio.to_thread(provision_program)
        goods = replace(
            Goods.of(catalog.environment, program=program), tries=DOWNLOAD_TRIES, pause_s=0.1
        )
        return await run_batch(
            Request(catalog, name=self.batch, is_fresh=self.is_fresh, leases_max=self.leases_max),
            self.settings,
            observer if observer is not None else JsonLines(said),
            switch=switch,
            rents_from=self.providers(catalog, goods),
            opens=self.opens,
            gate=self.gate(),
        )

    def gate(self) -> Gate:
        """What stands before the first dollar."""
        return unquoted

    def providers(self, catalog: Catalog, goods: Goods) -> Mapping[str, Provider]:
        """Everybody to rent from."""
        del catalog
        provider = self.provider(goods)
        return {provider.name: provider}

    def opens(self, opening: Opening) -> Opening:
        """Beliefs and rules in the same hurry."""
        terms = replace(opening.terms, rules=RULES)
        return replace(opening, terms=terms, priors=hurried(opening.priors, self.speed))

    def start(self) -> subprocess.Popen[str]:
        """The same in a process of its own."""
        process = subprocess.Popen(
            [sys.executable, "-m", type(self).__module__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(to_json(self)))
        process.stdin.close()
        process.stdin = None  # or ``communicate`` would write to it
        return process


def hurried(priors: Priors, speed: float) -> Priors:
    """The same beliefs about a story that goes ``speed`` times as fast."""
    seconds = {gpu: seconds / speed for gpu, seconds in priors.seconds_per_job.items()}
    return replace(
        priors,
        seconds_per_job=seconds,
        seconds_unknown=priors.seconds_unknown / speed,
        bandwidth_share=priors.bandwidth_share * speed,
        cached_s=priors.cached_s / speed,
        extract_s=priors.extract_s / speed,
        frozen_s=priors.frozen_s / speed,
        app_s=priors.app_s / speed,
    )


def main(kind: type[Controller] = Controller) -> int:
    """Be the controller that stdin describes; its exit code."""
    logging.basicConfig(level=logging.WARNING)
    controller = from_json(kind, json.load(sys.stdin), where="stdin")
    return asyncio.run(_run(controller))


async def _run(controller: Controller) -> int:
    switch = StopSwitch()
    with stopping_on_signals(switch):
        return (await controller.run(sys.stdout, switch=switch)).exit_code


if __name__ == "__main__":
    sys.exit(main())
