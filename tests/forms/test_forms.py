"""The forms of the deployments: what Prefect draws, and what its server refuses by itself."""

from __future__ import annotations

import importlib
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from nightkiln.core.model import Trust
from nightkiln.core.terms import AtCap, Fallback, Late
from nightkiln.settings import load_settings
from nightkiln.testing.samples import write_catalog
from nightkiln.wiring import chosen_catalog

FLOWS = ["nightly", "adhoc", "retry", "quote", "rehearse", "reap", "maintain"]


def schema_of(name: str) -> dict[str, Any]:
    """What Prefect's server is given with a deployment of this flow."""
    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    return dict(flow.parameters.model_dump())


def fields_of(name: str, box: str) -> dict[str, dict[str, Any]]:
    """The fields of one box of a form."""
    return dict(schema_of(name)["definitions"][box]["properties"])


@pytest.mark.parametrize("name", FLOWS)
def test_every_field_of_every_form_is_explained_and_shows_its_default(name: str) -> None:
    for box, one in schema_of(name)["definitions"].items():
        for field, shown in one["properties"].items():
            assert shown["description"], (box, field)
            assert shown["title"], (box, field)
            is_asked_for = field in one.get("required", [])
            assert ("default" in shown) != is_asked_for, (box, field)


@pytest.mark.parametrize("name", FLOWS)
def test_fields_stand_in_the_form_as_in_their_class_and_take_nothing_else(name: str) -> None:
    for box, one in schema_of(name)["definitions"].items():
        places = [shown["position"] for shown in one["properties"].values()]
        assert len(set(places)) == len(places), box
        assert one["additionalProperties"] is False, box


@pytest.mark.parametrize("name", FLOWS)
def test_tabs_are_drawn_where_providers_have_options_and_nowhere_else(name: str) -> None:
    tabs = {
        field: [each["$ref"].rpartition("/")[2] for each in shown["anyOf"]]
        for one in schema_of(name)["definitions"].values()
        for field, shown in one["properties"].items()
        if "anyOf" in shown
    }

    expected = ["AsSetUp", "LocalOptions", "VastOptions", "ModalOptions", "SeveralOptions"]
    assert tabs == ({"options": expected} if name in {"nightly", "adhoc", "retry", "quote"} else {})


def test_a_retry_asks_for_nothing_that_has_no_effect_on_it() -> None:
    run, retry = fields_of("nightly", "BatchParams"), fields_of("retry", "RetryParams")

    assert set(run) - set(retry) == {"fresh", "controllers"}
    assert set(retry) - set(run) == {"where", "force", "reseed"}


def test_choices_are_dropdowns_of_the_words_that_the_library_knows() -> None:
    fields = fields_of("nightly", "BatchParams")

    for field, words in {
        "fallback": Fallback,
        "late": Late,
        "at_cap": AtCap,
        "trust": Trust,
    }.items():
        assert fields[field]["enum"] == ["", *(word.value for word in words)]
    assert fields["providers"]["items"]["enum"] == ["local", "vast", "modal"]


def test_whoever_lets_any_host_render_is_told_who_sees_the_prompts() -> None:
    said = fields_of("nightly", "BatchParams")["trust"]["description"]

    assert "any host sees your prompts" in said


def test_what_is_left_alone_is_as_it_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.params import BatchParams

    monkeypatch.setenv("NIGHTKILN_BUDGET", "3.5")
    monkeypatch.setenv("NIGHTKILN_WORKER_URLS", "http://a:1,http://b:2")

    assert BatchParams(catalog=Path("catalog")).settings() == load_settings()


def test_what_the_form_says_wins_over_what_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.params import BatchParams

    monkeypatch.setenv("NIGHTKILN_BUDGET", "3.5")
    given = {
        "catalog": "catalog",
        "store": "s3://bucket/night",
        "budget": 12,
        "by": "07:00",
        "trust": "verified",
        "fallback": "only",
        "providers": ["vast", "modal"],
    }

    settings = BatchParams.model_validate(given).settings()

    assert (settings.store, settings.by) == ("s3://bucket/night", "07:00")
    assert settings.budget == Decimal(12)
    assert (settings.trust, settings.fallback) == ("verified", "only")
    assert settings.providers == ("vast", "modal")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kind": "local", "worker_urls": ["http://a:1"]}, {"worker_urls": ("http://a:1",)}),
        (
            {"kind": "vast", "usd_per_hour_max": 0.4, "gpus": ["RTX 4090"]},
            {"vast_usd_per_hour_max": Decimal("0.4"), "vast_gpus": ("RTX 4090",)},
        ),
        ({"kind": "modal", "max_containers": 7}, {"modal_max_containers": 7}),
        (
            {"kind": "several", "vast": {"regions": ["EU"]}, "modal": {"app": "other"}},
            {"vast_regions": ("EU",), "modal_app": "other"},
        ),
    ],
)
def test_a_tab_sets_what_stands_in_it_and_leaves_the_rest(
    options: dict[str, Any], expected: dict[str, Any]
) -> None:
    from tasks.params import BatchParams

    params = BatchParams.model_validate({"catalog": "catalog", "options": options})

    assert params.options.kind == options["kind"]
    assert params.settings() == load_settings().model_copy(update=expected)


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        *((text, True) for text in ("", "07:00", "2h", "1h30m", "1.5h", "90s", "2026-12-24T07:00")),
        *(
            (text, True)
            for text in ("2026-12-24", "2026-12-24 07:00:00Z", "2026-12-24T07:00+01:00")
        ),
        *(
            (text, False)
            for text in ("7", "25:00", "7 am", "tomorrow", "2 h", "07:00\n", "h", "-2h")
        ),
    ],
)
def test_a_deadline_that_is_no_time_is_no_value_of_the_form(text: str, *, is_taken: bool) -> None:
    pattern = fields_of("nightly", "BatchParams")["by"]["pattern"]

    assert (re.search(pattern.replace("$", r"\Z"), text) is not None) == is_taken


def test_a_run_asks_for_more_trust_than_its_catalog_and_never_for_less(tmp_path: Path) -> None:
    folder = write_catalog(tmp_path / "catalog", 1)
    catalog = chosen_catalog(folder, settings=load_settings(trust="verified"))

    assert catalog.need.trust == "verified"
    assert catalog.with_trust(Trust.ANY).need.trust == "verified"
    assert catalog.with_trust(Trust.DATACENTER).need.trust == "datacenter"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"by": "07:00", "budget": 12}, "parti 2026-11-21 by 07:00 <= $12"),
        ({"budget": 2.5, "timezone": "Pacific/Kiritimati"}, "parti 2026-11-22 <= $2.50"),
        ({"name": "portraits", "by": "2h"}, "portraits by 2h"),
        ({"timezone": "Europe/Atlantis"}, "parti 2026-11-21"),
        ({"budget": 1500}, "parti 2026-11-21 <= $1,500"),
    ],
)
def test_a_runs_name_says_what_it_is(given: dict[str, Any], name: str) -> None:
    from tasks.names import name_of, settings_of
    from tasks.params import BatchParams

    params = BatchParams.model_validate({"catalog": "catalogs/parti", **given})

    now = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)
    assert name_of(params, settings_of(params), now) == name


def test_a_runs_tags_say_its_catalog_and_where_it_may_render() -> None:
    from tasks.names import tags_of

    settings = load_settings(worker_urls=["http://a:1"], budget="3", vast_api_key="key")

    assert tags_of("parti", settings) == ("catalog:parti", "provider:local", "provider:vast")


def test_a_night_that_is_retried_after_midnight_is_still_that_night(tmp_path: Path) -> None:
    from uuid import uuid4

    from prefect.client.schemas.objects import FlowRun
    from prefect.context import FlowRunContext

    from tasks.asked import request_of
    from tasks.params import BatchParams

    params = BatchParams(catalog=write_catalog(tmp_path / "sample", 1), timezone="Asia/Tokyo")
    first = FlowRun(flow_id=uuid4(), start_time=datetime(2026, 11, 21, 23, 30, tzinfo=UTC))

    with FlowRunContext.model_construct(flow_run=first):  # type: ignore[call-arg]
        request = request_of(params, params.settings(), is_nightly=True)

    assert (request.name, request.is_nightly) == ("sample-2026-11-22", True)


def test_who_asks_about_another_run_after_midnight_is_told_of_its_night(tmp_path: Path) -> None:
    from uuid import uuid4

    from prefect.client.schemas.objects import FlowRun
    from prefect.context import FlowRunContext

    from tasks.asked import request_of
    from tasks.params import BatchParams

    params = BatchParams(catalog=write_catalog(tmp_path / "sample", 1), timezone="UTC")
    crashed = datetime(2026, 11, 21, 23, 10, tzinfo=UTC)
    asks = FlowRun(flow_id=uuid4(), start_time=datetime(2026, 11, 22, 1, tzinfo=UTC))

    with FlowRunContext.model_construct(flow_run=asks):  # type: ignore[call-arg]
        request = request_of(params, params.settings(), is_nightly=True, began=crashed)

    assert (request.name, request.is_nightly) == ("sample-2026-11-21", True)
