"""What a second costs, by what the service calls it.

Prices of 2026-09-17 (docs/reference/fake-modal.md says whence); the service itself gives them by
``WorkspaceBillingRates``. Its names for them are a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CORE, GIB = "cpu_core_sec", "mem_gib_sec"

USD_PER_S: Mapping[str, str] = MappingProxyType(
    {
        "T4": "0.000164",
        "L4": "0.000222",
        "A10": "0.000306",
        "L40S": "0.000542",
        "A100-40GB": "0.000583",
        "A100-80GB": "0.000694",
        "RTX-PRO-6000": "0.000842",
        "H100": "0.001097",
        "H200": "0.001261",
        "B200": "0.001736",
        "B300": "0.001972",
        CORE: "0.0000131",
        GIB: "0.00000222",
    }
)
SAME: Mapping[str, str] = MappingProxyType({"A10G": "A10", "A100": "A100-40GB"})  # other names


def price_name(gpu: str) -> str:
    """The GPU as prices name it; ``H100!`` is an H100 that is not exchanged for a better one."""
    plain = gpu.upper().removesuffix("!")
    return SAME.get(plain, plain)
