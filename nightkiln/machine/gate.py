"""The gate: what a machine shows before it gets a job, held against what was offered.

Everything here is told by the machine itself. A host that lies deceives itself into work that it
then does badly, which its renders show; the gate is for hosts that are broken or mislabelled.
What it says is the same for the same cause on every machine: numbers are told as progress.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from nightkiln.core.errors import WorkerLost
from nightkiln.core.model import Lease, Loss, Need
from nightkiln.machine.link import Link
from nightkiln.machine.stay import ArrivalLimits
from nightkiln.machine.talk import plain

PROBE_BYTES = 2 * 1024 * 1024
TENANT = "another tenant is on the card"
TENANT_LOOKS = 3  # in a row: what starts up on a card of our own is busy for a moment, too
MIB_PER_GB = 1024
KIB_PER_GB = 1_000_000_000 / 1024
NAME_LETTERS_MAX = 60

_QUESTIONS = """
pid=$(head -c 16 ~/.nightkiln/armed 2>/dev/null); kill -0 "$pid" 2>/dev/null && echo armed=yes
nvidia-smi --query-gpu=name,memory.total,memory.used,utilization.gpu --format=csv,noheader,nounits \
 | head -n 1 | sed 's/^/card=/'
nvidia-smi | sed -n 's/.*CUDA Version: *\\([0-9.]*\\).*/cuda=\\1/p'
df -Pk "$HOME" | sed -n '2s/^/disk=/p'
"""
_MODEL = re.compile(r"([A-Z]{0,2}\d{1,4})([A-Z]*)")
_MAKERS = frozenset({"NVIDIA", "GEFORCE", "QUADRO", "TESLA", "GTX", "RTX"})
_VARIANTS = {"TI": "TI", "S": "S", "SUPER": "S", "D": "D", "ADA": "ADA", "PRO": "PRO"}
_VARIANTS |= {"LAPTOP": "LAPTOP", "MOBILE": "LAPTOP"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a machine says of itself. None: it does not say."""

    is_armed: bool = False
    gpu: str | None = None
    memory_mb: float | None = None  # MiB, like the driver
    used_mb: float | None = None
    busy_percent: float | None = None  # of the time; some cards do not say
    cuda: float | None = None
    disk_gb: float | None = None


async def asked(link: Link) -> Facts:
    """Ask the machine."""
    try:
        ran = await link.run(_QUESTIONS)
    except TimeoutError as error:
        raise WorkerLost("the machine's driver does not answer", loss=Loss.STARTUP) from error
    return facts(ran.text)


def facts(text: str) -> Facts:
    """Read the machine's answers, of which any may be missing or nonsense."""
    told = dict(line.split("=", 1) for line in reversed(text.splitlines()) if "=" in line)
    card = [part.strip() for part in told.get("card", "").split(",")]
    name, memory, used, busy, *_ = [*card, "", "", ""]
    disk = told.get("disk", "").split()
    blocks = _number(disk[1]) if len(disk) > 1 else None
    return Facts(
        is_armed=told.get("armed") == "yes",
        gpu=plain(name, NAME_LETTERS_MAX) or None,
        memory_mb=_number(memory),
        used_mb=_number(used),
        busy_percent=_number(busy),
        cuda=_number(".".join(told.get("cuda", "").split(".")[:2])),
        disk_gb=None if blocks is None else blocks / KIB_PER_GB,
    )


def _number(text: str) -> float | None:
    is_one = re.fullmatch(r"\d{1,12}(\.\d{1,3})?", text, re.ASCII) is not None
    return float(text) if is_one else None


def objection(
    found: Facts, lease: Lease, need: Need, limits: ArrivalLimits, *, is_known: bool
) -> str | None:
    """Why this machine gets no job; None: it may.

    ``is_known``: a run of ours has been here before, so the card's memory may hold our own models.
    """
    if found.gpu is None or not found.memory_mb or found.used_mb is None:
        return "no GPU answers on the machine"
    offered = lease.offer.gpu
    promised_gb = max(lease.offer.vram_gb if lease.offer.vram_gb is not None else 0, need.vram_gb)
    disk_gb = 0 if limits.disk_gb is None else limits.disk_gb * limits.disk_share_min
    objections = {
        f"another GPU than offered: {found.gpu} instead of {offered}": (
            offered != "unknown" and not is_same_gpu(offered, found.gpu)
        ),
        "less GPU memory than offered": (
            found.memory_mb / MIB_PER_GB < promised_gb * limits.memory_share_min
        ),
        TENANT: not is_known and _is_in_use(found, limits),
        f"the driver is older than CUDA {limits.cuda_min}, which the image needs": (
            limits.cuda_min is not None and (found.cuda is None or found.cuda < limits.cuda_min)
        ),
        "a smaller disk than was rented": (
            disk_gb > 0 and (found.disk_gb is None or found.disk_gb < disk_gb)
        ),
    }
    return next((said for said, is_so in objections.items() if is_so), None)


def _is_in_use(found: Facts, limits: ArrivalLimits) -> bool:
    """Whether somebody else uses the card, if we do not."""
    assert found.memory_mb is not None
    assert found.used_mb is not None
    is_full = 1 - found.used_mb / found.memory_mb < limits.free_share_min
    return is_full or (
        found.busy_percent is not None and found.busy_percent > limits.busy_percent_max
    )


def is_same_gpu(offered: str, found: str) -> bool:
    """Whether a market's name and the driver's name mean the same card.

    ``RTX 4070S Ti`` is ``NVIDIA GeForce RTX 4070 Ti SUPER``; ``H100 SXM`` is ``NVIDIA H100 80GB
    HBM3``: the number and what makes it another chip count, memory and socket do not.
    """
    return _chip(offered) == _chip(found)


def _chip(name: str) -> tuple[str, frozenset[str]]:
    words = [word for word in re.split(r"[^A-Z0-9]+", name.upper()) if word]
    words = [word for word in words if word not in _MAKERS] or words
    numbered = [match for word in words if (match := _MODEL.fullmatch(word))]
    if not numbered:
        return " ".join(words), frozenset()
    number, suffix = numbered[0].groups()
    kinds = {_VARIANTS[word] for word in words if word in _VARIANTS}
    if "PRO" in kinds:
        kinds.discard("S")  # of a workstation card it is its place, a server, and no SUPER
    return number, frozenset(kinds | ({_VARIANTS.get(suffix, suffix)} if suffix else set()))


async def link_mbps(link: Link, *, mbps_min: float) -> float | None:
    """Megabits per second from the machine to us; None: far below ``mbps_min``."""
    clock = asyncio.get_running_loop().time
    began_s = clock()
    try:
        ran = await link.run(
            f"head -c {PROBE_BYTES} /dev/urandom",
            within_s=2 * PROBE_BYTES * 8 / 1e6 / mbps_min,
            bytes_max=PROBE_BYTES,
        )
    except TimeoutError:
        return None
    took_s = max(clock() - began_s, 1e-6)
    return len(ran.answer) * 8 / 1e6 / took_s


async def pass_gate(
    link: Link,
    lease: Lease,
    need: Need,
    limits: ArrivalLimits,
    *,
    is_known: bool,
    tell: Callable[[str, Mapping[str, object]], None],
) -> Facts:
    """Let a machine in, or say why not.

    Raises:
        WorkerLost: with the objection.
    """
    found = await _armed(link, limits)
    said = objection(found, lease, need, limits, is_known=is_known)
    for _ in range(TENANT_LOOKS - 1):
        if said == TENANT:
            await asyncio.sleep(limits.look_s)
            found = await asked(link)
            said = objection(found, lease, need, limits, is_known=is_known)
    tell("gate", asdict(found))
    if said is not None:
        raise WorkerLost(said, loss=Loss.STARTUP)
    if limits.link_mbps_min is not None:
        mbps = await link_mbps(link, mbps_min=limits.link_mbps_min)
        tell("link", {"mbps": mbps})
        if mbps is None or mbps < limits.link_mbps_min:
            slow = f"fewer than {limits.link_mbps_min:g} megabits a second come from the machine"
            raise WorkerLost(slow, loss=Loss.STARTUP)
    return found


async def _armed(link: Link, limits: ArrivalLimits) -> Facts:
    """What the machine says once its dead-man's switch is armed."""
    deadline_s = asyncio.get_running_loop().time() + limits.armed_s_max
    while not (found := await asked(link)).is_armed:
        if asyncio.get_running_loop().time() >= deadline_s:
            raise WorkerLost("the dead-man's switch is not armed", loss=Loss.STARTUP)
        await asyncio.sleep(limits.look_s)
    return found
