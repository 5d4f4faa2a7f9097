"""``nightkiln modal`` and what ``doctor`` says of it, against the fake Modal."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nightkiln import cli
from nightkiln.catalog import load_catalog
from nightkiln.core.errors import BadInput
from nightkiln.testing.modal import FakeModal
from nightkiln.testing.samples import write_catalog
from tests.adapters.modal_world import QUICK, a_modal, environ

WEIGHTS = b"weights"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
NODES = {"repo": "https://github.com/example/nodes", "ref": "v1.2"}


@contextmanager
def a_model_host() -> Iterator[str]:
    """Gives everybody the same weights; its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(WEIGHTS)))
            self.end_headers()
            self.wfile.write(WEIGHTS)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/x.safetensors"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("volume")


@pytest.fixture(scope="module")
def modal(volume: Path) -> Iterator[FakeModal]:
    told = {"NK_VOLUME": str(volume)}  # instead of /models of this computer
    with a_modal(rules=replace(QUICK, environment=told, has_disks=True)) as modal:
        yield modal


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with a_model_host() as url:
        model = {"path": "checkpoints/tiny.safetensors", "url": url, "sha256": SHA256}
        environment = {"comfyui": "0.3.75", "custom_nodes": [NODES], "models": [model]}
        folder = tmp_path_factory.mktemp("night") / "catalog"
        yield write_catalog(folder, 2, environment=environment)


@pytest.fixture(scope="module")
def deploy(modal: FakeModal, catalog: Path) -> Result:
    """The command, once for all who look at what it did."""
    assert modal.deployed("nightkiln") is None
    return called("modal", "deploy", str(catalog), "--json")


def called(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words))


def test_a_deploy_sends_what_the_catalog_asks_for_and_nothing_that_keeps_running(
    deploy: Result, modal: FakeModal, catalog: Path
) -> None:
    environment = load_catalog(catalog).environment

    assert deploy.exit_code == 0, deploy.output
    app = modal.deployed("nightkiln")
    assert app is not None
    comfy = app.functions["Comfy.*"]
    assert app.tag.endswith(f"-env-{environment.digest[:16]}")
    assert comfy.gpus == ("L40S", "A100-40GB")
    assert (comfy.timeout_s, comfy.startup_timeout_s, comfy.scaledown_s) == (600, 300, 15)
    assert (comfy.containers_min, comfy.containers_max, comfy.retries) == (0, 4, 0)
    assert (comfy.inputs_at_once, comfy.takes_snapshot, comfy.secret_count) == (1, False, 0)
    assert [(one.path, one.is_read_only) for one in comfy.volumes] == [("/models", True)]
    filling = app.functions["download_models"]
    assert [(one.path, one.is_read_only) for one in filling.volumes] == [("/models", False)]
    assert f"contract-2-environment-{environment.digest[:24]}" in app.functions


def test_the_image_is_pinned_to_the_environment_and_holds_no_secret(
    deploy: Result, modal: FakeModal
) -> None:
    assert deploy.exit_code == 0
    app = modal.deployed("nightkiln")
    assert app is not None
    comfy = app.functions["Comfy.*"]
    commands = "\n".join(comfy.image_commands)

    assert "--branch v0.3.75" in commands
    assert "https://github.com/example/nodes" in commands
    assert "checkout --quiet v1.2" in commands
    assert "torch==2.9.1" in commands
    told = json.dumps([commands, dict(comfy.image_environment)])
    assert modal.token[1] not in told
    assert not any("nightkiln/" in file.split("workers")[0] for file in comfy.files)
    assert any(file.endswith("workers/modal_app.py") for file in comfy.files)


def test_the_models_are_in_the_volume_by_their_checksum(deploy: Result, volume: Path) -> None:
    told = json.loads(deploy.stdout.splitlines()[-1])

    assert told["models_fetched"] == ["checkpoints/tiny.safetensors"]
    assert (volume / SHA256 / "tiny.safetensors").read_bytes() == WEIGHTS


def test_a_deploy_says_what_a_container_costs(deploy: Result) -> None:
    told = json.loads(deploy.stdout.splitlines()[-1])

    assert (told["version"], told["problem"]) == (1, None)
    assert told["usd_per_hour"] == pytest.approx({"L40S": 2.173392, "A100-40GB": 2.320992})
    assert told["basis"].startswith("rates of ")


def test_status_says_whether_the_app_is_for_a_catalog(
    deploy: Result, catalog: Path, tmp_path: Path
) -> None:
    other = write_catalog(tmp_path / "other", 1, environment={"comfyui": "0.3.60"})
    assert deploy.exit_code == 0

    here, there, any_ = (
        called("modal", "status", *words) for words in ([str(catalog)], [str(other)], [])
    )

    assert (here.exit_code, there.exit_code, any_.exit_code) == (0, 1, 0)
    assert "app nightkiln v1 is for this environment; L40S 2.17 USD an hour" in here.stdout
    assert "deployed for another environment; run: nightkiln modal deploy" in there.stdout
    assert "version 1 is deployed, for environment" in any_.stdout


@pytest.mark.parametrize("is_asked_for", [False, True])
def test_a_service_that_says_nothing_is_not_an_app_that_is_not_there(
    deploy: Result,
    modal: FakeModal,
    catalog: Path,
    is_asked_for: bool,  # noqa: FBT001
) -> None:
    assert deploy.exit_code == 0
    modal.add_faults("auth")

    result = called("modal", "status", *([str(catalog)] if is_asked_for else []))

    modal.lift_faults()
    assert result.exit_code == 3
    assert "modal token new" in result.stdout


def test_doctor_looks_for_the_app_and_shows_no_secret(
    deploy: Result, modal: FakeModal, catalog: Path, tmp_path: Path
) -> None:
    assert deploy.exit_code == 0

    result = called("doctor", str(catalog), "--store", str(tmp_path / "store"))

    assert "ok  modal: app nightkiln v1 is for this environment" in result.stdout
    assert modal.token[1] not in result.output


def test_doctor_says_what_to_do_where_there_is_no_token(tmp_path: Path) -> None:
    with environ({}):
        result = called("doctor", "--store", str(tmp_path / "store"))

    assert "modal: no token; for serverless GPUs, set MODAL_TOKEN_ID" in result.stdout


@pytest.mark.nights
def test_a_rollback_is_one_command(
    deploy: Result, modal: FakeModal, catalog: Path, tmp_path: Path
) -> None:
    other = write_catalog(tmp_path / "other", 1, environment={"comfyui": "0.3.60"})
    assert deploy.exit_code == 0
    with environ({**modal.env(), "NIGHTKILN_MODAL_SNAPSHOT": "true"}):
        called("modal", "deploy", str(other), "--no-models")
    newer = modal.deployed("nightkiln")
    assert newer is not None
    assert newer.functions["Comfy.*"].takes_snapshot
    assert called("modal", "status", str(catalog)).exit_code == 1

    result = called("modal", "rollback", "--json")

    assert json.loads(result.stdout)["is_done"] is True
    assert called("modal", "status", str(catalog)).exit_code == 0
    app = modal.deployed("nightkiln")
    assert app is not None
    assert app.versions[-1].rollback_of == 1


@pytest.mark.parametrize("words", [("deploy", "CATALOG"), ("status",), ("rollback",)])
def test_without_a_token_nothing_is_begun(words: tuple[str, ...], catalog: Path) -> None:
    given = [str(catalog) if word == "CATALOG" else word for word in words]
    with environ({}):
        result = called("modal", *given)

    assert isinstance(result.exception, BadInput)
    assert "set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET" in str(result.exception)


def test_a_catalog_that_names_no_version_is_not_deployed(modal: FakeModal, tmp_path: Path) -> None:
    assert modal.token
    unpinned = write_catalog(tmp_path / "unpinned", 1, environment={})

    result = called("modal", "deploy", str(unpinned))

    assert isinstance(result.exception, BadInput)
    assert "environment.comfyui: None is no version" in str(result.exception)


def test_a_comparison_goes_by_todays_rates_and_starts_no_container(
    modal: FakeModal, catalog: Path
) -> None:
    before = len(modal.containers)

    result = called("compare", str(catalog), "--provider", "modal", "--json")

    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert {row["basis_price"] for row in told["rows"]} == {"live"}
    assert told["prices"]["modal"].startswith("rates of ")
    assert len(modal.containers) == before
