"""What a machine says of itself, and what is made of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.model import Lease, LeaseId, Need, Offer
from nightkiln.machine.gate import Facts, facts, is_same_gpu, objection
from nightkiln.machine.stay import ArrivalLimits

SAME = [
    ("RTX 4090", "NVIDIA GeForce RTX 4090"),
    ("RTX 4070S Ti", "NVIDIA GeForce RTX 4070 Ti SUPER"),
    ("RTX 4070S", "NVIDIA GeForce RTX 4070 SUPER"),
    ("RTX 3080 Ti", "NVIDIA GeForce RTX 3080 Ti"),
    ("RTX 4090D", "NVIDIA GeForce RTX 4090 D"),
    ("GTX 1080 Ti", "NVIDIA GeForce GTX 1080 Ti"),
    ("RTX A5000", "NVIDIA RTX A5000"),
    ("RTX 6000Ada", "NVIDIA RTX 6000 Ada Generation"),
    ("RTX PRO 6000 WS", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition"),
    ("RTX PRO 6000 S", "NVIDIA RTX PRO 6000 Blackwell Server Edition"),
    ("Q RTX 8000", "Quadro RTX 8000"),
    ("A100 SXM4", "NVIDIA A100-SXM4-80GB"),
    ("A100 PCIE", "NVIDIA A100-PCIE-40GB"),
    ("H100 SXM", "NVIDIA H100 80GB HBM3"),
    ("H100 NVL", "NVIDIA H100 NVL"),
    ("L40S", "NVIDIA L40S"),
    ("Tesla T4", "Tesla T4"),
    ("Tesla V100", "Tesla V100-SXM2-16GB"),
    ("TITAN RTX", "NVIDIA TITAN RTX"),
]
OTHERS = [
    ("RTX 4090", "NVIDIA GeForce RTX 3060"),
    ("RTX 4090", "NVIDIA GeForce RTX 4090 D"),
    ("RTX 4090", "NVIDIA GeForce RTX 4090 Laptop GPU"),
    ("RTX 4070S Ti", "NVIDIA GeForce RTX 4070 Ti"),
    ("RTX 3080 Ti", "NVIDIA GeForce RTX 3080"),
    ("L40S", "NVIDIA L40"),
    ("L40", "NVIDIA L4"),
    ("RTX 6000Ada", "Quadro RTX 6000"),
    ("A100 PCIE", "NVIDIA A10"),
]
LEASE = Lease(LeaseId("night-1-lease-001"), Offer("market", "1", gpu="RTX 4090", vram_gb=24))
LIMITS = ArrivalLimits(cuda_min=12.8, disk_gb=40)
GOOD = Facts(
    is_armed=True,
    gpu="NVIDIA GeForce RTX 4090",
    memory_mb=24_564,
    used_mb=400,
    cuda=12.8,
    disk_gb=39.2,
)


@pytest.mark.parametrize(("offered", "found"), SAME)
def test_a_card_is_known_by_the_markets_name_and_the_drivers(offered: str, found: str) -> None:
    assert is_same_gpu(offered, found)


@pytest.mark.parametrize(("offered", "found"), OTHERS)
def test_another_chip_is_another_card_however_alike_its_name(offered: str, found: str) -> None:
    assert not is_same_gpu(offered, found)


def test_answers_are_read_as_the_tools_give_them() -> None:
    text = (
        "armed=yes\n"
        "card=NVIDIA GeForce RTX 4090, 24564, 364, 3\n"
        "cuda=12.8\n"
        "disk=overlay 41943040 1048576 40894464 3% /\n"
    )

    assert facts(text) == Facts(
        is_armed=True,
        gpu="NVIDIA GeForce RTX 4090",
        memory_mb=24_564,
        used_mb=364,
        busy_percent=3,
        cuda=12.8,
        disk_gb=42.94967296,
    )


@given(st.text())
def test_any_nonsense_is_read_as_nothing_said(text: str) -> None:
    found = facts(text)

    assert found.gpu is None or len(found.gpu) <= 60


def test_what_a_machine_may_get_a_job_with_is_not_objected_to() -> None:
    assert objection(GOOD, LEASE, Need(vram_gb=24), LIMITS, is_known=False) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gpu": None}, "no GPU answers on the machine"),
        ({"memory_mb": 0.0}, "no GPU answers on the machine"),
        ({"memory_mb": 16_000.0}, "less GPU memory than offered"),
        ({"used_mb": 12_000.0}, "another tenant is on the card"),
        ({"busy_percent": 97.0}, "another tenant is on the card"),
        ({"cuda": 12.4}, "the driver is older than CUDA 12.8, which the image needs"),
        ({"cuda": None}, "the driver is older than CUDA 12.8, which the image needs"),
        ({"disk_gb": 20.0}, "a smaller disk than was rented"),
        ({"disk_gb": None}, "a smaller disk than was rented"),
    ],
)
def test_each_shortcoming_is_named_the_same_on_every_machine(
    change: dict[str, float | None], said: str
) -> None:
    found = replace(GOOD, **change)  # type: ignore[arg-type]

    assert objection(found, LEASE, Need(vram_gb=24), LIMITS, is_known=False) == said


def test_our_own_models_in_memory_are_no_other_tenant() -> None:
    found = replace(GOOD, used_mb=20_000.0, busy_percent=100.0)

    assert objection(found, LEASE, Need(), LIMITS, is_known=True) is None
