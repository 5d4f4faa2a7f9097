"""The SDK behind our own words: errors that say what to do, and a key that nobody sees."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import time
import traceback
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.traceback import Traceback
from vastai import VastAI

from nightkiln.core.errors import ProviderError
from nightkiln.providers.vast import Kind, VastFailed, VastProvider, VastTerms, account
from nightkiln.providers.vast.errors import refusal
from nightkiln.providers.vast.rates import Endpoint, Rates
from nightkiln.providers.vast.service import VastService
from tests.adapters.vast_world import HASTY, NEED, TERMS, a_market, a_provider, rented

NOWHERE = "http://127.0.0.1:9"  # nobody listens there


def paced(folder: Path) -> Rates:
    return Rates(folder, key="some-good-key", url=NOWHERE, clock=time.time, pace=0.0)


def test_without_a_key_nothing_is_begun(tmp_path: Path) -> None:
    with pytest.raises(VastFailed, match="NIGHTKILN_VAST_API_KEY") as caught:
        VastProvider("  ", VastTerms(), state=tmp_path)

    assert caught.value.kind is Kind.NO_KEY


@pytest.mark.parametrize("key", ["two words here", "line\nbreak-in-it", "schlüssel-12345", "k"])
def test_a_key_that_cannot_be_sent_is_not_repeated_to_anybody(tmp_path: Path, key: str) -> None:
    with pytest.raises(VastFailed) as caught:
        VastProvider(key, VastTerms(), state=tmp_path)

    assert caught.value.kind is Kind.WRONG_KEY
    assert key not in str(caught.value) or key == "k"


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        ({"success": False, "error": "auth_error", "msg": "Invalid user key"}, 404, Kind.WRONG_KEY),
        ({"success": False, "error": "auth_error"}, 401, Kind.WRONG_KEY),
        ("forbidden", 403, Kind.NOT_ALLOWED),
        ({"error": "search_quota_exceeded"}, 429, Kind.SEARCH_QUOTA),
        ("API requests too frequent: endpoint threshold=4.5", 429, Kind.RATE_LIMITED),
        ({"error": "invalid_args", "msg": "error 404/3603: no_such_ask"}, 404, Kind.OFFER_GONE),
        ({"error": "x", "msg": "offer no longer available"}, 409, Kind.OFFER_GONE),
        ({"error": "deprecated_endpoint"}, 410, Kind.REFUSED),
        ({"error": "no_such_instance"}, 404, Kind.NO_SUCH_MACHINE),
        ({"error": "insufficient_credit"}, 400, Kind.NO_CREDIT),
        ({"error": "spend_rate_limit"}, 400, Kind.SPEND_LIMIT),
        ({"error": "invalid_price", "new_contract": 7}, 400, Kind.PRICE),
        ("<html>Bad Gateway</html>", 502, Kind.SERVICE),
        (None, 500, Kind.SERVICE),
        ({"error": ["odd"], "msg": 3}, 400, Kind.REFUSED),
    ],
)
def test_what_the_service_says_has_one_meaning(answer: object, status: int, kind: Kind) -> None:
    failed = refusal(answer, "verb", status=status)

    assert failed.kind is kind
    assert "\n" not in str(failed)
    assert len(str(failed)) < 500


@pytest.mark.parametrize("contract", [7, "7", None, True, -1, "x", 10**30, [7]])
def test_the_machine_in_a_refusal_is_taken_only_if_it_is_a_number(contract: object) -> None:
    failed = refusal({"error": "invalid_price", "new_contract": contract}, "create", status=400)

    assert failed.contract in {7, None, 10**19}


async def test_a_wrong_key_is_said_in_one_line(tmp_path: Path) -> None:
    async with a_market() as market:
        with pytest.raises(VastFailed, match="not valid") as caught:
            await account("some-wrong-key", replace(TERMS, url=market.url), state=tmp_path)

    assert caught.value.kind is Kind.WRONG_KEY


async def test_a_service_that_cannot_be_reached_is_said_in_one_line(tmp_path: Path) -> None:
    terms = replace(TERMS, url=NOWHERE, limits=replace(HASTY, search_s=0.5))
    async with VastProvider("some-good-key", terms, state=tmp_path) as provider:
        with pytest.raises(VastFailed, match="check the network") as caught:
            await provider.offers(NEED, limit=1)

    assert caught.value.kind is Kind.UNREACHABLE


async def test_the_account_tells_its_credit(tmp_path: Path) -> None:
    async with a_market(credit=Decimal("12.5")) as market:
        found = await account(market.key, replace(TERMS, url=market.url), state=tmp_path)

    assert (found.credit, found.missing) == (Decimal("12.5"), ())


async def test_a_scoped_key_is_told_what_it_lacks(tmp_path: Path) -> None:
    async with a_market() as market:
        sdk = VastAI(api_key=market.key, server_url=market.url, retry=1)
        permissions: dict[str, Any] = {"api": {"misc": {}, "user_read": {}, "instance_read": {}}}
        made = await asyncio.to_thread(sdk.create_api_key, name="nk", permissions=permissions)

        found = await account(made["key"], replace(TERMS, url=market.url), state=tmp_path)

    assert found.credit is not None
    assert found.missing == ("billing_read",)


async def test_the_key_is_in_no_url_log_repr_or_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    failures: list[ProviderError] = []
    async with a_market("list_500@3", "create_no_credit@2") as market:
        key = market.key
        async with a_provider(market, tmp_path) as provider:
            first, second = await provider.offers(NEED, limit=2)
            lease = await rented(provider, 0, first)
            with pytest.raises(ProviderError) as caught:
                await rented(provider, 1, second)
            failures.append(caught.value)
            await provider.release([lease.id])
            told = [repr(provider), repr(provider._service), repr(vars(provider))]
        urls = [request.url for request in market.requests]
    terms = replace(TERMS, url=NOWHERE, limits=replace(HASTY, search_s=0.2))
    async with VastProvider(key, terms, state=tmp_path) as provider:
        with pytest.raises(ProviderError) as unreached:
            await provider.offers(NEED, limit=1)
        failures.append(unreached.value)

    page = io.StringIO()
    for failed in failures:
        told += [repr(failed), *traceback.format_exception(failed)]
        ours = failed.__traceback__
        while ours is not None and "providers" not in Path(ours.tb_frame.f_code.co_filename).parts:
            ours = ours.tb_next  # of the test, which does hold the key
        shown = Traceback.from_exception(type(failed), failed, ours, show_locals=True)
        Console(file=page, width=200).print(shown)
    everything = "\n".join([*told, *urls, page.getvalue(), caplog.text, *capfd.readouterr()])
    assert "self = " in page.getvalue(), "values of variables are shown"
    assert key not in everything
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if key.encode() in path.read_bytes()]


async def test_the_sdk_logs_like_everybody_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with a_market() as market, a_provider(market, tmp_path) as provider:
        await provider.offers(NEED, limit=1)

    logger = logging.getLogger("vastai")
    logger.info("for nobody")
    assert logger.handlers == []
    assert logger.propagate
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("error", [ArithmeticError("?"), KeyError("offers"), AssertionError()])
def test_whatever_a_creation_raises_it_may_have_rented(error: Exception, tmp_path: Path) -> None:
    service = VastService("some-good-key", url=NOWHERE, rates=paced(tmp_path), answer_s=1.0)

    def stumbles(_: Any) -> None:
        raise error

    with pytest.raises(VastFailed) as caught:
        service._answer(Endpoint.CREATE, stumbles)
    service.close()

    assert caught.value.is_ambiguous
    assert caught.value.__context__ is None


async def test_an_answer_that_drips_for_ever_is_given_up(tmp_path: Path) -> None:
    enough, hung_up = asyncio.Event(), asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Drops: ")
        while not enough.is_set():
            writer.write(b"x")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(enough.wait(), 0.05)
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        service = VastService("some-good-key", url=url, rates=paced(tmp_path), answer_s=0.5)
        async with asyncio.timeout(5.0):
            with pytest.raises(VastFailed, match="without end") as caught:
                await service.page(None)
        enough.set()
        await hung_up.wait()
    await asyncio.to_thread(service._threads.shutdown)

    assert caught.value.kind is Kind.UNANSWERED
