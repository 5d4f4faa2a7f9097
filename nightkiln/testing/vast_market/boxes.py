"""From a contract to the machine that its body is made for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from nightkiln.testing.market import AttemptTruth, Night
from nightkiln.testing.vast_market.asks import CUDA
from nightkiln.testing.vast_market.body import Box
from nightkiln.testing.vast_market.contract import PORT_FLAG, Contract
from nightkiln.testing.vast_market.rules import Rules

FREE_SHARE = 0.97  # of the card's memory, where nobody else is on it
SLOW_SHARE = 0.02  # of the line
SLOW_TIMES = 10.0  # as long for a job
OTHER_GPUS = ("RTX 3060", "RTX 3070")  # in place of what was offered
OLD_CUDA = "11.8"


def box_of(contract: Contract, night: Night, rules: Rules, url: str) -> Box:
    """The machine as it truly is; troubles that no figure tells are for its body to play."""
    fate, stretch = contract.fate, contract.ask.stretch
    gpu = stretch.gpu
    if "wrong_gpu" in fate.trouble:
        gpu = next(other for other in OTHER_GPUS if other != stretch.gpu)
    return Box(
        contract=contract.id,
        image=contract.order.image,
        env=_environment(contract),
        onstart=contract.order.onstart,
        api_url=url,
        api_key=contract.key,
        gpu=gpu,
        gpu_mb=contract.ask.gpu_mb,
        gpu_free_mb=int(contract.ask.gpu_mb * FREE_SHARE),
        cuda=OLD_CUDA if "cuda_old" in fate.trouble else CUDA,
        disk_gb=contract.disk_gb,
        mbps=stretch.mbps_true * (SLOW_SHARE if "slow_download" in fate.trouble else 1.0),
        seconds_per_job=stretch.s_per_job
        * (SLOW_TIMES if "gpu_slow" in fate.trouble else 1.0)
        / rules.speed,
        app_s=stretch.load_s / rules.speed,
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
