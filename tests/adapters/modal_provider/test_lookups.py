"""First contact: who is refused, by whom, how soon, and with what to do next."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from nightkiln.core.errors import ProviderError
from nightkiln.providers.modal import Kind, ModalFailed, ModalProvider
from nightkiln.providers.modal.deploying import modal_command
from nightkiln.testing.modal import FakeModal
from tests.adapters.modal_provider.bench import a_bench
from tests.adapters.modal_world import (
    ENVIRONMENT,
    NEED,
    OTHER,
    TERMS,
    a_modal,
    a_provider,
    deployed,
)

SDK_GIVES_UP_S = 50.0  # at the earliest, left to itself


async def refused_by(provider: ModalProvider) -> Kind:
    with pytest.raises(ModalFailed) as error:
        await provider.offers(NEED, limit=1)
    assert isinstance(error.value, ProviderError)
    return error.value.kind


async def test_an_app_that_is_not_deployed_is_told_with_what_to_do(tmp_path: Path) -> None:
    with a_modal() as modal:
        async with a_provider(modal, tmp_path) as provider:
            with pytest.raises(ModalFailed, match="run: nightkiln modal deploy") as error:
                await provider.offers(NEED, limit=1)

    assert error.value.kind is Kind.NOT_DEPLOYED


async def test_an_app_for_another_environment_is_refused_at_once(
    modal: FakeModal, tmp_path: Path
) -> None:
    containers = len(modal.containers)
    async with a_provider(modal, tmp_path, environment=OTHER) as provider:
        with pytest.raises(ModalFailed, match=ENVIRONMENT.digest[:24]) as error:
            await provider.offers(NEED, limit=1)

    assert error.value.kind is Kind.OTHER_ENVIRONMENT
    assert len(modal.containers) == containers  # no container had to be asked


async def test_what_is_seen_of_the_app_is_what_was_sent(modal: FakeModal, tmp_path: Path) -> None:
    assert TERMS.startup_timeout_s != TERMS.timeout_s
    async with a_provider(modal, tmp_path) as provider:
        found = await provider.ready()

    sent = modal.deployed(TERMS.app)
    assert sent is not None
    comfy = sent.functions["Comfy.*"]
    assert (found.version, found.gpus) == (1, comfy.gpus)
    assert (found.timeout_s, found.startup_timeout_s) == (comfy.timeout_s, comfy.startup_timeout_s)


@pytest.mark.nights
async def test_a_rollback_brings_the_environment_before_back(tmp_path: Path) -> None:
    with a_modal() as modal:
        deployed(modal)
        deployed(modal, OTHER)
        async with a_provider(modal, tmp_path) as provider:
            assert await refused_by(provider) is Kind.OTHER_ENVIRONMENT
        words = ["app", "rollback", TERMS.app]

        await asyncio.to_thread(modal_command, words, token=modal.token, is_quiet=True)

        async with a_bench(modal, tmp_path) as bench:
            await bench.render()
    assert bench.lease.host.startswith("nightkiln v3 ")


async def test_first_contact_has_a_deadline_of_its_own(modal: FakeModal, tmp_path: Path) -> None:
    modal.add_faults("slow_connect@1")
    started_s = time.monotonic()

    async with a_provider(modal, tmp_path, first_contact_s=1.0) as provider:
        kind = await refused_by(provider)

    assert kind is Kind.UNREACHABLE
    assert time.monotonic() - started_s < SDK_GIVES_UP_S


async def test_a_wrong_token_is_told_and_never_shown(modal: FakeModal, tmp_path: Path) -> None:
    assert modal.token[0] != "ak-wrong"
    provider = ModalProvider(
        "ak-wrong", "as-secret", TERMS, state=tmp_path, digest=ENVIRONMENT.digest
    )
    async with provider:
        with pytest.raises(ModalFailed, match="modal token new") as error:
            await provider.offers(NEED, limit=1)

    assert error.value.kind is Kind.WRONG_TOKEN
    shown = f"{error.value!r} {error.value} {provider!r} {provider._desk()!r}"
    assert "as-secret" not in shown


def test_without_a_token_there_is_no_provider(tmp_path: Path) -> None:
    with pytest.raises(ModalFailed, match="MODAL_TOKEN_ID"):
        ModalProvider("", "", TERMS, state=tmp_path, digest="")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("down", Kind.UNANSWERED),
        ("auth", Kind.WRONG_TOKEN),
        ("internal_500", Kind.SERVICE),
    ],
)
async def test_a_service_in_trouble_is_an_error_and_never_an_empty_list(
    modal: FakeModal, tmp_path: Path, fault: str, kind: Kind
) -> None:
    async with a_provider(modal, tmp_path) as provider:
        modal.add_faults(fault)

        assert await refused_by(provider) is kind
