"""Modal's errors, replies, prices and offers in our words; what a container's time costs."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import modal.exception
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.errors import RenderFailed, WorkerLost
from nightkiln.core.model import Fault, LeaseId, Need
from nightkiln.ports.uploads import Posted
from nightkiln.providers.modal.billing import charges_of
from nightkiln.providers.modal.contract import CONTRACT, done, in_our_time, read_reply
from nightkiln.providers.modal.errors import TABLE, Kind, as_attempt, translated
from nightkiln.providers.modal.facts import Deployed, Item
from nightkiln.providers.modal.offers import choices, offer_of
from nightkiln.providers.modal.prices import class_of, dated
from nightkiln.providers.modal.terms import ModalTerms
from tests.nested import nested

DIGEST = "d" * 64
ONE = LeaseId("night-1-lease-000")
TWO = LeaseId("night-1-lease-001")
CENT = Decimal("0.01")  # USD per second: easy to reckon with
IDLE_S = 15.0
HOUR_S = 3600.0


# Errors.


@pytest.mark.parametrize(("name", "kind"), TABLE)
def test_every_exception_of_the_sdk_has_its_meaning(name: str, kind: Kind) -> None:
    raised = getattr(modal.exception, name)
    error = raised(1) if name == "ClientClosed" else raised("it says so")

    assert translated(error, "verb").kind is kind


def test_the_sdk_raises_nothing_that_the_table_does_not_know() -> None:
    unknown = [
        name
        for name, found in vars(modal.exception).items()
        if isinstance(found, type)
        and issubclass(found, Exception)
        and not issubclass(found, UserWarning | modal.exception.Error)
        and found.__module__ == "modal.exception"
        and not name.startswith("_")
    ]

    assert unknown == ["ModuleNotMountable"]  # only of a deploy


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            modal.exception.ResourceExhaustedError("spend limit reached"),
            Kind.NO_CREDIT,
        ),
        (modal.exception.ResourceExhaustedError("rate limit exceeded"), Kind.RATE_LIMITED),
        (ConnectionResetError("the way of a blob"), Kind.UNANSWERED),
        (RuntimeError("nightkiln: this container is broken"), Kind.RAISED),
        (ValueError("of a custom node"), Kind.RAISED),
    ],
)
def test_what_the_table_leaves_open_is_told_from_the_words(error: Exception, kind: Kind) -> None:
    assert translated(error, "verb").kind is kind


def test_what_is_said_is_one_bounded_line() -> None:
    failed = translated(modal.exception.InvalidError("a\nb" * 1000), "verb")

    assert "\n" not in str(failed)
    assert len(str(failed)) < 500


@pytest.mark.parametrize(
    ("name", "said", "outcome"),
    [
        ("FunctionTimeoutError", "timeout", (Fault.UNKNOWN, "timeout")),
        ("RemoteError", "Runner ran out of memory", (Fault.MACHINE, "oom")),
        ("RequestSizeError", "too large", (Fault.JOB, "too_large")),
        ("RemoteError", "enter hook crashed", None),
        ("InternalFailure", "worker lost", None),
        ("OutputExpiredError", "", None),
        ("AuthError", "no", None),
    ],
)
def test_a_call_that_fails_blames_the_job_only_where_it_may_be_to_blame(
    name: str, said: str, outcome: tuple[Fault, str] | None
) -> None:
    error = as_attempt(translated(getattr(modal.exception, name)(said), "result"))

    if outcome is None:
        assert isinstance(error, WorkerLost)
    else:
        assert isinstance(error, RenderFailed)
        assert (error.fault, error.kind) == outcome


# Replies.


def told(**changes: Any) -> dict[str, Any]:
    """A reply as the app gives it."""
    usual = {
        "contract": CONTRACT,
        "environment": DIGEST,
        "tag": "git-c0ffee-env-dddd",
        "container": "ta-1",
        "is_cold": True,
        "t_enter": 100.0,
        "t_start": 130.0,
        "t_end": 135.0,
        "status": "done",
        "stats": {"system": {}, "devices": [{"name": "cuda:0 NVIDIA L40S : cudaMallocAsync"}]},
    }
    return {**usual, **changes}


def test_a_reply_says_where_and_when() -> None:
    reply = read_reply(told(), DIGEST)

    assert (reply.gpu, reply.container, reply.is_cold) == ("NVIDIA L40S", "ta-1", True)
    assert (reply.t_enter, reply.t_start, reply.t_end) == (100.0, 130.0, 135.0)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"contract": CONTRACT + 1}, Fault.OURS),
        ({"environment": "e" * 64}, Fault.OURS),
        ({"t_start": 140.0}, Fault.MACHINE),
        ({"t_end": float("inf")}, Fault.MACHINE),
        ({"t_enter": "then"}, Fault.MACHINE),
    ],
)
def test_a_reply_that_does_not_fit_is_refused(changes: dict[str, Any], fault: Fault) -> None:
    with pytest.raises(RenderFailed) as error:
        read_reply(told(**changes), DIGEST)

    assert error.value.fault is fault


JSON = nested(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    keys=st.text(max_size=20),
)
SAID_CHARS_MAX = 1000


@pytest.mark.parametrize("name", ["contract", "environment", "status", "said", "tag"])
def test_however_much_a_container_says_a_message_is_short(name: str) -> None:
    with pytest.raises(RenderFailed) as error:
        done(read_reply(told(**{"status": "refused", name: "x" * 10**6}), DIGEST))

    assert len(str(error.value)) < SAID_CHARS_MAX


@given(st.dictionaries(st.sampled_from([*told(), "entry", "files", "rejection", "said"]), JSON))
def test_whatever_a_container_says_is_a_result_or_an_explained_failure(
    changes: Mapping[str, Any],
) -> None:
    try:
        done(read_reply({**told(), **changes}, DIGEST))
    except (RenderFailed, WorkerLost) as error:
        assert 0 < len(str(error)) < SAID_CHARS_MAX  # noqa: PT017 - which one does not matter


def test_a_file_that_did_not_come_along_is_the_containers_fault() -> None:
    entry = {
        "status": {"status_str": "success", "messages": []},
        "outputs": {"7": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}},
    }

    with pytest.raises(RenderFailed, match=r"a\.png did not come") as error:
        done(read_reply(told(entry=entry, files=[]), DIGEST))

    assert error.value.fault is Fault.MACHINE


SUM = "a" * 64


@pytest.mark.parametrize(
    ("file", "is_sense"),
    [
        ({"posted": {"number": 0, "size": 5, "sha256": SUM}}, True),
        ({"posted": {"number": 0, "size": 5, "sha256": SUM[1:]}}, False),
        ({"posted": {"number": -1, "size": 5, "sha256": SUM}}, False),
        ({"posted": {"number": True, "size": 5, "sha256": SUM}}, False),
        ({"posted": {"number": 0, "size": 1e99, "sha256": SUM}}, False),
        ({"posted": "yes", "content": b"here"}, True),
        ({"not_posted": "x" * 10**6, "content": b"here"}, True),
        ({"not_posted": "HTTP 403"}, False),
    ],
)
def test_a_file_came_along_or_was_posted_and_everything_else_is_the_containers_fault(
    file: dict[str, Any],
    is_sense: bool,  # noqa: FBT001
) -> None:
    name = {"filename": "a.png", "subfolder": "", "type": "output"}
    entry = {
        "status": {"status_str": "success", "messages": []},
        "outputs": {"7": {"images": [name]}},
    }
    reply = read_reply(told(entry=entry, files=[{**name, **file}]), DIGEST)

    if is_sense:
        [sent] = done(reply)[1].values()
        assert (sent.content is None) == isinstance(sent.posted, Posted)
        assert len(f"{sent!r}") < SAID_CHARS_MAX
    else:
        with pytest.raises(RenderFailed, match="did not come"):
            done(reply)


# Prices and offers.


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB"),
        ("NVIDIA A10G", "A10"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("Tesla T4", "T4"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
        ("H100!", "H100"),
        ("A100", "A100-40GB"),
    ],
)
def test_a_gpu_is_priced_by_its_class_whatever_it_is_called(name: str, known: str) -> None:
    assert class_of(name) == known


def test_a_second_costs_gpu_cores_and_memory_together() -> None:
    usd = dated().usd_per_s("L40S", cpu=2.0, memory_mib=16384)

    assert usd == Decimal("0.000542") + 2 * Decimal("0.0000131") + 16 * Decimal("0.00000222")


def test_live_rates_count_where_they_can_be_what_they_seem() -> None:
    rates = {"L40S": Decimal("0.0006"), "A10": Decimal(5), "cpu_core_sec": Decimal("0.00002")}

    prices = dated().updated(rates, when="today")

    assert prices.gpus["L40S"] == Decimal("0.0006")
    assert prices.gpus["A10"] == dated().gpus["A10"]  # 5 USD a second is something else
    assert prices.core == Decimal("0.00002")
    assert prices.basis == "rates of today"


TERMS = ModalTerms(max_containers=2)
APP = Deployed(3, ("L40S", "A100-80GB", "A10"), 600.0, 300.0)


def test_the_first_kind_stands_for_the_apps_own_list_at_its_dearest_price() -> None:
    found = {one.gpu: one for one in choices(APP, Need(vram_gb=16), dated(), TERMS)}

    assert (found["L40S"].asked, found["A10"].asked) == (None, "A10")
    assert found["L40S"].usd_per_s == found["A100-80GB"].usd_per_s
    assert found["L40S"].vram_gb == 24  # what any of the list has


def test_a_job_that_needs_more_memory_gets_only_what_has_it() -> None:
    found = choices(APP, Need(vram_gb=40), dated(), TERMS)

    assert [(one.gpu, one.asked) for one in found] == [("L40S", "L40S"), ("A100-80GB", "A100-80GB")]


def test_a_catalog_that_names_its_gpus_gets_no_other() -> None:
    found = choices(APP, Need(gpus=("NVIDIA A10",)), dated(), TERMS)

    assert [(one.gpu, one.asked) for one in found] == [("A10", "A10")]


def test_an_offer_says_what_its_idle_window_costs_and_takes_one_job_at_a_time() -> None:
    [first, *_] = choices(APP, Need(), dated(), TERMS)

    offer = offer_of(first, 7, APP, TERMS)

    assert (offer.ref, offer.slots, offer.idle_tail_s) == (f"{first.gpu}-7", 1, 15.0)
    assert offer.usd_per_hour == (first.usd_per_s * 3600).quantize(Decimal("0.000001"))
    assert offer.is_serverless


# A container's clock.

BOOT_S = 300.0
SECONDS = st.floats(0, 1e11)


@given(
    times=st.lists(SECONDS, min_size=3, max_size=3),
    submitted_s=SECONDS,
    passed_s=st.floats(0, 3600),
)
def test_whatever_a_containers_clock_says_a_call_took_no_longer_than_what_has_passed(
    *, times: list[float], submitted_s: float, passed_s: float
) -> None:
    t_enter, t_start, t_end = sorted(times)
    now_s = submitted_s + passed_s
    answer = read_reply(told(t_enter=t_enter, t_start=t_start, t_end=t_end), DIGEST)

    found = in_our_time(answer, submitted_s=submitted_s, now_s=now_s, boot_s_max=BOOT_S)

    a_float_s = 1e-4  # what is between two floats at 1e11
    assert submitted_s - BOOT_S - a_float_s <= found.t_enter <= found.t_start
    assert submitted_s - a_float_s <= found.t_start <= found.t_end <= now_s


def test_a_containers_clock_that_is_right_is_believed() -> None:
    answer = read_reply(told(t_enter=100, t_start=130, t_end=135), DIGEST)

    assert in_our_time(answer, submitted_s=95, now_s=140, boot_s_max=BOOT_S) == answer


@pytest.mark.parametrize("wrong_s", [-3600.0, 3600.0])
def test_a_container_whose_clock_is_wrong_took_what_it_took(wrong_s: float) -> None:
    t_start, t_end = 9002 + wrong_s, 9007 + wrong_s
    answer = read_reply(told(t_enter=t_start - 30, t_start=t_start, t_end=t_end), DIGEST)

    found = in_our_time(answer, submitted_s=9000, now_s=9008, boot_s_max=BOOT_S)

    assert found.t_end - found.t_start == 5
    assert 9000 <= found.t_start <= found.t_end <= 9008


# What was billed.


@given(
    st.dictionaries(st.integers(0, 5), st.decimals("0.01", 9, places=2), min_size=1),
    st.dictionaries(
        st.sampled_from([ONE, TWO]),
        st.dictionaries(st.integers(0, 5), st.decimals("0.01", 9, places=2)),
    ),
)
def test_an_hours_bill_is_shared_whole_among_those_who_used_it(
    bill: dict[int, Decimal], usage: dict[LeaseId, dict[int, Decimal]]
) -> None:
    items = [Item("kiln", hour * HOUR_S, usd) for hour, usd in bill.items()]
    items.append(Item("somebody else's", 0.0, Decimal(100)))

    charged = charges_of(items, usage, app="kiln")

    used = {hour for hours in usage.values() for hour in hours}
    billed = sum((usd for hour, usd in bill.items() if hour in used), Decimal(0))
    assert abs(sum((one.usd for one in charged), Decimal(0)) - billed) < Decimal("0.00001")
