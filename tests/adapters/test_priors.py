"""What is believed before anything is measured: dated, with a source, and nothing left unsaid."""

from __future__ import annotations

from dataclasses import fields
from importlib import resources

import pytest

from nightkiln.core.errors import BadInput
from nightkiln.core.learning import Knowledge
from nightkiln.core.model import Offer
from nightkiln.core.priors import Priors
from nightkiln.core.terms import Load
from nightkiln.priors import parse_priors, shipped_priors, shipped_traffic

SHIPPED = (resources.files("nightkiln") / "data" / "priors.toml").read_text()


def problems(text: str) -> str:
    with pytest.raises(BadInput) as found:
        parse_priors(text, where="mine.toml")
    return str(found.value)


def changed(old: str, new: str) -> str:
    assert old in SHIPPED
    return SHIPPED.replace(old, new, 1)


def test_the_shipped_file_holds_the_values_that_the_core_names() -> None:
    shipped, named = shipped_priors(), Priors()

    for each in fields(Priors):
        if each.name != "seconds_per_job":
            assert getattr(shipped, each.name) == getattr(named, each.name), each.name


@pytest.mark.parametrize(
    ("gpu", "seconds"),
    [
        ("NVIDIA GeForce RTX 4090", 4.4),
        ("RTX_3090", 8.0),
        ("A100 SXM4 80GB", 5.0),
        ("NVIDIA H100 80GB HBM3", 3.0),
        ("Never Heard Of It", 6.0),
    ],
)
def test_a_gpu_is_known_by_any_of_its_names(gpu: str, seconds: float) -> None:
    knowledge = Knowledge(shipped_priors(), Load())

    assert knowledge.pace(Offer("cloud", "x", gpu))[0] == pytest.approx(seconds)


def test_other_families_of_workflows_have_figures_of_their_own() -> None:
    assert shipped_priors("flux-dev").seconds_per_job["RTX 4090"] == 14.0
    assert shipped_priors("sd15").seconds_per_job["RTX 4090"] == 1.0
    with pytest.raises(BadInput, match=r"no such family of workflows .*flux-schnell, sd15, sdxl"):
        shipped_priors("sd3")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("value = 4.4", "value = -1.0", "sdxl.RTX 4090: -1.0 is not above 0"),
        ("value = 4.4", "value = nan", "nan is not above 0"),
        ("value = 4.4", 'value = "4"', "'4' is not above 0"),
        ('provenance = "measured"', 'provenance = "hearsay"', "provenance is one of derived"),
        ('date = "2026-11-21"', 'date = "last year"', "a date as YYYY-MM-DD"),
        ('unit = "s / image", ', "", "a figure has date, provenance, unit, value"),
        ("job_sigma", "jab_sigma", "beliefs.jab_sigma: nobody knows what this is"),
        ("job_sigma", "jab_sigma", "beliefs.job_sigma: missing"),
        ("cached_share = { value = 0.2", "cached_share = { value = 1.2", "at most 1"),
        ('default = "sdxl"', 'default = "sd3"', "meta.default: is no family"),
        ("[names]", "[nomes]", "tables: must be beliefs, meta, names, seconds_per_image"),
        ("version = 1", "version = 2", "version 1"),
        ('workload = "512', 'work = "512', "sd15: must say its workload"),
        ("[meta]", "[meta", "mine.toml"),
        ('A10G = ["A10"]', 'A10G = "A10"', "names.A10G: is no list of names"),
    ],
)
def test_a_figure_that_is_wrong_or_of_unsaid_origin_is_refused(
    old: str, new: str, said: str
) -> None:
    assert said in problems(changed(old, new))


def test_what_goes_over_the_wire_has_dated_figures_too() -> None:
    assert shipped_traffic()["image_gb"] == 12.0
    assert "traffic.image_gb: missing" in problems(changed("\nimage_gb =", "\nimages_gb ="))
    assert "nobody knows" in problems(changed("\nimage_gb =", "\nimages_gb ="))
    assert "traffic.model_gb" in problems(
        changed("model_gb = { value = 1.0", "model_gb = { value = -1")
    )
