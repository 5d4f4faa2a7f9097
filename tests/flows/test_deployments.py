"""prefect.yaml on anybody's server: what it declares, and what the server refuses by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml

from nightkiln.testing.waiting import until
from tests.docs.shown import DEPLOYED_PAGES, ROOT, Shell, commands

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

FORMS = {"nightly", "adhoc", "retry", "quote", "rehearse", "reap", "maintain"}
NAMES = FORMS | {"resume", "share"}  # which are started by others, and not from a form
POOL = "nightkiln"
ANSWER_S_MAX = 60.0


def asked(prefect_server: str, method: str, path: str, **body: Any) -> httpx.Response:
    """An answer of the server, which says now and then that it is busy."""
    url, answers = f"{prefect_server}/api{path}", list[httpx.Response]()

    def is_answered() -> bool:
        answers.append(
            httpx.request(method, url, json=body or None, trust_env=False, timeout=ANSWER_S_MAX)
        )
        return answers[-1].status_code != HTTPStatus.SERVICE_UNAVAILABLE

    asyncio.run(until(is_answered, within_s=ANSWER_S_MAX))
    return answers[-1]


@pytest.fixture(scope="module")
def deployed(
    prefect_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Any]]:
    """The deployments by name, made by the commands of the pages, as a reader would call them."""
    port = prefect_server.rpartition(":")[2]
    shell = Shell(tmp_path_factory.mktemp("reader") / "checkout", {"4200": port})
    for page in DEPLOYED_PAGES:
        for command in commands((ROOT / page).read_text()):
            shell.run(command)
    found = asked(prefect_server, "POST", "/deployments/filter", limit=50).json()
    yield {one["name"]: one for one in found}
    for path in (*(f"/deployments/{one['id']}" for one in found), f"/work_pools/{POOL}"):
        answer = asked(prefect_server, "DELETE", path)
        assert answer.is_success or answer.status_code == HTTPStatus.NOT_FOUND


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


def test_a_schedule_that_is_switched_off_stays_off_when_all_is_deployed_again(
    deployed: Mapping[str, Any], prefect_server: str, tmp_path: Path
) -> None:
    place = f"/deployments/{deployed['nightly']['id']}"
    [schedule] = asked(prefect_server, "GET", place).json()["schedules"]
    asked(prefect_server, "PATCH", f"{place}/schedules/{schedule['id']}", active=False)
    shell = Shell(tmp_path / "checkout", {}, PREFECT_API_URL=f"{prefect_server}/api")

    said = shell.run(".venv/bin/nightkiln deploy")

    [again] = asked(prefect_server, "GET", place).json()["schedules"]
    assert (again["slug"], again["active"]) == (schedule["slug"], False)
    assert "nightly: its schedule stays off, as it was" in said
    [reaps] = asked(prefect_server, "GET", f"/deployments/{deployed['reap']['id']}").json()[
        "schedules"
    ]
    assert reaps["active"], "what was on stays on"


@pytest.mark.parametrize("name", sorted(FORMS))
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
    called = f"refused {uuid4()}"

    answer = created(prefect_server, deployed[name], bad, name=called)

    assert answer.status_code == 409, answer.text
    assert field in answer.json()["detail"]
    named = {"name": {"any_": [called]}}
    assert asked(prefect_server, "POST", "/flow_runs/count", flow_runs=named).json() == 0


def created(
    prefect_server: str, deployment: Mapping[str, Any], given: dict[str, Any], **more: str
) -> httpx.Response:
    """What the server says to a run with these parameters, beside those that are deployed."""
    params = {**deployment["parameters"]["params"], **given}
    path = f"/deployments/{deployment['id']}/create_flow_run"
    return asked(prefect_server, "POST", path, parameters={"params": params}, **more)
