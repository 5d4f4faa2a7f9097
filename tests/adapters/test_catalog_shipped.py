"""The catalogs that come with the project: sound as they are, and easy to run small."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightkiln.catalog import (
    check,
    definitions_for,
    load_catalog,
    plan_jobs,
    scratch,
    stream_jobs,
)

CATALOGS = Path(__file__).parents[2] / "catalogs"
SMALL = {"checkpoint": "tiny.safetensors", "steps": "1", "width": "64", "height": "64"}


@pytest.mark.parametrize(("name", "count"), [("parti", 1632), ("demo", 24), ("smoke", 8)])
def test_a_shipped_catalog_is_sound_and_every_prompt_is_a_job(name: str, count: int) -> None:
    catalog = load_catalog(CATALOGS / name)

    with scratch() as con:
        problems = check(catalog, definitions_for(catalog), con)
        planned = plan_jobs(con, catalog, batch="night")
        first = next(stream_jobs(con, catalog, "planned"))

    assert problems == []
    assert planned.rows == count
    assert planned.jobs > 0.99 * count  # a benchmark may ask for the same picture twice
    assert catalog.template.bind(first).outputs_expected == 1


@pytest.mark.parametrize("name", ["parti", "demo", "smoke"])
def test_a_shipped_catalog_runs_small_on_any_checkpoint(name: str) -> None:
    catalog = load_catalog(CATALOGS / name).with_overrides(SMALL)

    with scratch() as con:
        plan_jobs(con, catalog, batch="night")
        first = next(stream_jobs(con, catalog, "planned"))
        graph = catalog.template.bind(first).graph

    assert graph["1"]["inputs"]["ckpt_name"] == "tiny.safetensors"
    assert graph["4"]["inputs"] == {"width": 64, "height": 64, "batch_size": 1}
    assert graph["5"]["inputs"]["steps"] == 1
