"""Models that lie here, disks that are too small, catalogs that are nobody's business."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from nightkiln.catalog import load_catalog, read_catalog, scratch
from nightkiln.catalog.checks import check
from nightkiln.catalog.definitions import definitions_for
from nightkiln.catalog.models import DISK_SPARE_GB, SENT_BYTES_MAX
from nightkiln.core.errors import BadInput
from nightkiln.store.store import Store
from nightkiln.testing.samples import write_catalog
from nightkiln.traffic import expected_load

LORA = b"a small model" * 1000
LORA_SHA256 = hashlib.sha256(LORA).hexdigest()


def with_model(folder: Path, **model: Any) -> Path:
    (folder / "mine.safetensors").write_bytes(LORA)
    entry = {"path": "loras/mine.safetensors", "file": "mine.safetensors", **model}
    return write_catalog(folder / "catalog", 2, environment={"models": [entry]})


def told(folder: Path) -> str:
    with pytest.raises(BadInput) as caught:
        load_catalog(folder)
    return str(caught.value)


def checked(folder: Path) -> str:
    catalog = load_catalog(folder)
    with scratch() as con:
        return "\n".join(str(each) for each in check(catalog, definitions_for(catalog), con))


def test_a_model_that_lies_here_has_its_size_and_digest_from_its_bytes(tmp_path: Path) -> None:
    folder = with_model(tmp_path, file="../mine.safetensors")

    [model] = load_catalog(folder).environment.models

    assert model.file == tmp_path / "mine.safetensors"
    assert (model.sha256, model.gb) == (LORA_SHA256, len(LORA) / 1e9)


def test_what_lies_here_is_counted_with_what_a_machine_has_to_get(tmp_path: Path) -> None:
    catalog = load_catalog(with_model(tmp_path, file="../mine.safetensors"))
    store = Store.open(str(tmp_path / "store"), create=True)

    load = expected_load(catalog, store, image_gb=1.0)

    assert load.models_gb == pytest.approx(len(LORA) / 1e9)


def test_a_local_model_is_the_same_environment_as_the_same_model_from_elsewhere(
    tmp_path: Path,
) -> None:
    here = load_catalog(with_model(tmp_path, file="../mine.safetensors")).environment
    entry = {"path": "loras/mine.safetensors", "url": "https://x", "sha256": LORA_SHA256}
    there = load_catalog(write_catalog(tmp_path / "b", 1, environment={"models": [entry]}))

    assert here.digest == there.environment.digest


def test_another_file_under_the_same_name_makes_other_jobs(tmp_path: Path) -> None:
    folder = with_model(tmp_path, file="../mine.safetensors")
    before = load_catalog(folder).environment.digest

    (tmp_path / "mine.safetensors").write_bytes(LORA[:-1] + b"!!")

    assert load_catalog(folder).environment.digest != before


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"file": "../gone.safetensors"}, "gone.safetensors cannot be read"),
        ({"file": ".."}, "is no file"),
        ({"file": "../mine.safetensors", "sha256": "0" * 64}, LORA_SHA256),
        ({"file": "../mine.safetensors", "url": "https://x"}, "not from both"),
    ],
)
def test_a_local_model_that_cannot_be_sent_is_told_before_anything_is_rented(
    model: dict[str, Any], said: str, tmp_path: Path
) -> None:
    assert said in told(with_model(tmp_path, **model))


def test_a_model_too_large_to_send_to_every_machine_is_to_have_a_url(tmp_path: Path) -> None:
    folder = with_model(tmp_path, file="../mine.safetensors")
    with (tmp_path / "mine.safetensors").open("r+b") as file:
        file.truncate(SENT_BYTES_MAX + 1)  # takes no room: it is all holes

    assert "up to 2 GB are sent (put it where machines can download it" in told(folder)


def test_a_missing_model_does_not_hide_what_else_is_wrong(tmp_path: Path) -> None:
    folder = with_model(tmp_path, file="../gone.safetensors")
    (folder / "workflow.json").write_text("{}")

    _, problems = read_catalog(folder)

    assert len(problems) >= 2


@pytest.mark.parametrize(("disk_gb", "is_told"), [(10.9, True), (11.0, False), ("auto", False)])
def test_a_disk_that_cannot_hold_the_models_is_told_before_money_is_spent(
    disk_gb: Any,
    is_told: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    models = [{"path": "checkpoints/tiny.safetensors", "gb": 11.0 - DISK_SPARE_GB}]
    folder = write_catalog(tmp_path, 1, needs={"disk_gb": disk_gb}, environment={"models": models})

    assert ("needs.disk_gb: 10.9 GB cannot hold 7.0 GB of models" in checked(folder)) is is_told


@pytest.mark.parametrize(
    ("keys", "trust"),
    [
        ({}, "any"),
        ({"needs": {"trust": "verified"}}, "verified"),
        ({"private": True}, "datacenter"),
        ({"private": True, "needs": {"trust": "any"}}, "datacenter"),
        ({"private": False, "needs": {"trust": "datacenter"}}, "datacenter"),
    ],
)
def test_what_is_private_is_for_datacenters(
    keys: dict[str, Any], trust: str, tmp_path: Path
) -> None:
    assert load_catalog(write_catalog(tmp_path, 1, **keys)).need.trust == trust
