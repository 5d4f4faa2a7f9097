"""What will become of a rented machine: as the night draws it, and as troubles change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType

from nightkiln.core.model import Kind
from nightkiln.testing.market import Boot, Night, Stretch
from nightkiln.testing.market.dice import between, exponential, throw
from nightkiln.testing.market.night import Window

NEVER_S = float("inf")
CREATED_S = (2.0, 8.0)  # until the container exists
LOADING_S = (0.0, 5.0)  # from then until its image is pulled
PORTS_S = (0.0, 15.0)  # from running until its address is published
GONE_S = (0.0, 20.0)  # from destroying until the row is gone
RESUMES_MEAN_S = 1_800.0  # how long a rival keeps what he outbid; a guess
ERROR_SHOWS_S = 15.0  # how soon a start that is doomed says so
AWAY_S = 60.0
REBOOT_S = 20.0  # until a machine that restarts runs again
ZOMBIE_S = 60.0
LINGERS_S = 60.0
DISK_SHARE = 0.5
DAEMON = "Error response from daemon: "


class Ports(Enum):
    """How the SSH port is shown."""

    ORDINARY = "ordinary"
    MISSING = "missing"
    IPV6_ONLY = "ipv6"


@dataclass(frozen=True, slots=True)
class Failure:
    """A start that ends in an error: when, and what is shown."""

    at_s: float
    status: str  # which the container keeps
    said: str


@dataclass(frozen=True, slots=True)
class Fate:
    """Moments in seconds of the story since it was rented; infinite: never."""

    created_s: float
    loading_s: float
    runs_s: float
    ports_s: float
    ready_s: float  # ComfyUI answers
    pull_s: float  # over which the image is fetched
    fails: Failure | None = None
    outbid_s: float = NEVER_S
    resumes_after_s: float = NEVER_S  # from being outbid
    away: tuple[Window, ...] = ()  # the host is offline
    frozen_s: float = NEVER_S
    exits_s: float = NEVER_S
    reboots_s: float = NEVER_S
    ends_s: float = NEVER_S  # the host takes it back, beside the end of its term
    gone_after_s: float = 0.0  # from destroying until the row is gone
    disk_share: float = 1.0  # of what was asked for
    ports: Ports = Ports.ORDINARY
    trouble: frozenset[str] = frozenset()  # all that ails it, for its body and the truth


@dataclass(frozen=True, slots=True)
class Stay:
    """What a fate is drawn for."""

    night: Night
    stretch: Stretch
    kind: Kind
    rented_s: float  # seconds of the story
    strikes_s: float  # from being ready until a trouble of running machines strikes


Change = Callable[[Fate, Stay], Fate]


def fate_of(stay: Stay, trouble: frozenset[str]) -> Fate:
    """The night's own draw, changed by every trouble in the order of ``TROUBLES``."""
    fate = _drawn(stay)
    for name, change in TROUBLES.items():
        if name in trouble:
            fate = change(fate, stay)
    own = {"comfy_never_up"} if stay.stretch.boot is Boot.STUCK_RUNNING else set()
    return replace(fate, trouble=trouble | own)


def _drawn(stay: Stay) -> Fate:
    stretch, night = stay.stretch, stay.night
    created, loading, ports, gone, resumes, *_ = throw(f"vast-1/{night.seed}/{stretch.ref}/fate")
    created_s = between(created, *CREATED_S)
    loading_s = created_s + between(loading, *LOADING_S)
    is_stuck = stretch.boot in {Boot.EARLY, Boot.STUCK_LOADING}
    runs_s = NEVER_S if is_stuck else max(loading_s, stretch.pull_s)
    host_s = night.death_s(stretch, Kind.ON_DEMAND, stay.rented_s) - stay.rented_s
    death_s = night.death_s(stretch, stay.kind, stay.rented_s) - stay.rented_s
    fails = None
    if stretch.boot is Boot.EARLY:
        fails = Failure(stretch.boot_fails_s, "loading", _early(night, stretch))
    return Fate(
        created_s=created_s,
        loading_s=loading_s,
        runs_s=runs_s,
        ports_s=runs_s + between(ports, *PORTS_S),
        ready_s=stretch.startup_s if stretch.boot is Boot.OK else NEVER_S,
        pull_s=stretch.pull_s,
        fails=fails,
        outbid_s=death_s if death_s < host_s else NEVER_S,
        resumes_after_s=RESUMES_MEAN_S * exponential(resumes),
        away=_away(stay, host_s),
        gone_after_s=between(gone, *GONE_S),
    )


def _away(stay: Stay, host_s: float) -> tuple[Window, ...]:
    """When its host is offline: for a while, and in the end for good."""
    windows = []
    passing = stay.night.offline(stay.stretch, stay.rented_s)
    if passing is not None and passing.to_s - stay.rented_s < host_s:
        windows.append(Window(passing.from_s - stay.rented_s, passing.to_s - stay.rented_s))
    if host_s < NEVER_S:
        windows.append(Window(host_s, NEVER_S))
    return tuple(windows)


def _early(night: Night, stretch: Stretch) -> str:
    """Which error it is that shows within minutes."""
    which, *_ = throw(f"vast-1/{night.seed}/{stretch.ref}/error")
    return EARLY_ERRORS[int(which * len(EARLY_ERRORS))]


EARLY_ERRORS = (
    DAEMON + "manifest unknown: manifest unknown",
    "failed to register layer: write /usr/lib/x86_64-linux-gnu: no space left on device",
    DAEMON + "Get registry: unexpected EOF",
)


# What troubles do.


def _strike_s(fate: Fate, stay: Stay) -> float:
    """When a machine that came up is struck; one that never renders, after it runs."""
    began_s = fate.ready_s if fate.ready_s < NEVER_S else fate.runs_s
    return began_s + stay.strikes_s


def _stuck(fate: Fate, stay: Stay) -> Fate:
    del stay
    return replace(fate, runs_s=NEVER_S, ports_s=NEVER_S, ready_s=NEVER_S, fails=None)


def _error(said: str, *, status: str = "loading") -> Change:
    def change(fate: Fate, stay: Stay) -> Fate:
        at_s = (fate.created_s if status == "created" else fate.loading_s) + ERROR_SHOWS_S
        return replace(_stuck(fate, stay), fails=Failure(at_s, status, said))

    return change


def _exits_at_once(fate: Fate, stay: Stay) -> Fate:
    del stay
    return replace(fate, exits_s=fate.runs_s)


def _outbid(fate: Fate, stay: Stay) -> Fate:
    return replace(fate, outbid_s=_strike_s(fate, stay), resumes_after_s=NEVER_S)


def _zombie(fate: Fate, stay: Stay) -> Fate:
    return replace(fate, outbid_s=_strike_s(fate, stay), resumes_after_s=ZOMBIE_S)


def _offline(length_s: float) -> Change:
    def change(fate: Fate, stay: Stay) -> Fate:
        from_s = _strike_s(fate, stay)
        return replace(fate, away=(Window(from_s, from_s + length_s),))

    return change


def _frozen(fate: Fate, stay: Stay) -> Fate:
    return replace(fate, frozen_s=_strike_s(fate, stay))


def _reboots(fate: Fate, stay: Stay) -> Fate:
    return replace(fate, reboots_s=_strike_s(fate, stay))


def _ends(fate: Fate, stay: Stay) -> Fate:
    return replace(fate, ends_s=_strike_s(fate, stay))


def _body(fate: Fate, stay: Stay) -> Fate:
    """Nothing that the service knows of: the body plays it."""
    del stay
    return fate


def _with_disk(fate: Fate, stay: Stay) -> Fate:
    del stay
    return replace(fate, disk_share=DISK_SHARE)


def _shows(ports: Ports) -> Change:
    def change(fate: Fate, stay: Stay) -> Fate:
        del stay
        return replace(fate, ports=ports)

    return change


def _lingers(fate: Fate, stay: Stay) -> Fate:
    del stay
    return replace(fate, gone_after_s=LINGERS_S)


TROUBLES: Mapping[str, Change] = MappingProxyType(
    {
        "stuck_loading": _stuck,
        "manifest_unknown": _error(EARLY_ERRORS[0]),
        "no_space": _error(EARLY_ERRORS[1]),
        "oci_failed": _error("box: OCI runtime create failed: no such device", status="created"),
        "exits_at_once": _exits_at_once,
        "small_disk": _with_disk,
        "wrong_gpu": _body,
        "cuda_old": _body,
        "busy_card": _body,
        "ports_missing": _shows(Ports.MISSING),
        "ports_ipv6": _shows(Ports.IPV6_ONLY),
        "black_hole_port": _body,
        "provision_fails": _body,
        "slow_download": _body,
        "comfy_never_up": _body,
        "outbid": _outbid,
        "zombie": _zombie,
        "offline_back": _offline(AWAY_S),
        "offline_forever": _offline(NEVER_S),
        "frozen": _frozen,
        "gpu_slow": _body,
        "cuda_500": _body,
        "moves": _reboots,
        "disk_full": _body,
        "end_date": _ends,
        "destroy_lingers": _lingers,
    }
)
