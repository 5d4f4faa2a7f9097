"""What the service says of one machine of ours; of everything in a row only this is believed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightkiln.core.model import Usd
from nightkiln.providers.vast.values import at_least_0, text, usd, whole

SSH_PORT = "22/tcp"
PORT_MAX = 65_535
MESSAGE_CHARS_MAX = 1_000
MAPPINGS_MAX = 16  # of one port
_HOST = re.compile(r"[A-Za-z0-9.:-]{1,253}")


@dataclass(frozen=True, slots=True)
class Row:
    """One machine at one moment. Words are the service's own, in lower case; empty: not told."""

    contract: int
    label: str
    machine: str = ""
    gpu: str = ""
    status: str = ""  # of the container: created, loading, running, exited, offline, ...
    intended: str = ""  # what we, or the market, want of it
    current: str = ""  # of the contract with the machine
    following: str = ""
    message: str = ""
    address: tuple[str, int] | None = None  # of its SSH server, from outside
    usd_per_hour: Usd | None = None  # with its disk
    since_s: float | None = None  # epoch seconds
    disk_gb: float | None = None

    @property
    def is_running(self) -> bool:
        """Whether the container runs and its GPU is billed."""
        return self.status == "running"


def read_row(raw: Any) -> Row | None:
    """One row of a listing; None: not even its number can be read."""
    contract = whole(raw.get("id")) if isinstance(raw, dict) else None
    if contract is None:
        return None
    machine = whole(raw.get("machine_id"))
    return Row(
        contract=contract,
        label=text(raw.get("label")),
        machine=str(machine) if machine is not None else "",
        gpu=text(raw.get("gpu_name")),
        status=_word(raw, "actual_status"),
        intended=_word(raw, "intended_status"),
        current=_word(raw, "cur_state"),
        following=_word(raw, "next_state"),
        message=text(raw.get("status_msg"), chars_max=MESSAGE_CHARS_MAX).lower(),
        address=_address(raw),
        usd_per_hour=usd(raw.get("dph_total")),
        since_s=at_least_0(raw.get("start_date")),
        disk_gb=at_least_0(raw.get("disk_space")),
    )


def _word(raw: Mapping[str, Any], name: str) -> str:
    return text(raw.get(name)).lower()


def _address(raw: Mapping[str, Any]) -> tuple[str, int] | None:
    """Where port 22 is reached: host and port are told separately, and not always both."""
    host = text(raw.get("public_ipaddr"))  # sometimes with a line's end
    ports = raw.get("ports")
    mappings = ports.get(SSH_PORT) if isinstance(ports, dict) else None
    if not _HOST.fullmatch(host) or not isinstance(mappings, list):
        return None
    found = [one for one in mappings[:MAPPINGS_MAX] if isinstance(one, dict)]
    found.sort(key=lambda one: one.get("HostIp") == "::")  # IPv4 first: that is what ``host`` is
    numbers = (whole(one.get("HostPort")) for one in found)
    port = next((number for number in numbers if number is not None and number <= PORT_MAX), None)
    return (host, port) if port is not None else None
