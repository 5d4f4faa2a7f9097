"""``deploy/compose.yaml`` holds what a room needs; read and linted, as no Docker is here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from nightkiln.room.environment import SERVER_TUNED, WORKER_TUNED

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
SERVERS, ENDS = ("migrate", "server", "services"), ("migrate", "deploy")
# https://github.com/compose-spec/compose-spec/blob/main/schema/compose-spec.json, as far as used.
KNOWN = {
    "image", "build", "init", "restart", "logging", "environment", "env_file", "command", "ports",
    "volumes", "healthcheck", "depends_on", "stop_grace_period",
}  # fmt: skip
CONDITIONS = {"service_healthy", "service_completed_successfully", "service_started"}
# Of prefect-redis, which servers with more than one process need; docs.prefect.io, self-hosted.
REDIS = {f"PREFECT_REDIS_MESSAGING_{name}" for name in ("HOST", "PORT", "DB")}
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?P<how>:?[-?])?(?P<word>[^}]*)\}")
PINNED = re.compile(r"[a-z0-9./-]+:\d+\.\d+(\.\d+)?(-[a-z0-9-]+)?")
ASKED_OF_PREFECT = """
import inspect, json
import prefect.cli.server, prefect.cli.worker
from prefect.settings import Settings
from prefect.settings.legacy import _get_settings_fields
print(json.dumps({
    "names": sorted(_get_settings_fields(Settings)),
    "tuned": Settings().server.services.task_run_recorder.batch_size,
    "vacuum": sorted(Settings().server.services.db_vacuum.enabled),
    "server": sorted(inspect.signature(prefect.cli.server.start).parameters),
    "worker": sorted(inspect.signature(prefect.cli.worker.start).parameters),
}))
"""


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def environment(name: str) -> dict[str, str]:
    return dict(services()[name].get("environment") or {})


def variables(text: str) -> Iterator[re.Match[str]]:
    """Everything that compose fills in."""
    return VARIABLE.finditer(text.replace("$$", ""))


def example(name: str) -> dict[str, str]:
    """Variables of an example, those in comments included."""
    lines = (line.lstrip("#") for line in (DEPLOY / name).read_text().splitlines())
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", "\n".join(lines), flags=re.MULTILINE))


def filled(values: Mapping[str, str]) -> dict[str, str]:
    """As compose hands them over, with ``x`` for every secret."""
    return {
        name: VARIABLE.sub(lambda m: m["word"] if m["how"] == ":-" else "x:y", str(value))
        for name, value in values.items()
    }


@cache
def prefect_says() -> dict[str, Any]:
    """What the installed Prefect knows, and makes of the server's environment."""
    told = {**filled(environment("server")), "PATH": "/usr/bin", "HOME": "/nonexistent"}
    told["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = "postgresql+asyncpg://x:y@postgres:5432/x"
    command = [sys.executable, "-c", ASKED_OF_PREFECT]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_every_setting_of_prefect_is_one() -> None:
    names = {name for each in services() for name in environment(each)}
    ours = {name for name in names if name.startswith("PREFECT_")}

    assert ours - REDIS <= set(prefect_says()["names"])
    assert len(ours) > 20
    assert prefect_says()["tuned"] == 500
    assert prefect_says()["vacuum"] == ["events", "flow_runs"]


def test_the_commands_have_the_options_that_prefect_has() -> None:
    words = [word for each in services().values() for word in each.get("command") or ()]

    assert "no_services" in prefect_says()["server"]
    assert "with_healthcheck" in prefect_says()["worker"]
    assert {"--no-services", "--with-healthcheck"} <= set(words)


def test_what_is_switched_off_in_the_ui_stays_off_whenever_it_comes_up_again() -> None:
    said = services()["deploy"]["command"][-1].splitlines()

    assert "nightkiln deploy" in said
    assert not any("prefect" in line and " deploy" in line for line in said)


def test_servers_and_workers_are_tuned_as_those_of_nightkiln_up() -> None:
    for name in SERVERS:
        assert environment(name).items() >= SERVER_TUNED.items()
    assert environment("worker").items() >= WORKER_TUNED.items()


def test_nothing_is_in_it_that_compose_does_not_know() -> None:
    whole = yaml.safe_load(COMPOSE.read_text())

    assert {key for key in whole if not key.startswith("x-")} == {"name", "services", "volumes"}
    for name, service in services().items():
        assert service.keys() <= KNOWN, name
        assert all(isinstance(value, str) for value in environment(name).values()), name
        assert isinstance(service.get("command", []), list), name


def test_every_image_is_pinned() -> None:
    [base] = re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)

    for image in (base, *(service["image"] for service in services().values())):
        assert PINNED.fullmatch(image), image


def test_the_image_is_made_of_what_the_checkout_has() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (.+)$", text, flags=re.MULTILINE)]

    for source in (source for each in copied for source in each):
        assert (DEPLOY.parent / source).exists(), source
    assert "--require-hashes -r /tmp/requirements.lock" in text
    assert "USER nightkiln" in text


def test_no_secret_is_in_it_and_without_one_it_does_not_start() -> None:
    asked = {match["name"]: match["how"] for match in variables(COMPOSE.read_text())}

    assert {name for name, how in asked.items() if how == ":?"} == {
        "POSTGRES_PASSWORD", "PREFECT_AUTH",
    }  # fmt: skip
    assert asked.keys() == example(".env.example").keys()
    for name in ("POSTGRES_PASSWORD", "PREFECT_AUTH"):
        assert example(".env.example")[name] == ""
    for name in services():
        for key, value in environment(name).items():
            if re.search("PASSWORD|AUTH|KEY|TOKEN|SECRET|CONNECTION_URL", key):
                assert ":?" in str(value), f"{name}: {key}"
    ignored = (DEPLOY.parent / ".gitignore").read_text().splitlines()
    assert {"deploy/.env", "deploy/worker.env"} <= set(ignored)


def test_keys_of_the_flows_are_told_to_the_prefect_worker_alone() -> None:
    files = {name: each["env_file"] for name, each in services().items() if "env_file" in each}
    keys = example("worker.env.example")

    assert files == {"worker": [{"path": "worker.env", "required": False}]}
    assert "VAST_API_KEY" in keys
    assert not any(value for name, value in keys.items() if re.search("KEY|TOKEN|SECRET", name))
    for name in services():
        assert not environment(name).keys() & keys.keys()


def test_the_page_is_reached_from_this_computer_alone_unless_somebody_says_otherwise() -> None:
    published = [port for service in services().values() for port in service.get("ports", ())]

    assert published == ["${PREFECT_BIND:-127.0.0.1}:${PREFECT_PORT:-4200}:4200"]


def test_each_part_waits_for_what_it_needs_and_says_how_it_is() -> None:
    found = services()
    for name, service in found.items():
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] in CONDITIONS
            if how["condition"] == "service_healthy":
                assert found[needed]["healthcheck"]["test"]
            if how["condition"] == "service_completed_successfully":
                assert found[needed]["restart"] == "no"
        ends = name in ENDS
        assert service["restart"] == ("no" if ends else "unless-stopped"), name
        assert ends or name == "services" or "healthcheck" in service, name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
    assert in_order(found) == list(dict.fromkeys(in_order(found)))


def in_order(found: Mapping[str, Any]) -> list[str]:
    """Services as they can be started; fails if two wait for each other."""
    begun: list[str] = []
    while len(begun) < len(found):
        ready = [
            name
            for name, service in found.items()
            if name not in begun and set(service.get("depends_on", {})) <= set(begun)
        ]
        assert ready, "they wait for each other"
        begun += ready
    return begun


def test_what_must_outlive_a_container_is_in_a_volume() -> None:
    named = set(yaml.safe_load(COMPOSE.read_text())["volumes"])
    mounted = {
        volume.partition(":/")[0]
        for service in services().values()
        for volume in service.get("volumes", ())
    }

    assert named == {"postgres", "redis", "state", "store"}
    assert {"postgres", "redis", "state", "${NIGHTKILN_STORE_FOLDER:-store}"} <= mounted
    assert services()["worker"]["stop_grace_period"] == "2m"
