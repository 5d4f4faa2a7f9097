"""Settings: where they come from, and that no secret is ever shown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.errors import BadInput
from nightkiln.settings import load_settings

KEY = "a1b2c3d4e5f60718a1b2c3d4e5f60718"
KEYS = st.text("0123456789abcdef", min_size=32, max_size=64)


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Nothing of ours but this."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("NIGHTKILN_", "VAST_", "XDG_")):
            del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({}, None),
        ({"VAST_API_KEY": KEY}, KEY),
        ({"NIGHTKILN_VAST_API_KEY": KEY}, KEY),
        ({"NIGHTKILN_VAST_API_KEY": KEY, "VAST_API_KEY": "other"}, KEY),
        ({"VAST_API_KEY": f" {KEY}\n"}, KEY),
        ({"VAST_API_KEY": ""}, None),
        ({"NIGHTKILN_VAST_API_KEY": "", "VAST_API_KEY": KEY}, None),
    ],
)
def test_a_key_of_ours_comes_before_the_usual_one_and_an_empty_one_is_none(
    variables: Mapping[str, str], key: str | None
) -> None:
    with environment(**variables):
        found = load_settings().vast_api_key

    assert (found.get_secret_value() if found is not None else None) == key


@given(KEYS)
def test_a_key_is_never_in_what_settings_print(key: str) -> None:
    with environment(VAST_API_KEY=key):
        settings = load_settings()

    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert settings.vast_api_key is not None
    assert key not in shown


@pytest.mark.parametrize("key", [f"{KEY} {KEY}", f"{KEY}\r\nX: y", KEY * 100, f"{KEY}ü"])
def test_what_cannot_be_a_key_is_refused_without_being_shown(key: str) -> None:
    with environment(VAST_API_KEY=key), pytest.raises(BadInput) as caught:
        load_settings()

    assert "setting vast_api_key" in str(caught.value)
    assert KEY not in str(caught.value)


def test_lists_are_given_with_commas_and_kinds_have_names() -> None:
    with environment(
        NIGHTKILN_VAST_REGIONS="EU, US",
        NIGHTKILN_VAST_MACHINES_NOT="4711,4712",
        NIGHTKILN_VAST_KINDS="interruptible",
        NIGHTKILN_PROVIDERS="vast",
    ):
        settings = load_settings()

    assert settings.vast_regions == ("EU", "US")
    assert settings.vast_machines_not == ("4711", "4712")
    assert settings.vast_kinds == ("interruptible",)
    assert settings.providers == ("vast",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLEET", "Main"),
        ("FLEET", ""),
        ("FLEET", "a-b"),
        ("FLEET", "a" * 13),
        ("DEADMAN_S", "10"),
        ("VAST_KINDS", "reserved"),
        ("VAST_KINDS", ""),
        ("VAST_URL", "console.vast.ai"),
        ("VAST_URL", "https://me:secret@console.vast.ai"),
        ("VAST_RELIABILITY_MIN", "98"),
        ("VAST_BID_PREMIUM", "0.5"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(name: str, value: str) -> None:
    with environment(**{f"NIGHTKILN_{name}": value}), pytest.raises(BadInput) as caught:
        load_settings()

    assert f"setting {name.lower()}" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"HOME": "/home/me"}, "/home/me/.local/state/nightkiln"),
        ({"HOME": "/home/me", "XDG_STATE_HOME": "/var/me"}, "/var/me/nightkiln"),
        ({"HOME": "/home/me", "XDG_STATE_HOME": "state"}, "/home/me/.local/state/nightkiln"),
        ({"HOME": "/home/me", "NIGHTKILN_STATE": "~/kiln"}, "/home/me/kiln"),
    ],
)
def test_what_is_rented_is_remembered_where_the_user_keeps_such_things(
    variables: Mapping[str, str], folder: str
) -> None:
    with environment(**variables):
        assert load_settings().state_folder == Path(folder)


def test_the_address_of_a_service_ends_without_a_slash() -> None:
    with environment(NIGHTKILN_VAST_URL="http://127.0.0.1:9/"):
        assert load_settings().vast_url == "http://127.0.0.1:9"
