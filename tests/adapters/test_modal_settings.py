"""What can be set about Modal, and when it is used at all."""

from __future__ import annotations

import pytest

from nightkiln.core.errors import BadInput
from nightkiln.places import modal_terms, provider_names
from nightkiln.settings import load_settings
from tests.adapters.modal_world import environ

TOKEN = {"MODAL_TOKEN_ID": "ak-mine", "MODAL_TOKEN_SECRET": "as-secret"}


def names(variables: dict[str, str], **flags: object) -> tuple[str, ...]:
    with environ(variables):
        return provider_names(load_settings(**flags))


def test_a_token_is_taken_from_where_modal_itself_looks_and_never_shown() -> None:
    with environ(TOKEN):
        settings = load_settings()

    assert settings.has_modal
    assert "as-secret" not in repr(settings)


def test_a_token_without_a_budget_is_not_used() -> None:
    worker = ["http://127.0.0.1:8188"]

    assert names(TOKEN, worker_urls=worker) == ("local",)
    assert names(TOKEN, worker_urls=worker, budget="1") == ("local", "modal")
    assert names(TOKEN, worker_urls=worker, budget="1", fallback="never") == ("local",)


def test_half_a_token_is_none() -> None:
    half = {"MODAL_TOKEN_ID": "ak-mine"}

    with pytest.raises(BadInput, match="there is no token"):
        names(half, providers=["modal"])


def test_providers_are_named_with_commas_or_one_by_one() -> None:
    vast = {"NIGHTKILN_VAST_API_KEY": "a-key"}

    assert names(TOKEN | vast, providers=["vast,modal"]) == ("vast", "modal")
    assert names(TOKEN | vast, providers=["modal", " vast , modal"]) == ("modal", "vast")


def test_beside_others_a_modal_without_a_token_is_left_out() -> None:
    vast = {"NIGHTKILN_VAST_API_KEY": "a-key"}

    assert names(vast, providers=["vast,modal"]) == ("vast",)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"modal_gpus": "L40S,A100 40GB"}, "is no name of one GPU"),
        ({"modal_gpus": ""}, "modal_gpus"),
        ({"modal_max_containers": 0}, "modal_max_containers"),
        ({"modal_scaledown_s": 1}, "modal_scaledown_s"),
        ({"modal_token_secret": "as two words"}, "nothing of it is shown"),
        ({"modal_app": "a b"}, "modal_app"),
    ],
)
def test_what_makes_no_sense_is_told_by_name(flags: dict[str, object], says: str) -> None:
    with environ({}), pytest.raises(BadInput, match=says) as error:
        load_settings(**flags)

    assert "two words" not in str(error.value)


def test_settings_become_terms() -> None:
    with environ({"NIGHTKILN_MODAL_GPUS": "L4, A10", "NIGHTKILN_MODAL_MEMORY_GIB": "32"}):
        terms = modal_terms(load_settings(modal_result_mb_max=2))

    assert terms.gpus == ("L4", "A10")
    assert (terms.memory_mib, terms.result_bytes_max) == (32768, 2 * 2**20)
