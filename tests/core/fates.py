"""What any story is made of: offers, true or not, and the ends that attempts can take."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from random import Random

from nightkiln.core.events import Event, Failed, Lost, Offered, ProviderFailed, Rendered, Submit
from nightkiln.core.model import AttemptId, Fault, Kind, Loss, Offer
from nightkiln.core.terms import Load
from tests.core.table import FALLBACK, FAR, LOCAL, NEAR, function, machine

NONSENSE = (
    {"usd_per_hour": Decimal("NaN")},
    {"usd_per_hour": Decimal(-1)},
    {"usd_per_hour": Decimal(0)},
    {"usd_per_hour": Decimal("Infinity")},
    {"usd_per_hour": Decimal("1e9")},
    {"storage_usd_per_hour": Decimal("-0.01")},
    {"usd_per_gb_out": Decimal("NaN")},
    {"provider": "somebody else"},
    {"slots": 0},
    {"slots": 10**9},
    {"vram_gb": float("nan")},
    {"mbps_in": 0.0},
    {"reliability": float("nan")},
    {"loading_billed": -3.0},
    {"startup_s": float("inf")},
)
LOAD = Load(image_gb=5.0, models_gb=7.0, result_gb=0.002)


@dataclass(slots=True)
class Truth:
    """What really became of a lease."""

    offer: Offer
    asked_s: float
    expires_s: float
    is_told_up: bool = False
    is_told_lost: bool = False
    is_told_released: bool = False
    is_release_ordered: bool = False
    is_left_open: bool = False  # nobody confirmed its release: it runs to the end of its life
    is_zombie: bool = False  # came up after it was over
    loading_s: float = 0.0  # with the GPU hardly billed
    running: set[AttemptId] = field(default_factory=set)
    rendered: int = 0

    @property
    def is_over(self) -> bool:
        return self.is_told_lost or self.is_told_released or self.is_release_ordered


class Shops:
    """The stock of all providers; ``honest`` is what may be rented."""

    def __init__(self, dice: Random) -> None:
        self.dice, self.machines, self.asked = dice, 0, 0
        self.honest: set[tuple[str, str, Kind]] = set()

    def offers(self, provider: str, *, is_fair: bool) -> Event:
        """What a provider answers; while nothing is fair, with gaps, lies and failures."""
        if not is_fair and self.dice.random() < 0.15:
            return ProviderFailed(provider, "503")
        self.asked += 1
        offers = self.stock(provider)
        if not is_fair:
            offers = [offer for offer in offers if self.dice.random() < 0.8]
            liar = replace(machine(f"liar-{self.asked}"), provider=provider)
            lies = self.dice.sample(NONSENSE, 3) if provider != LOCAL.name else [{}]
            offers += [replace(liar, **lie) for lie in lies]  # type: ignore[arg-type]
            self.dice.shuffle(offers)
        return Offered(provider, tuple(offers))

    def stock(self, provider: str) -> list[Offer]:
        """What a provider really has; never the same machine twice."""
        if provider == LOCAL.name:
            return self._honest([NEAR, FAR])
        if provider == FALLBACK.name:
            return self._honest([function(f"slot-{number}") for number in range(3)])
        stock = []
        for _ in range(3):
            self.machines += 1
            usd, vram = self.dice.choice(("0.20", "0.45", "1.10")), self.dice.choice((24.0, 80.0))
            for kind in (Kind.ON_DEMAND, Kind.INTERRUPTIBLE):
                one = machine(f"gpu-{self.machines}", usd, kind, vram)
                traffic = Decimal("0.01")
                one = replace(one, usd_per_gb_in=traffic, mbps_in=600.0, loading_billed=0.2)
                stock.append(one)
        return self._honest(stock)

    def _honest(self, stock: list[Offer]) -> list[Offer]:
        self.honest |= {(offer.provider, offer.ref, offer.kind) for offer in stock}
        return stock


def fate(dice: Random, submit: Submit, offer: Offer, *, is_fair: bool) -> list[Event]:
    """How an attempt ends: some jobs are bad for good, the rest is luck while it lasts."""
    number = int(submit.job_id.removeprefix("job-"))
    rendered = Rendered(submit.attempt_id, dice.choice((0.0, 4.0, 9.0)))
    if number % 11 == 7:
        return [Failed(submit.attempt_id, Fault.UNKNOWN, "exception", "poison")]
    if number % 13 == 9:
        return [Failed(submit.attempt_id, Fault.JOB, "rejected", "400")]
    if number % 9 == 4 and offer.vram_gb is not None and offer.vram_gb < 40:
        return [Failed(submit.attempt_id, Fault.MACHINE, "oom", "out of memory")]
    if is_fair or dice.random() < 0.75:
        return [rendered]
    loss = dice.choice((Loss.LOST, Loss.MARKET))
    lost = Lost(submit.lease_id, "it stopped answering", loss)
    fault = dice.choice((Fault.MACHINE, Fault.UNKNOWN, Fault.MARKET))
    kind = dice.choice(("exception", "stalled", "disk_full", "unfit"))
    failure = Failed(submit.attempt_id, fault, kind, kind)
    fates: list[list[Event]] = [[lost], [lost, rendered], [lost, failure], [failure], [failure]]
    return dice.choice(fates)
