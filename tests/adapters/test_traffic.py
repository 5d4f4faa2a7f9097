"""What goes over the wire is taken from whoever knows it best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nightkiln.core.errors import BadInput
from nightkiln.core.terms import Load
from nightkiln.store.store import Store
from nightkiln.testing.samples import write_catalog
from nightkiln.traffic import expected_load
from nightkiln.wiring import chosen_catalog


def load_of(folder: Path, models: list[dict[str, Any]], image_gb: float | None = None) -> Load:
    catalog = write_catalog(folder / "catalog", 3, environment={"models": models})
    store = Store.open(str(folder / "store"), create=True)
    return expected_load(chosen_catalog(catalog), store, image_gb=image_gb)


def test_where_nobody_knows_anything_the_dated_priors_speak(tmp_path: Path) -> None:
    models = [{"path": "checkpoints/tiny.safetensors"}, {"path": "loras/style.safetensors"}]

    load = load_of(tmp_path, models)

    assert load.image_gb == 12.0
    assert load.result_gb == pytest.approx(0.0016)
    assert load.models_gb == pytest.approx(6.94 + 1.0)


def test_the_catalog_knows_its_models_and_the_settings_their_image(tmp_path: Path) -> None:
    models = [{"path": "checkpoints/a.safetensors", "gb": 2.5}, {"path": "vae/b.pt", "gb": 0.3}]

    load = load_of(tmp_path, models, image_gb=5.0)

    assert load.image_gb == 5.0
    assert load.models_gb == pytest.approx(2.8)


def test_a_batch_without_models_downloads_none(tmp_path: Path) -> None:
    assert load_of(tmp_path, []).models_gb == 0


@pytest.mark.parametrize("gb", [0, -1.0, float("inf"), float("nan"), "7 GB"])
def test_a_size_that_cannot_be_is_refused(tmp_path: Path, gb: Any) -> None:
    with pytest.raises(BadInput, match="gb"):
        load_of(tmp_path, [{"path": "checkpoints/a.safetensors", "gb": gb}])


def test_a_size_says_nothing_about_the_pixels(tmp_path: Path) -> None:
    digests = set()
    for gb in ({}, {"gb": 6.94}):
        models = [{"path": "checkpoints/a.safetensors", **gb}]
        folder = write_catalog(tmp_path / str(len(gb)), 3, environment={"models": models})
        digests.add(chosen_catalog(folder).environment.digest)

    assert len(digests) == 1
