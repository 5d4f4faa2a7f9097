"""From a contract to the machine that its body is made for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from nightkiln.testing.market import AttemptTruth, Night
from nightkiln.testing.vast_market.asks import CUDA
from nightkiln.testing.vast_market.body import Box
from nightkiln.testing.vast_market.contract import PORT_FLAG, Contract
from nightkiln.testing.vast_market.rules import Rules

OTHER_GPU, OTHER_GPU_MB = "RTX 3060", 12_288
OLD_CUDA = "11.8"
FREE_SHARE, BUSY_SHARE = 0.97, 0.2  # of the card's memory
SLOW_SHARE = 0.02  # of the line


def box_of(contract: Contract, night: Night, rules: Rules, url: str) -> Box:
    """The machine as it is: what troubles make of it is in its figures already."""
    fate, stretch = contract.fate, contract.ask.stretch
    gpu, gpu_mb = stretch.gpu, contract.ask.gpu_mb
    if "wrong_gpu" in fate.trouble:
        gpu, gpu_mb = OTHER_GPU, OTHER_GPU_MB
    free = BUSY_SHARE if "busy_card" in fate.trouble else FREE_SHARE
    app_s = stretch.load_s / rules.speed
    return Box(
        contract=contract.id,
        image=contract.order.image,
        env=_environment(contract),
        onstart=contract.order.onstart,
        api_url=url,
        api_key=contract.key,
        gpu=gpu,
        gpu_mb=gpu_mb,
        gpu_free_mb=int(gpu_mb * free),
        cuda=OLD_CUDA if "cuda_old" in fate.trouble else CUDA,
        disk_gb=contract.disk_gb,
        mbps=stretch.mbps_true * (SLOW_SHARE if "slow_download" in fate.trouble else 1.0),
        seconds_per_job=stretch.s_per_job * fate.slower / rules.speed,
        app_s=app_s,
        trouble=fate.trouble,
        attempt=partial(_attempt, night, contract),
    )


def _attempt(night: Night, contract: Contract, job_id: str, number: int) -> AttemptTruth:
    return night.attempt(contract.ask.stretch, job_id, number)


def _environment(contract: Contract) -> Mapping[str, str]:
    """What was asked for, without what is no variable, and what the service adds."""
    asked = {
        name: value for name, value in contract.order.env.items() if not name.startswith(PORT_FLAG)
    }
    return {
        **asked,
        "CONTAINER_ID": str(contract.id),
        "CONTAINER_API_KEY": contract.key,
        "VAST_CONTAINERLABEL": f"C.{contract.id}",
    }
