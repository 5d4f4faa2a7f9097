"""Modal's slots: calls, tickets, money and trouble, with the real SDK on a fake service."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from nightkiln.core.errors import ProviderError, RenderFailed, WorkerLost
from nightkiln.core.model import BoundFile, BoundJob, Fault, InputFile, JobId, Lease, Loss, Need
from nightkiln.providers.modal import Kind, ModalFailed, ModalProvider
from nightkiln.providers.modal.prices import dated
from nightkiln.testing.modal import FakeModal
from tests.adapters.modal_world import (
    ENVIRONMENT,
    HOUR_S,
    JOB,
    NEED,
    OTHER,
    QUICK,
    TERMS,
    Behind,
    a_modal,
    a_provider,
    all_ended,
    attempt,
    deployed,
    lease_id,
    open_calls,
    rented,
    requests,
    until,
)

MB = 2**20


BEHIND = Behind()  # of the containers of the fake that most tests share


@pytest.fixture(scope="module")
def served() -> Iterator[FakeModal]:
    with a_modal(behind=BEHIND) as modal:
        deployed(modal)
        yield modal


@pytest.fixture
def modal(served: FakeModal) -> Iterator[FakeModal]:
    yield served
    served.lift_faults()
    BEHIND.from_now_on()


async def with_new_containers(modal: FakeModal, **options: Any) -> None:
    """From now on there are only containers with such a stand-in."""
    await until(lambda: all_ended(modal))
    BEHIND.from_now_on(**options)


async def rendered_by(provider: ModalProvider, lease: Lease, job: BoundJob = JOB) -> str:
    """Render a job on a lease; the ticket."""
    async with provider.connect(lease) as worker:
        ticket = await worker.submit(job, attempt(0))
        await worker.result(ticket)
        await worker.forget(ticket)
    return ticket


# Offers and prices.


async def test_every_kind_of_gpu_has_its_slots_at_the_services_own_rates(
    modal: FakeModal, tmp_path: Path
) -> None:
    async with a_provider(modal, tmp_path) as provider:
        offers = await provider.offers(NEED, limit=100)

        assert (await provider.todays_prices()).basis.startswith("rates of ")
    per_gpu = [sum(one.gpu == gpu for one in offers) for gpu in ("L40S", "A100-40GB")]
    assert per_gpu == [TERMS.max_containers, TERMS.max_containers]
    assert {one.usd_per_hour for one in offers} == {Decimal("2.320992")}


async def test_without_rates_the_dated_prices_count(modal: FakeModal, tmp_path: Path) -> None:
    async with a_provider(modal, tmp_path, answer_s=0.000_001) as provider:
        prices = await provider.todays_prices()

    assert prices.basis == dated().basis
    assert "2026" in prices.basis


async def test_a_slot_is_named_once_in_the_life_of_a_provider(
    modal: FakeModal, tmp_path: Path
) -> None:
    async with a_provider(modal, tmp_path) as provider:
        first = await rented(provider)
        await provider.release([first.id])

        assert first.offer.ref not in {one.ref for one in await provider.offers(NEED, limit=100)}


# Calls.


async def test_a_result_says_where_on_what_and_by_which_version_it_was_made(
    modal: FakeModal, tmp_path: Path
) -> None:
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider)
        async with provider.connect(lease) as worker:
            made = await worker.result(await worker.submit(JOB, attempt(0)))
        await provider.release([lease.id])

    assert made.place is not None
    container, version, tag = made.place.host.split()
    assert container in {one.container_id for one in modal.containers}
    assert (version, made.place.gpu) == ("v1", "NVIDIA L40S")
    assert tag == f"git-c0ffee-env-{ENVIRONMENT.digest[:16]}"
    assert lease.host.startswith("nightkiln v1 ")


async def test_a_ticket_is_written_down_before_anybody_waits_for_it(
    modal: FakeModal, tmp_path: Path
) -> None:
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider)
        async with provider.connect(lease) as worker:
            ticket = await worker.submit(JOB, attempt(0))
            written = tmp_path / "modal" / "calls" / f"{ticket}.json"
            told = json.loads(written.read_text())
            await worker.result(ticket)
            await worker.forget(ticket)

            assert (told["lease_id"], told["what"]) == (lease.id, attempt(0))
            longest_s = TERMS.startup_timeout_s + TERMS.timeout_s  # what it can cost at most
            assert told["expires_s"] - told["submitted_s"] == pytest.approx(longest_s)
            assert not written.exists()
        await provider.release([lease.id])


async def test_no_more_calls_are_out_than_slots(modal: FakeModal, tmp_path: Path) -> None:
    async with a_provider(modal, tmp_path) as provider:
        offers = await provider.offers(NEED, limit=100)

        assert {one.slots for one in offers} == {1}


async def test_a_second_provider_fetches_what_the_first_has_paid_for(
    modal: FakeModal, tmp_path: Path
) -> None:
    async with a_provider(modal, tmp_path) as dead:
        lease = await rented(dead)
        async with dead.connect(lease) as worker:
            ticket = await worker.submit(JOB, attempt(0))
    spawned = requests(modal, "FunctionMap")

    async with a_provider(modal, tmp_path) as provider:
        made = await provider.recall(ticket, within_s=10.0)

        assert made is not None
        assert len(made.outputs) == 1
        assert requests(modal, "FunctionMap") == spawned  # nothing was paid again
        await provider.release([lease.id])


async def test_what_is_recalled_in_vain_is_over(modal: FakeModal, tmp_path: Path) -> None:
    await with_new_containers(modal, render_s=30.0)
    async with a_provider(modal, tmp_path) as dead:
        lease = await rented(dead)
        async with dead.connect(lease) as worker:
            ticket = await worker.submit(JOB, attempt(0))

    async with a_provider(modal, tmp_path) as provider:
        assert await provider.recall(ticket, within_s=0.5) is None
        assert open_calls(modal) == []


async def test_a_call_that_comes_too_late_is_not_rendered(modal: FakeModal, tmp_path: Path) -> None:
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider, life_s=2.0)
        async with provider.connect(lease) as worker:
            await asyncio.sleep(2.0)
            ticket = await worker.submit(JOB, attempt(0))
            with pytest.raises(WorkerLost, match="too late"):
                await worker.result(ticket)
        await provider.release([lease.id])


async def test_input_files_go_along(modal: FakeModal, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * MB)  # far more than a call holds inline
    digest = hashlib.sha256(picture.read_bytes()).hexdigest()
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "bound"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    file = InputFile(str(picture), digest, picture.stat().st_size, ".png")
    job = BoundJob(JobId("1" * 64), graph, (BoundFile(file, (("1", "image"),)),))

    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider)
        try:
            await rendered_by(provider, lease, job)
        except RenderFailed as error:  # the stand-in cannot read such a picture, but it had it
            assert "LoadImage" in str(error)  # noqa: PT017
        await provider.release([lease.id])
    assert requests(modal, "BlobCreate") > 0


async def test_a_large_result_comes_through_a_blob_and_one_too_large_is_told(
    modal: FakeModal, tmp_path: Path
) -> None:
    await with_new_containers(modal, size_mb=5.0)
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider)
        async with provider.connect(lease) as worker:
            made = await worker.result(await worker.submit(JOB, attempt(0)))
            await made.outputs[0].save(tmp_path / "large.png")
        await provider.release([lease.id])
    small = replace(TERMS, result_bytes_max=MB)
    async with a_provider(modal, tmp_path, small) as provider:
        lease = await rented(provider, 1)
        with pytest.raises(RenderFailed, match="modal_result_mb_max") as error:
            await rendered_by(provider, lease)
        await provider.release([lease.id])

    assert (tmp_path / "large.png").stat().st_size > 4 * MB
    assert error.value.fault is Fault.JOB


async def test_a_job_that_is_cancelled_is_over_and_its_container_stays(
    modal: FakeModal, tmp_path: Path
) -> None:
    await with_new_containers(modal, render_s=30.0)
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider)
        async with provider.connect(lease) as worker:
            ticket = await worker.submit(JOB, attempt(0))
            await until(lambda: BEHIND.is_rendering)
            await worker.cancel(ticket)

            assert open_calls(modal) == []
            assert not next(one for one in modal.calls if one.call_id == ticket).is_killed
        await provider.release([lease.id])


# Leases.


async def test_releasing_cancels_what_is_outstanding_containers_and_all(
    modal: FakeModal, tmp_path: Path
) -> None:
    await with_new_containers(modal, render_s=30.0)
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider)
        async with provider.connect(lease) as worker:
            ticket = await worker.submit(JOB, attempt(0))
            await until(lambda: BEHIND.is_rendering)

            await provider.release([lease.id])

        assert open_calls(modal) == []
        assert next(one for one in modal.calls if one.call_id == ticket).is_killed
        await until(lambda: all_ended(modal))


async def test_another_process_knows_and_ends_what_a_dead_one_has_left(
    modal: FakeModal, tmp_path: Path
) -> None:
    await with_new_containers(modal, render_s=30.0)
    async with a_provider(modal, tmp_path) as dead:
        lease = await rented(dead)
        async with dead.connect(lease) as worker:
            ticket = await worker.submit(JOB, attempt(0))

    # The reaper knows no catalog, so no environment either.
    async with ModalProvider(*modal.token, TERMS, state=tmp_path, digest="") as reaper:
        [billed] = await reaper.billed()
        assert (billed.lease_id, billed.contract) == (lease.id, ticket)
        assert await reaper.owned() == [lease.id]

        await reaper.release([lease.id])

        assert await reaper.owned() == []
        assert open_calls(modal) == []
        assert list((tmp_path / "modal" / "calls").glob("*.json")) == []


async def test_a_result_that_is_waiting_costs_nothing_and_is_not_listed(
    modal: FakeModal, tmp_path: Path
) -> None:
    async with a_provider(modal, tmp_path) as dead:
        lease = await rented(dead)
        async with dead.connect(lease) as worker:
            await worker.result(await worker.submit(JOB, attempt(0)))

    async with a_provider(modal, tmp_path) as provider:
        assert await provider.owned() == []
        await provider.release([lease.id])


async def test_where_nothing_is_written_down_nobody_is_asked(
    modal: FakeModal, tmp_path: Path
) -> None:
    before = len(modal.requests)

    async with a_provider(modal, tmp_path) as provider:
        assert await provider.owned() == []

    assert len(modal.requests) == before


async def test_a_lease_counts_until_its_end_and_no_longer(modal: FakeModal, tmp_path: Path) -> None:
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider, life_s=0.5)
        assert await provider.owned() == [lease.id]
        again = await provider.rent(lease.offer, lease.id, NEED, expires_at_s=time.time() + 1.0)
        await asyncio.sleep(0.6)
        still = await provider.owned()
        await asyncio.sleep(0.6)

        assert again == lease
        assert still == [lease.id]
        assert await provider.owned() == []
        with pytest.raises(WorkerLost):
            async with provider.connect(lease):
                pass


# Money.


async def test_our_count_is_never_below_the_bill(modal: FakeModal, tmp_path: Path) -> None:
    await with_new_containers(modal, render_s=0.2)
    before = len(modal.billing.spells)
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider)
        async with provider.connect(lease) as worker:
            for number in range(3):
                ticket = await worker.submit(JOB, attempt(number))
                await worker.result(ticket)
                await worker.forget(ticket)
        await provider.release([lease.id])
        used = provider.used(lease.id)
    await until(lambda: all_ended(modal))

    # Without the idle window, which the fake ends as late as this computer is busy.
    ours = modal.billing.spells[before:]
    busy_until_s = max(one.ended_s for one in ours if one.phase == "busy")
    until_then = [one for one in ours if one.ended_s <= busy_until_s]
    billed = sum(sum(modal.billing.usd_of(one).values(), Decimal(0)) for one in until_then)
    assert used is not None
    counted_s = Decimal(repr(used.gpu_s)) - TERMS.scaledown_s * Decimal(
        "0.93"
    )  # its own GPU's price
    assert billed <= counted_s * lease.offer.usd_per_hour / 3600 <= billed * 3


async def test_a_slot_that_never_had_a_container_cost_nothing(
    modal: FakeModal, tmp_path: Path
) -> None:
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider)
        await provider.release([lease.id])
        used = provider.used(lease.id)

    assert used is not None
    assert used.gpu_s == 0


async def test_the_billing_report_is_shared_out_among_leases(
    modal: FakeModal, tmp_path: Path
) -> None:
    async with a_provider(modal, tmp_path) as provider:
        for number in range(2):
            lease = await rented(provider, number)
            await rendered_by(provider, lease)
            await provider.release([lease.id])
    await until(lambda: all_ended(modal))
    later = a_provider(modal, tmp_path, clock=lambda: time.time() + 2 * HOUR_S)
    async with later as provider:
        charges = await provider.charges(since_s=time.time() - 3 * HOUR_S)

    # The whole bill of these hours: nobody else has used the app, as far as this computer knows.
    assert {one.lease_id for one in charges} == {lease_id(0), lease_id(1)}
    billed = modal.billing.usd
    assert abs(sum((one.usd for one in charges), Decimal(0)) - billed) < Decimal("0.0001")


async def test_a_plan_without_a_report_has_no_charges_and_no_error(tmp_path: Path) -> None:
    with a_modal(rules=replace(QUICK, has_report=False)) as modal:
        deployed(modal)
        async with a_provider(modal, tmp_path) as provider:
            assert list(await provider.charges(since_s=time.time() - 3 * HOUR_S)) == []


# Trouble.


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


@pytest.mark.nights
async def test_a_rollback_brings_the_environment_before_back(tmp_path: Path) -> None:
    from nightkiln.providers.modal.deploying import modal_command

    with a_modal() as modal:
        deployed(modal)
        deployed(modal, OTHER)
        async with a_provider(modal, tmp_path) as provider:
            assert await refused_by(provider) is Kind.OTHER_ENVIRONMENT
            words = ["app", "rollback", TERMS.app]

            await asyncio.to_thread(modal_command, words, token=modal.token, is_quiet=True)

            lease = await rented(provider)
            await rendered_by(provider, lease)
            await provider.release([lease.id])
    assert lease.host.startswith("nightkiln v3 ")


async def test_first_contact_has_a_deadline_of_its_own(modal: FakeModal, tmp_path: Path) -> None:
    modal.add_faults("slow_connect@1")
    started_s = time.monotonic()

    async with a_provider(modal, tmp_path, first_contact_s=1.0) as provider:
        kind = await refused_by(provider)

    assert kind is Kind.UNREACHABLE
    assert time.monotonic() - started_s < 5.0  # the SDK alone takes 56


async def test_a_wrong_token_is_told_and_never_shown(modal: FakeModal, tmp_path: Path) -> None:
    assert modal.token[0] != "ak-wrong"
    provider = ModalProvider(
        "ak-wrong", "as-secret", TERMS, state=tmp_path, digest=ENVIRONMENT.digest
    )
    async with provider:
        with pytest.raises(ModalFailed, match="modal token new") as error:
            await provider.offers(NEED, limit=1)

    assert error.value.kind is Kind.WRONG_TOKEN
    assert "as-secret" not in f"{error.value!r} {provider!r}"


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


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("forbidden", "may not do this"),
        ("no_credit", "no credit"),
        ("spawn_away@2x4", "did not answer"),
        ("internal_failure@2", "a container was lost"),
        ("evicted@2", "was stopped"),
        ("expired@2", "has the result no more"),
    ],
)
async def test_a_call_that_fails_through_no_fault_of_its_job_loses_the_slot(
    modal: FakeModal, tmp_path: Path, fault: str, says: str
) -> None:
    modal.add_faults(fault)
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider)
        with pytest.raises((WorkerLost, ProviderError), match=says):
            await rendered_by(provider, lease)
        modal.lift_faults()
        await provider.release([lease.id])


async def test_a_container_that_runs_out_of_memory_blames_the_machine(
    modal: FakeModal, tmp_path: Path
) -> None:
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider)
        async with provider.connect(lease) as worker:
            modal.add_faults("oom")
            ticket = await worker.submit(JOB, attempt(0))
            with pytest.raises(RenderFailed) as error:
                await worker.result(ticket)
        modal.lift_faults()
        await provider.release([lease.id])

    assert (error.value.fault, error.value.kind) == (Fault.MACHINE, "oom")


@pytest.mark.parametrize(
    "fault", ["spawn_rate", "spawn_blink", "poll_away@2", "preempted", "next_gpu"]
)
async def test_trouble_that_passes_costs_no_job(
    modal: FakeModal, tmp_path: Path, fault: str
) -> None:
    modal.add_faults(fault)
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider)
        await rendered_by(provider, lease)
        await provider.release([lease.id])


@pytest.mark.parametrize("fault", ["blob_get_503@1", "blob_get_fails", "blob_short"])
async def test_a_large_result_arrives_whole_or_not_at_all(
    modal: FakeModal, tmp_path: Path, fault: str
) -> None:
    await with_new_containers(modal, size_mb=5.0)
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider)
        modal.add_faults(fault)
        try:
            await rendered_by(provider, lease)
            is_whole = True
        except WorkerLost:
            is_whole = False
        modal.lift_faults()
        await provider.release([lease.id])

    assert is_whole == (fault == "blob_get_503@1")


async def test_a_container_whose_comfyui_dies_takes_itself_out(
    modal: FakeModal, tmp_path: Path
) -> None:
    await with_new_containers(modal, faults=["die@1"])
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider)
        async with provider.connect(lease) as worker:
            first = await worker.submit(JOB, attempt(0))
            with pytest.raises(WorkerLost, match="this container is broken"):
                await worker.result(first)
            broken = modal.containers[-1]
            second = await worker.submit(JOB, attempt(1))
            with pytest.raises(WorkerLost):  # in another one, which dies as well
                await worker.result(second)
        await provider.release([lease.id])

    assert broken.container_id != modal.containers[-1].container_id


async def test_a_start_that_fails_is_told_at_once_and_costs_one_start(
    modal: FakeModal, tmp_path: Path
) -> None:
    await with_new_containers(modal)
    BEHIND.is_there, before = False, len(modal.containers)
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider)
        with pytest.raises(WorkerLost, match="ComfyUI cannot be started") as error:
            async with provider.connect(lease):
                pass
        await provider.release([lease.id])

    assert error.value.loss is Loss.STARTUP
    assert len(modal.containers) == before + 1


async def test_a_start_that_takes_too_long_is_called_off(modal: FakeModal, tmp_path: Path) -> None:
    modal.add_faults("never_up")
    async with a_provider(modal, tmp_path) as provider:
        lease = await rented(provider)
        hurried = replace(lease, offer=replace(lease.offer, startup_s=1.0))
        with pytest.raises(WorkerLost) as error:
            async with provider.connect(hurried):
                pass
        modal.lift_faults()

        assert error.value.loss is Loss.SLOW
        assert open_calls(modal) == []
        await provider.release([lease.id])


async def test_need_is_asked_for_by_name_where_the_list_will_not_do(
    modal: FakeModal, tmp_path: Path
) -> None:
    need = Need(gpus=("A100-40GB",))
    async with a_provider(modal, tmp_path) as provider:
        [offer, *_] = await provider.offers(need, limit=10)
        lease = await provider.rent(offer, lease_id(0), need, expires_at_s=time.time() + HOUR_S)
        async with provider.connect(lease) as worker:
            gpu = worker.gpu
        await provider.release([lease.id])

    assert gpu == "NVIDIA A100-40GB"
