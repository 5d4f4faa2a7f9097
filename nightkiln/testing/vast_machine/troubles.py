"""What each trouble of a rented machine looks like from inside it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from nightkiln.testing.vast_machine.tools import MEBIBYTES_IN_USE, Card

# Those of the market's faults that happen inside a machine; all others are the market's to play.
TROUBLES = {
    "wrong_gpu": "the card is not the one that was offered",
    "cuda_old": "the driver is too old for the image",
    "busy_card": "another tenant computes on the card",
    "small_disk": "the disk is half of what was rented",
    "comfy_never_up": "the image's launcher hangs",
    "provision_fails": "models cannot be written to the disk",
    "black_hole_port": "packets to the SSH port are dropped",
    "moves": "the SSH port is another one after a reboot",
    "gpu_slow": "the card renders at a tenth of its speed",
    "cuda_500": "the card fails every prompt with a CUDA error",
    "disk_full": "no picture can be saved",
}
OTHER_GPU, OTHER_GPU_MB = "NVIDIA GeForce RTX 3060", 12_288
OLD_CUDA = "11.4"
SLOW_FACTOR = 10
NEVER_S = 86_400.0  # longer than any night
LEFT_BY_TENANT = 0.1  # of a card's memory


@dataclass(frozen=True, slots=True)
class Inside:
    """What a machine is really like."""

    card: Card
    disk_gb: float
    app_s: float
    seconds_per_job: float
    comfy_faults: tuple[str, ...]
    can_write_models: bool


def inside(
    troubles: Collection[str], card: Card, *, disk_gb: float, app_s: float, seconds_per_job: float
) -> Inside:
    """What is promised, less what is wrong."""
    return Inside(
        card=_card(troubles, card),
        disk_gb=disk_gb / 2 if "small_disk" in troubles else disk_gb,
        app_s=NEVER_S if "comfy_never_up" in troubles else app_s,
        seconds_per_job=seconds_per_job * (SLOW_FACTOR if "gpu_slow" in troubles else 1),
        comfy_faults=tuple(
            fault
            for trouble, fault in (("cuda_500", "cuda"), ("disk_full", "disk-full"))
            if trouble in troubles
        ),
        can_write_models="provision_fails" not in troubles,
    )


def _card(troubles: Collection[str], card: Card) -> Card:
    gpu, total, free = card.gpu, card.total_mb, card.free_mb
    if "wrong_gpu" in troubles:
        gpu, total, free = OTHER_GPU, OTHER_GPU_MB, OTHER_GPU_MB - MEBIBYTES_IN_USE
    is_busy = card.is_busy or "busy_card" in troubles
    if "busy_card" in troubles:
        free = int(total * LEFT_BY_TENANT)
    cuda = OLD_CUDA if "cuda_old" in troubles else card.cuda
    return Card(gpu, total, free, cuda, is_busy)
