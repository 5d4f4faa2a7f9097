"""prefect.yaml on anybody's server: what it declares, and what the server refuses by itself."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from nightkiln.testing.waiting import until

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"nightly", "adhoc", "retry", "quote", "rehearse", "reap", "maintain"}
POOL = "nightkiln"
COMMAND_S_MAX = 180.0


def asked(prefect_server: str, method: str, path: str, **body: Any) -> httpx.Response:
    """An answer of the server."""
    url = f"{prefect_server}/api{path}"
    return httpx.request(method, url, json=body or None, trust_env=False, timeout=60)


@pytest.fixture(scope="module")
def deployed(
    prefect_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Any]]:
    """The deployments by name, from a copy of the checkout, made by one command after the pool."""
    copy = tmp_path_factory.mktemp("checkout")
    for part in ("flows", "tasks", "catalogs"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", copy)
    prefect(copy, "work-pool", "create", POOL, "--type", "process")
    prefect(copy, "--no-prompt", "deploy", "--all")
    found = asked(prefect_server, "POST", "/deployments/filter", limit=50).json()
    yield {one["name"]: one for one in found}
    for path in (*(f"/deployments/{one['id']}" for one in found), f"/work_pools/{POOL}"):
        asyncio.run(until(partial(is_gone, prefect_server, path)))


def is_gone(prefect_server: str, path: str) -> bool:
    """Delete something; the server is busy now and then, and says so."""
    answer = asked(prefect_server, "DELETE", path)
    return answer.is_success or answer.status_code == HTTPStatus.NOT_FOUND


def prefect(folder: Path, *words: str) -> None:
    """Run Prefect's command line as somebody with a server of their own would."""
    command = [str(Path(sys.executable).with_name("prefect")), *words]
    done = subprocess.run(
        command, check=False, cwd=folder, capture_output=True, text=True, timeout=COMMAND_S_MAX
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_command_makes_every_deployment(deployed: Mapping[str, Any]) -> None:
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]

    assert set(deployed) == NAMES == {one["name"] for one in declared}
    for name, one in deployed.items():
        assert one["enforce_parameter_schema"], name
        assert one["work_pool_name"] == POOL
        assert set(one["tags"]) == {"nightkiln", name}
        assert one["description"]
        assert one["pull_steps"], "else a Prefect worker would not know where the flows are"


def test_what_comes_by_itself_comes_at_a_time_of_some_zone(deployed: Mapping[str, Any]) -> None:
    scheduled = {
        name: [(one["schedule"]["cron"], one["schedule"]["timezone"]) for one in each["schedules"]]
        for name, each in deployed.items()
        if each["schedules"]
    }

    assert scheduled == {
        "nightly": [("15 2 * * *", "UTC")],
        "maintain": [("30 7 * * *", "UTC")],
        "reap": [("*/15 * * * *", None)],
    }


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_is_deployed_is_accepted_as_it_stands(
    name: str, deployed: Mapping[str, Any], prefect_server: str
) -> None:
    run = created(prefect_server, deployed[name], {})

    assert run.is_success, run.text
    asked(prefect_server, "DELETE", f"/flow_runs/{run.json()['id']}").raise_for_status()


BAD = [
    ("adhoc", {"budget": -1}, "params.budget"),
    ("adhoc", {"budget": 2_000_000}, "params.budget"),
    ("adhoc", {"budget": "twelve"}, "params.budget"),
    ("adhoc", {"limit": -5}, "params.limit"),
    ("adhoc", {"limit": 1.5}, "params.limit"),
    ("adhoc", {"by": "tomorrow"}, "params.by"),
    ("adhoc", {"by": "25:00"}, "params.by"),
    ("adhoc", {"timezone": "Europe/"}, "params.timezone"),
    ("adhoc", {"name": "../elsewhere"}, "params.name"),
    ("adhoc", {"catalog": ""}, "params.catalog"),
    ("adhoc", {"store": "two\nlines"}, "params.store"),
    ("adhoc", {"overrides": {"steps": 8}}, "params.overrides"),
    ("adhoc", {"fresh": "yes"}, "params.fresh"),
    ("adhoc", {"fallback": "sometimes"}, "params.fallback"),
    ("adhoc", {"late": "never"}, "params.late"),
    ("adhoc", {"at_cap": "stop"}, "params.at_cap"),
    ("adhoc", {"trust": "nobody"}, "params.trust"),
    ("adhoc", {"providers": ["runpod"]}, "params.providers"),
    ("adhoc", {"approve_above_usd": -1}, "params.approve_above_usd"),
    ("adhoc", {"approve_within_minutes": 0}, "params.approve_within_minutes"),
    ("adhoc", {"unanswered": "ask again"}, "params.unanswered"),
    ("adhoc", {"on_cancel": "throw away"}, "params.on_cancel"),
    ("adhoc", {"controllers": 0}, "params.controllers"),
    ("adhoc", {"vast_block": "My Key"}, "params.vast_block"),
    ("adhoc", {"vast_api_key": "a secret"}, "vast_api_key"),
    ("adhoc", {"options": {"kind": "vast", "usd_per_hour_max": -1}}, "params.options"),
    ("adhoc", {"options": {"kind": "local", "worker_urls": ["ftp://x"]}}, "params.options"),
    ("adhoc", {"options": {"kind": "modal", "max_containers": 1000}}, "params.options"),
    ("retry", {"force": "perhaps"}, "params.force"),
    ("rehearse", {"nights": 0}, "params.nights"),
    ("quote", {"market": "two\nlines"}, "params.market"),
    ("reap", {"most": 0}, "params.most"),
    ("reap", {"fleet": "Main!"}, "params.fleet"),
    ("maintain", {"grace_hours": 0}, "params.grace_hours"),
    ("maintain", {"verify_nights": -1}, "params.verify_nights"),
]


@pytest.mark.parametrize(("name", "bad", "field"), BAD, ids=[f"{one[0]} {one[1]}" for one in BAD])
def test_a_bad_value_is_refused_before_a_run_exists_and_named(
    name: str, bad: dict[str, Any], field: str, deployed: Mapping[str, Any], prefect_server: str
) -> None:
    answer = created(prefect_server, deployed[name], bad)

    assert answer.status_code == 409, answer.text
    assert field in answer.json()["detail"]
    mine = {"deployments": {"id": {"any_": [deployed[name]["id"]]}}}
    states = {"flow_runs": {"state": {"name": {"not_any_": ["Scheduled", "Late"]}}}}
    assert asked(prefect_server, "POST", "/flow_runs/count", **mine, **states).json() == 0


def created(prefect_server: str, deployment: Mapping[str, Any], given: dict[str, Any]) -> Any:
    """What the server says to a run with these parameters, beside those that are deployed."""
    params = {**deployment["parameters"]["params"], **given}
    path = f"/deployments/{deployment['id']}/create_flow_run"
    return asked(prefect_server, "POST", path, parameters={"params": params})
