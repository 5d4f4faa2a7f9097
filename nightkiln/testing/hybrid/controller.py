"""A run that may rent from both, in a hurry; also as a process of its own, to be killed.

Where the fake Modal is, and its token, the SDK and the settings learn from the environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from nightkiln.catalog import Catalog
from nightkiln.core.learning import Scores
from nightkiln.core.priors import Priors
from nightkiln.core.story import Opening
from nightkiln.core.terms import Fallback, Late
from nightkiln.gate import Gate, unquoted
from nightkiln.machine.goods import Goods
from nightkiln.places import MODAL, VAST, modal_terms, modal_token
from nightkiln.ports.provider import Provider
from nightkiln.rehearse.gate import QuoteGate, freely, in_market
from nightkiln.rehearse.script import with_containers
from nightkiln.testing.market import shipped_market
from nightkiln.testing.vast_market.controller import RULES, Controller, hurried, main

STARTUP_S = 2.5  # of the wall, until a container of the fake renders: its process is a real one
SCALEDOWN_S = 2  # of the wall
EXIT_S = 0.3  # of the wall, until a container's process has ended
APP = "nightkiln-hybrid"


@dataclass(frozen=True, slots=True)
class HybridController(Controller):
    """One run of the catalog in ``folder``, at the market in ``url`` and at Modal."""

    fallback: Fallback = Fallback.AUTO
    late: Late = Late.FINISH
    containers: int = 4  # at once
    slower: float = 1.0  # x the seconds of a job that the shipped beliefs are about
    is_proven: bool = False  # the workflow was rendered in earlier nights
    silence_s: float = 20.0
    is_quoted: bool = False  # in the ordinary market, whatever is on offer here

    def more_settings(self) -> Mapping[str, Any]:
        return {
            "providers": (VAST, MODAL),
            "fallback": self.fallback,
            "late": self.late,
            # Whatever else is set for a real one, its token stays away from here.
            "modal_token_id": os.environ.get("MODAL_TOKEN_ID", ""),
            "modal_token_secret": os.environ.get("MODAL_TOKEN_SECRET", ""),
            "modal_environment": "",
            "modal_app": APP,
            "modal_max_containers": self.containers,
            "modal_scaledown_s": SCALEDOWN_S,
        }

    def providers(self, catalog: Catalog, goods: Goods) -> Mapping[str, Provider]:
        found: dict[str, Provider] = {VAST: self.provider(goods)}
        settings = self.settings
        if settings.has_modal:
            from nightkiln.providers.modal import Limits, ModalProvider

            limits = Limits(
                first_contact_s=5.0,
                answer_s=5.0,
                spawn_s=3.0,
                poll_s=0.5,
                over_s=5.0,
                fresh_s=2.0,
                start_s=STARTUP_S,
                exit_s=EXIT_S,
            )
            found[MODAL] = ModalProvider(
                *modal_token(settings),
                replace(modal_terms(settings), limits=limits),
                state=settings.state_folder,
                digest=catalog.environment.digest,
            )
        return found

    def gate(self) -> Gate:
        if not self.is_quoted:
            return unquoted
        makes = in_market(
            with_containers(shipped_market(), self.containers),
            usd_per_hour_max=Decimal(repr(self.usd_per_hour_max)),
        )
        return QuoteGate(makes, freely)

    def opens(self, opening: Opening) -> Opening:
        """Beliefs about longer jobs, and about both stories, told so fast."""
        rules = replace(RULES, pause_s=2.0, pause_s_max=4.0, silence_s=self.silence_s)
        terms = replace(opening.terms, rules=rules)
        scores = Scores(workflow_jobs=1) if self.is_proven else opening.scores
        return replace(opening, terms=terms, priors=self._priors(opening.priors), scores=scores)

    def _priors(self, usual: Priors) -> Priors:
        """What is believed of jobs that take ``slower`` times as long, told so fast."""
        priors = hurried(usual, self.speed)
        seconds = {gpu: each * self.slower for gpu, each in priors.seconds_per_job.items()}
        return replace(
            priors,
            seconds_per_job=seconds,
            seconds_unknown=priors.seconds_unknown * self.slower,
            serverless_startup_s=STARTUP_S,
        )


if __name__ == "__main__":
    sys.exit(main(HybridController))
