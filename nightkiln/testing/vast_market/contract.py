"""One rented machine as the service knows it, and its row in the listing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nightkiln.core.model import Kind
from nightkiln.testing.vast_market.asks import CUDA, DRIVER, Ask
from nightkiln.testing.vast_market.fate import NEVER_S, Fate, Ports
from nightkiln.testing.vast_market.inside import Inside
from nightkiln.testing.vast_market.meter import HOURS_PER_MONTH, Bill, Meter

LAYERS = 12  # whose pulling is told
PORT_FLAG = "-p "
BILLED = frozenset({"running", "frozen", "rebooting"})  # what the GPU is paid for in
SSH_PORT = "22/tcp"
UNSERVED_PORT = "1"  # where a port is shown that nobody listens on
BYTES_PER_GB = 1e9


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for at the create."""

    image: str
    disk_gb: float
    label: str | None
    env: Mapping[str, str]
    onstart: str
    runtype: str
    price: float | None  # a bid; None: on demand


@dataclass(slots=True, eq=False)
class Contract:
    """A machine that we pay for, from the create until its row is gone."""

    id: int
    ask: Ask
    kind: Kind
    order: Order
    key: str  # the container's own
    fate: Fate
    meter: Meter
    rented_s: float  # seconds of the story
    created_s: float  # epoch seconds
    ends_s: float  # seconds of the story: the host takes it back
    image_gb: float  # of which a start fetches as much as it gets
    models_gb: float  # where its body does not count
    actual: str | None = None
    intended: str = "running"
    current: str = "unloaded"
    following: str = "running"
    said: str | None = None
    label: str | None = None
    is_online: bool = True
    is_lost: bool = False  # its host never comes back
    shows_ports: bool = False
    ran_s: float | None = None  # epoch seconds, newest start
    halted_s: float | None = None  # seconds of the story: nothing is fetched from then on
    rival_usd_h: float | None = None  # what somebody bids more than we do
    turn: int = 0  # of its life: what was to happen in a former one does not
    inside: Inside | None = None
    destroyed_s: float | None = None  # epoch seconds
    row_until_s: float = NEVER_S  # seconds of the story
    troubles: list[str] = field(default_factory=list)  # what befell it, in order

    @property
    def is_billed(self) -> bool:
        """Whether it still costs something, now or when its host is back."""
        return self.destroyed_s is None

    @property
    def status(self) -> str | None:
        return self.actual if self.is_online else "offline"

    @property
    def bid(self) -> float | None:
        """In dollars per hour; None: on demand."""
        return float(self.meter.usd_per_hour) if self.kind is Kind.INTERRUPTIBLE else None

    @property
    def is_beatable(self) -> bool:
        """Whether a rival has its GPU whom a higher bid would drive away."""
        return self.rival_usd_h is not None and self.rival_usd_h < NEVER_S

    @property
    def disk_gb(self) -> float:
        """As it is, which may be less than was asked for."""
        return self.order.disk_gb * self.fate.disk_share

    def set(self, wall_s: float, **states: Any) -> None:
        """Change what it is, from that moment by the wall on."""
        for name, value in states.items():
            setattr(self, name, value)
        lives = self.destroyed_s is None and self.is_online
        self.meter.turn(wall_s, gpu=lives and self.actual in BILLED, storage=lives)

    # Money.

    def bill(self, wall_s: float, story_s: float) -> Bill:
        """What it has cost up to now, or up to its end."""
        gb_in, gb_out = self._traffic_gb(story_s)
        return self.meter.bill(wall_s, gb_in=gb_in, gb_out=gb_out)

    def _traffic_gb(self, story_s: float) -> tuple[float, float]:
        until_s = story_s if self.halted_s is None else min(story_s, self.halted_s)
        alive_s = max(0.0, until_s - self.rented_s)
        pull_s = self.fate.pull_s
        image_gb = self.image_gb * min(1.0, alive_s / pull_s if pull_s > 0 else 1.0)
        counted = self.inside.traffic() if self.inside is not None else None
        if counted is not None:
            return image_gb + counted.bytes_in / BYTES_PER_GB, counted.bytes_out / BYTES_PER_GB
        load_s = self.fate.ready_s - self.fate.runs_s  # not a number where it never runs
        share = (alive_s - self.fate.runs_s) / load_s if 0 < load_s < NEVER_S else 0.0
        return image_gb + self.models_gb * min(1.0, max(0.0, share)), 0.0

    # Its row.

    def row(self, story_s: float, wall_s: float, end_wall_s: float) -> dict[str, Any]:
        """As the listing shows it."""
        storage = float(self.meter.prices.storage_usd_per_hour)
        base = float(self.meter.usd_per_hour)
        stretch, is_running = self.ask.stretch, self.status == "running"
        uptime = (wall_s - self.ran_s) / 60 if is_running and self.ran_s is not None else None
        return {
            "id": self.id,
            "machine_id": self.ask.machine_id,
            "host_id": self.ask.host_id,
            "label": self.label,
            "actual_status": self.status,
            "intended_status": self.intended,
            "cur_state": self.current,
            "next_state": self.following,
            "status_msg": self._message(story_s),
            "ports": self._ports() if self.shows_ports and is_running else None,
            "public_ipaddr": "127.0.0.1 " if is_running else None,  # with its blank, as is seen
            "ssh_host": "ssh5.vast.ai",
            "ssh_port": 10_000 + self.id % 10_000,
            "direct_port_start": -1,
            "direct_port_end": -1,
            "jupyter_token": None,
            "image_uuid": self.order.image,
            "image_runtype": self.order.runtype,
            "extra_env": [[name, value] for name, value in self.order.env.items()],
            "onstart": self.order.onstart,
            "start_date": self.created_s,
            "end_date": end_wall_s,
            "uptime_mins": uptime,
            "is_bid": self.kind is Kind.INTERRUPTIBLE,
            "dph_base": base,
            "dph_total": base + storage,
            "min_bid": self.rival_usd_h if self.is_beatable else base,
            "storage_cost": storage * HOURS_PER_MONTH / self.order.disk_gb,
            "inet_down_cost": float(self.meter.prices.usd_per_gb_in),
            "inet_up_cost": float(self.meter.prices.usd_per_gb_out),
            "disk_space": self.disk_gb,
            "disk_usage": 1.0 if is_running else -1,
            "gpu_name": stretch.gpu,
            "num_gpus": 1,
            "gpu_ram": self.ask.gpu_mb,
            "gpu_util": 0.0 if is_running else None,
            "cuda_max_good": float(CUDA),
            "driver_version": DRIVER,
            "inet_down": stretch.mbps_advertised,
            "reliability2": stretch.reliability,
            "verification": "verified",
            "geolocation": self.ask.geolocation,
            "hosting_type": int(self.ask.is_datacenter),
        }

    def _message(self, story_s: float) -> str | None:
        """What is told of it; never how much is left."""
        if self.said is not None or self.actual != "loading":
            return self.said
        share = min(1.0, (story_s - self.rented_s) / max(1.0, self.fate.pull_s))
        return f"{self.id % 0xFFFF:04x}{int(share * LAYERS):02d}: Pulling fs layer"

    def _ports(self) -> dict[str, Any] | None:
        port = self.inside.port if self.inside is not None else None
        if port is None:
            return None
        asked = [name[len(PORT_FLAG) :] for name in self.order.env if name.startswith(PORT_FLAG)]
        shown: dict[str, Any] = {}
        for one in asked:
            inner, _, protocol = one.rpartition(":")[2].partition("/")
            shown[f"{inner}/{protocol or 'tcp'}"] = _mapped(UNSERVED_PORT)
        if self.fate.ports is not Ports.MISSING and "ssh" in self.order.runtype:
            is_both = self.fate.ports is Ports.ORDINARY
            shown[SSH_PORT] = _mapped(str(port), is_both=is_both)
        return shown


def _mapped(port: str, *, is_both: bool = True) -> list[dict[str, str]]:
    """A port as Docker shows it: one entry per address family, in no order to rely on."""
    entries = [{"HostIp": "::", "HostPort": port}]
    if is_both:
        entries.append({"HostIp": "0.0.0.0", "HostPort": port})  # noqa: S104 - as Docker says it
    return entries
