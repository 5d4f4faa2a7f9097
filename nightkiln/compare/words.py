"""What a comparison rests on, and how its lines are called, in words for table and chart."""

from __future__ import annotations

from collections.abc import Iterator

from nightkiln.compare.comparison import Comparison
from nightkiln.core.comparing import Basis, Expected, PriceFrom, SecondsFrom
from nightkiln.core.model import Kind
from nightkiln.observers.sentences import duration
from nightkiln.settings import Settings

PARTS = {
    "rendering": "rendering",
    "startup": "start-up",
    "storage": "storage",
    "network": "network",
    "idle": "idle",
    "own_time": "your time",
}
_KINDS = {Kind.ON_DEMAND: ", on demand", Kind.INTERRUPTIBLE: ", by bid"}
_SECONDS = {
    SecondsFrom.MEASURED: "measured with this workflow on this GPU",
    SecondsFrom.CARRIED: "measured on other GPUs, carried over by the table of {}",
    SecondsFrom.TABLE: "the table of {}, of another workflow",
}
_PRICES = {
    PriceFrom.LIVE: "asked now",
    PriceFrom.LISTED: "a dated price list",
    PriceFrom.MARKET: "a market file, mostly guesses",
    PriceFrom.OWN: "your own machine",
}


def kind_words(kind: Kind) -> str:
    """How a machine is had, where there is more than one way."""
    return _KINDS.get(kind, "")


def finish_words(found: Expected) -> str:
    """When it is done, and whether that is too late."""
    return duration(found.finish_s) + (", late" if found.is_late else "")


def group_words(found: Comparison, basis: Basis) -> str:
    """What the figures of one group rest on."""
    seconds = _SECONDS[basis.seconds].format(found.plan.dated)
    return f"seconds: {seconds}; prices: {_PRICES[basis.price]}"


def footnotes(found: Comparison) -> Iterator[str]:
    """Where everything comes from, what is left out, and how to know more."""
    yield from found.notes
    for provider, told in found.told.items():
        yield f"{provider}: {told}"
    learned = found.startups_learned
    startups = f", start-ups learned from {learned}" if learned else ""
    yield f"start-ups, failed starts and losses: the table of {found.plan.dated}{startups}"
    if len(found.groups) > 1:
        yield "lines under different headings rest on different things and are not ranked together"
    if found.unknown:
        yield f"left out, as nobody knows how fast they are: {', '.join(found.unknown)}"
    if found.seldom:
        yield f"left out, as they are seldom on offer: {', '.join(found.seldom)}"
    if found.late:
        yield f"left out, as none would be up in time: {', '.join(found.late)}"


def advice(found: Comparison, settings: Settings) -> Iterator[str]:
    """What would make the comparison a better one."""
    if any(basis.seconds is SecondsFrom.TABLE for basis in found.groups):
        yield "nightkiln try CATALOG on such a GPU measures seconds per job; then all go by them"
    prices = {basis.price for basis in found.groups}
    if PriceFrom.MARKET in prices and settings.vast_api_key is None:
        yield "with VAST_API_KEY set, today's offers take the place of the market file"
    if PriceFrom.LISTED in prices and not settings.has_modal:
        tokens = "MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"
        yield f"with {tokens} set, today's rates take the place of the price list"
