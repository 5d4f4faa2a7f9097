"""What the fake knows of an app after the real SDK has deployed it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nightkiln.testing.modal import FakeModal
from nightkiln.testing.modal.views import VersionSeen, VolumeSeen
from tests.modal_fake.yard import Yard, until

COMMAND_S_MAX = 60.0
IN_CONTAINER = "/root"  # where Modal puts the file that defines an app
LONG_S = 3600  # of the story: a minute here


def modal_command(fake: FakeModal, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "modal", *words],
        env={**os.environ, **fake.env()},
        capture_output=True,
        text=True,
        timeout=COMMAND_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_was_sent_can_be_asserted(yard: Yard) -> None:
    name = yard.deploy(tag="git-1f")

    deployed = yard.fake.deployed(name)

    assert deployed is not None
    assert (deployed.version, deployed.tag, deployed.tags) == (1, "git-1f", {"purpose": "pots"})
    kiln = deployed.functions["Kiln.*"]
    assert kiln.gpus == ("L40S", "A100-40GB", "A10")
    assert (kiln.timeout_s, kiln.startup_timeout_s, kiln.scaledown_s) == (600, 1200, 240)
    assert (kiln.containers_min, kiln.containers_max, kiln.retries) == (0, 2, 0)
    assert (kiln.cores, kiln.gib, kiln.inputs_at_once) == (2.0, 1.0, 1)
    assert kiln.volumes == (VolumeSeen("clay", "/clay", is_read_only=True),)
    assert (kiln.secret_count, kiln.takes_snapshot, kiln.methods) == (1, True, ("fire",))
    assert kiln.image_environment == {"HUE": "dark red"}
    assert any("apt-get" in line for line in kiln.image_commands)
    assert kiln.files == (f"{IN_CONTAINER}/kiln_app.py",)


def test_the_sdk_can_ask_what_an_app_consists_of(yard: Yard) -> None:
    import modal

    name = yard.deploy()

    found = modal.App.lookup(name, client=yard.client).info()

    assert (set(found.functions), found.lifecycle.version) == ({"Kiln.*"}, 1)


def test_an_app_that_nobody_deployed_is_not_there(yard: Yard) -> None:
    assert yard.fake.deployed("nobody") is None


def test_a_container_has_what_was_sent_and_nothing_of_nightkiln(yard: Yard) -> None:
    answer = yard.fired(yard.kiln(), module="nightkiln")

    environment = answer["environment"]
    assert (environment["HUE"], environment["RECIPE"]) == ("dark red", "secret")
    assert environment["MODAL_TASK_ID"].startswith("ta-")
    assert "MODAL_TOKEN_SECRET" not in environment
    assert not answer["importable"]


def test_a_new_deploy_is_what_is_called_from_then_on_and_the_old_version_can_be_pinned(
    yard: Yard,
) -> None:
    name = yard.deploy(tag="old")
    assert yard.fired(yard.kiln(name))["fired"] == 1
    assert yard.fired(yard.kiln(name))["fired"] == 2

    yard.deploy(tag="new", name=name)

    assert yard.fired(yard.kiln(name))["fired"] == 1  # in a container of the new version
    assert yard.fired(yard.kiln(name, version=1))["fired"] == 1  # and one of the old
    deployed = yard.fake.deployed(name)
    assert deployed is not None
    assert [one.tag for one in deployed.versions] == ["old", "new"]


@pytest.mark.nights
def test_the_modal_command_goes_back_to_an_old_version(yard: Yard) -> None:
    name = yard.deploy(tag="old")
    yard.deploy(tag="new", name=name)

    kiln = yard.kiln(name)
    yard.fired(kiln)

    modal_command(yard.fake, "app", "rollback", name, "--strategy", "recreate")

    assert yard.containers(name)[0].phase == "ended"
    deployed = yard.fake.deployed(name)
    assert deployed is not None
    assert (deployed.version, deployed.tag) == (3, "old")
    assert deployed.versions[-1] == VersionSeen(
        3, "old", deployed.versions[0].commit, rollback_of=1
    )
    assert "old" in modal_command(yard.fake, "app", "history", name)


def test_the_modal_command_stops_an_app_and_its_containers(yard: Yard) -> None:
    name = yard.deploy()
    call = yard.fire(yard.kiln(name, timeout=LONG_S), seconds=60)
    until(lambda: yard.seen(call).runs)

    modal_command(yard.fake, "app", "stop", name, "--yes")

    assert yard.fake.deployed(name) is None
    assert yard.seen(call).statuses == ("TERMINATED",)
    until(lambda: all(one.phase == "ended" for one in yard.containers(name)))
