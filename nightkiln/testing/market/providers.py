"""The in-process fronts of a night: a market of machines, and a fallback that is always there.

Both are real ``Provider``s. They run over the loop's time, so under
``nightkiln.testing.virtual_time`` a night takes seconds, and otherwise it takes a night.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count, islice

from nightkiln.core.model import JobId, Kind, Offer, Usd
from nightkiln.testing.market.billing import Bill, Usage, container_bill, machine_bill, quoted
from nightkiln.testing.market.machines import Boot, Stretch
from nightkiln.testing.market.night import AttemptTruth, Night, Window
from nightkiln.testing.market.service import Rental, SimulatedService, Terms, gone
from nightkiln.testing.market.stage import ServiceFaults, Stage

STARTUP_S = 3600.0  # what an offer allows for; whoever rents knows better and says so
SLOTS = 2  # jobs handed out at once: one renders, one waits
CONTAINER = "container-"
KINDS = (Kind.ON_DEMAND, Kind.INTERRUPTIBLE)
NEVER_S = float("inf")


class SimulatedMarket(SimulatedService):
    """Rents out the night's machines, on demand and to whoever bids.

    Each stretch is rented once in a night, whatever became of that: its start-up and its end are
    drawn once, so that a second try there would be another machine, which the clairvoyant bound
    does not know. Nor is anything of a machine that we rent offered meanwhile.
    """

    def __init__(
        self,
        night: Night,
        *,
        name: str = "market",
        lump: int = 1,
        kinds: Sequence[Kind] = KINDS,
        usd_per_hour_max: Usd | None = None,
        stage: Stage | None = None,
    ) -> None:
        """``usd_per_hour_max``: dearer machines, with their disk, are not shown."""
        super().__init__(name, lump=lump, stage=stage)
        self._night, self._kinds = night, tuple(kinds)
        self._usd_per_hour_max = usd_per_hour_max
        self._offers: dict[tuple[str, float], tuple[Offer, ...]] = {}  # by stretch and multiplier
        self._stretch_of = {
            _ref(stretch, kind): stretch for stretch in night.stretches for kind in self._kinds
        }

    def stretch(self, offer: Offer) -> Stretch:
        """The truth behind an offer."""
        return self._stretch_of[offer.ref]

    def _listing(self, now_s: float) -> Sequence[Offer]:
        busy, taken = self._unavailable()
        found = [
            offer
            for stretch in self._night.listed(now_s)
            if stretch.machine not in busy and stretch.ref not in taken
            for offer in self._offers_of(stretch, now_s)
            if self._is_shown(offer)
        ]
        return sorted(found, key=lambda offer: (offer.usd_per_hour, offer.ref))

    def _is_shown(self, offer: Offer) -> bool:
        usd_per_hour = offer.usd_per_hour + offer.storage_usd_per_hour
        return self._usd_per_hour_max is None or usd_per_hour <= self._usd_per_hour_max

    def _unavailable(self) -> tuple[set[str], set[str]]:
        """Machines that we rent, and stretches that we have rented."""
        rentals = self._rentals.values()
        busy = {one.lease.offer.machine for one in rentals if one.released_s is None}
        return busy, {self.stretch(one.lease.offer).ref for one in rentals}

    def _offers_of(self, stretch: Stretch, now_s: float) -> tuple[Offer, ...]:
        key = (stretch.ref, self._night.price_mult(now_s))
        if key not in self._offers:
            self._offers[key] = tuple(self._offer(stretch, kind, now_s) for kind in self._kinds)
        return self._offers[key]

    def _offer(self, stretch: Stretch, kind: Kind, now_s: float) -> Offer:
        return Offer(
            provider=self.name,
            ref=_ref(stretch, kind),
            gpu=stretch.gpu,
            usd_per_hour=quoted(self._night.gpu_usd_h(stretch, kind, now_s)),
            startup_s=STARTUP_S,
            slots=SLOTS,
            kind=kind,
            machine=stretch.machine,
            storage_usd_per_hour=quoted(stretch.storage_usd_h),
            usd_per_gb_in=quoted(stretch.usd_per_gb_down),
            usd_per_gb_out=quoted(stretch.usd_per_gb_up),
            mbps_in=stretch.mbps_advertised,
            reliability=stretch.reliability,
            vram_gb=stretch.vram_gb,
            region=stretch.region,
            loading_billed=self._night.market.startup.gpu_billed_while_loading,
        )

    def _terms(self, offer: Offer, now_s: float) -> Terms:
        stretch = self._stretch_of.get(offer.ref)
        if stretch is None or not stretch.listed_s <= now_s < stretch.gone_s:
            raise gone(offer, "not listed any more")
        busy, taken = self._unavailable()
        if stretch.machine in busy or stretch.ref in taken:
            raise gone(offer, "somebody has it")
        if self._offer(stretch, offer.kind, now_s).usd_per_hour != offer.usd_per_hour:
            raise gone(offer, "not at that price")
        night = self._night
        return Terms(
            ready_s=now_s + stretch.startup_s if stretch.boot is Boot.OK else NEVER_S,
            broken_s=now_s + stretch.boot_fails_s,
            death_s=night.death_s(stretch, offer.kind, now_s),
            detect_s=night.market.hazard.detect_s,
            offline=night.offline(stretch, now_s),
            truth=partial(self._truth, stretch),
            loading_s=stretch.pull_s,
        )

    def _truth(self, stretch: Stretch, job_id: JobId, number: int) -> AttemptTruth:
        return self._night.attempt(stretch, job_id, number, lump=self.lump)

    def _bill(self, rental: Rental, usage: Usage) -> Bill:
        offer = rental.lease.offer
        stretch, market = self.stretch(offer), self._night.market
        return machine_bill(rental.lease.id, offer, usage, market=market, stretch=stretch)

    def _troubles(self) -> tuple[Sequence[Window], Sequence[Window]]:
        night = self._night
        return (
            (night.api_outage,) if night.api_outage is not None else (),
            (night.api_storm,) if night.api_storm is not None else (),
        )


class SimulatedFallback(SimulatedService):
    """Starts serverless containers, up to a limit; a lease is one container."""

    def __init__(
        self,
        night: Night,
        *,
        name: str = "fallback",
        lump: int = 1,
        stage: Stage | None = None,
    ) -> None:
        super().__init__(name, lump=lump, stage=stage)
        self._night = night

    def _listing(self, now_s: float) -> Sequence[Offer]:
        """One offer per container that could be started, each under a name never used before."""
        del now_s
        used = self._used()
        fresh = (name for number in count() if (name := f"{CONTAINER}{number}") not in used)
        return [self._offer(name) for name in islice(fresh, self._free())]

    def _used(self) -> set[str]:
        return {rental.lease.offer.ref for rental in self._rentals.values()}

    def _free(self) -> int:
        running = sum(1 for rental in self._rentals.values() if rental.released_s is None)
        return max(0, self._night.market.fallback.max_containers - running)

    def _offer(self, ref: str) -> Offer:
        facts = self._night.market.fallback
        return Offer(
            provider=self.name,
            ref=ref,
            gpu=facts.gpu,
            usd_per_hour=quoted(facts.usd_h),
            startup_s=STARTUP_S,
            slots=SLOTS,
            kind=Kind.SERVERLESS,
            machine=ref,
            vram_gb=facts.vram_gb,
            idle_tail_s=facts.scaledown_s,
        )

    def _terms(self, offer: Offer, now_s: float) -> Terms:
        is_known = offer.ref.startswith(CONTAINER) and offer.ref.removeprefix(CONTAINER).isdigit()
        if self._free() == 0 or not is_known or offer.ref in self._used():
            raise gone(offer, "no such container is free")
        if offer.usd_per_hour != quoted(self._night.market.fallback.usd_h):
            raise gone(offer, "not at that price")
        ready_s = now_s + self._night.market.fallback.cold_s
        truth = partial(self._truth, offer.ref)
        return Terms(ready_s, NEVER_S, NEVER_S, 0.0, None, truth)

    def _truth(self, container: str, job_id: JobId, number: int) -> AttemptTruth:
        return self._night.attempt(container, job_id, number, lump=self.lump)

    def _bill(self, rental: Rental, usage: Usage) -> Bill:
        return container_bill(rental.lease.id, rental.lease.offer, usage)


def _ref(stretch: Stretch, kind: Kind) -> str:
    """Distinct for the two ways to have one machine."""
    return f"{stretch.ref}:{kind}"


__all__ = ["ServiceFaults", "SimulatedFallback", "SimulatedMarket", "Stage"]
