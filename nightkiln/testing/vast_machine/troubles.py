"""What a rented machine's troubles look like from inside it, and what its driver calls its card.

A box's figures (card, disk, line, pace) tell the truth already. What is here is the rest; the
troubles that neither a figure nor this table knows are the market's to play.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

PROVISION_FAILS, COMFY_NEVER_UP = "provision_fails", "comfy_never_up"
BLACK_HOLE_PORT, PORT_CHANGE, BUSY_CARD = "black_hole_port", "moves", "busy_card"
TROUBLES: Mapping[str, str] = MappingProxyType(
    {
        PROVISION_FAILS: "models cannot be written to the disk",
        COMFY_NEVER_UP: "the image's launcher hangs",
        BLACK_HOLE_PORT: "packets to the SSH port are dropped",
        PORT_CHANGE: "the SSH port is another one after a reboot",
        BUSY_CARD: "another tenant computes on the card",
        "cuda_500": "the card fails every prompt with a CUDA error",
        "disk_full": "no picture can be saved",
    }
)
NEVER_S = 86_400.0  # longer than any night
_COMFY_FAULTS = {"cuda_500": "cuda", "disk_full": "disk-full"}
_GEFORCE = ("RTX 2", "RTX 3", "RTX 4", "RTX 5", "GTX")
_WORKSTATION = ("RTX 4000", "RTX 4500", "RTX 5000", "RTX 6000")


def comfy_faults(troubles: Collection[str]) -> list[str]:
    """What the stand-in ComfyUI is told to do wrong."""
    return [fault for trouble, fault in _COMFY_FAULTS.items() if trouble in troubles]


def driver_name(gpu: str) -> str:
    """``RTX 4090``, as the market calls it, is ``NVIDIA GeForce RTX 4090`` to its driver."""
    if gpu.startswith("NVIDIA"):
        return gpu
    is_geforce = gpu.startswith(_GEFORCE) and not gpu.startswith(_WORKSTATION)
    return f"NVIDIA {'GeForce ' if is_geforce else ''}{gpu}"
