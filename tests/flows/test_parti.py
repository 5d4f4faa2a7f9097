"""Real input: PartiPrompts through a real ComfyUI by the real flow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nightkiln.store.store import Store

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).resolve().parents[2]
TINY = {"checkpoint": "tiny.safetensors", "width": "64", "height": "64", "steps": "1"}
ASK = "select category, count(*) as jobs, avg(gpu_seconds) as gpu_seconds from jobs group by 1"


@pytest.mark.parametrize(
    ("limit", "jobs"), [(24, 24), pytest.param(0, 1632, marks=pytest.mark.long)]
)
def test_parti_ends_with_one_verified_image_per_prompt(
    limit: int, jobs: int, real_comfyui: str, tmp_path: Path
) -> None:
    from flows.nightly import nightly
    from tasks.options import LocalOptions
    from tasks.params import BatchParams

    store = str(tmp_path / "store")
    params = BatchParams(
        catalog=ROOT / "catalogs" / "parti",
        store=store,
        options=LocalOptions(worker_urls=[real_comfyui]),
        limit=limit,
        overrides=TINY,
    )

    state = nightly_run(nightly, params)

    assert state == "COMPLETED"
    with Store.open(store).connect() as con:
        counts = con.execute(
            "select count(*), count(distinct job_id), count(distinct uri), count(distinct sha256) "
            "from outputs where status = 'done'"
        ).fetchall()
    assert counts == [(jobs, jobs, jobs, jobs)]
    command = [sys.executable, "-m", "nightkiln", "query", ASK, "--store", store]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "Abstract" in answer


def nightly_run(flow: object, params: object) -> str:
    """Final state type of a flow run, called as Prefect calls it."""
    import asyncio

    async def run() -> str:
        state = await flow(params, return_state=True)  # type: ignore[operator]
        return str(state.type.value)

    return asyncio.run(run())
