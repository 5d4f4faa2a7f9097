"""Private model files: the machine gets a signed address, never the token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from nightkiln.machine.goods import Goods, Model, Token
from nightkiln.machine.signed import Refused, refusals, signed_addresses

SECRET = "hf_secret/42"  # noqa: S105 - of nobody
SIGNED = "https://cdn.example/file?X-Amz-Signature=abc"


@dataclass
class ModelHost:
    """Shows private files to whoever has the token; redirects as it is told."""

    redirect_to: str = SIGNED
    content: bytes = b"model"
    port: int = 0
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[ModelHost]:
        application = web.Application()
        application.router.add_get("/{name:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        name, shown = request.match_info["name"], request.headers.get("authorization")
        self.asked.append((name, shown))
        is_allowed = shown == f"Bearer {SECRET}"
        answers = {
            "public": web.Response(body=self.content),
            "content": web.Response(body=self.content),
            "busy": web.Response(status=503),
            "login": web.Response(text="<form>", content_type="text/html"),
            "renamed": web.Response(status=307, headers={"location": "/private"}),
            "loop": web.Response(status=307, headers={"location": "/loop"}),
        }
        if is_allowed:
            signed = {"location": self.redirect_to}
            answers["small"] = web.Response(body=b"itself")
            answers["private"] = answers["login"] = web.Response(status=302, headers=signed)
        return answers.get(name, web.Response(status=401))

    def goods(self, *names: str) -> Goods:
        host = f"127.0.0.1:{self.port}"
        models = tuple(Model(f"checkpoints/{name}", f"http://{host}/{name}") for name in names)
        return Goods(models, tokens=(Token(host, "HF_TOKEN", SECRET),))


async def address(host: ModelHost, name: str) -> str:
    goods = host.goods(name)
    [[found]] = (await signed_addresses(goods, goods.models)).values()
    return found


async def test_a_private_file_is_handed_over_as_a_signed_address() -> None:
    async with ModelHost().opened() as host:
        assert await address(host, "private") == SIGNED
        assert host.asked == [("private", None), ("private", f"Bearer {SECRET}")]


@pytest.mark.parametrize("name", ["public", "busy"])
async def test_a_public_file_goes_as_it_is_and_no_token_is_shown(name: str) -> None:
    async with ModelHost().opened() as host:
        assert await address(host, name) == f"http://127.0.0.1:{host.port}/{name}"
        assert host.asked == [(name, None)]


@pytest.mark.parametrize("name", ["renamed", "login"])
async def test_detours_within_the_host_lead_to_the_signed_address_too(name: str) -> None:
    async with ModelHost().opened() as host:
        assert await address(host, name) == SIGNED


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("small", "instead of a redirect to a signed address"),
        ("hidden", "answers HTTP 401, also with HF_TOKEN"),
        ("loop", "answers HTTP 307 instead of a redirect"),
    ],
)
async def test_a_file_that_would_need_the_token_on_the_machine_is_refused(
    name: str, said: str
) -> None:
    async with ModelHost().opened() as host:
        with pytest.raises(Refused, match=said) as refused:
            await address(host, name)

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "target",
    [
        "https://cdn.example/file?token=hf_secret/42",
        "https://cdn.example/file?token=hf_secret%2F42",
        "https://cdn.example/file?token=%68f_secret%2F42",
        "https://user:word@cdn.example/file",
        "http://cdn.example/file",
        "ftp://cdn.example/file",
        "https://cdn.example/" + "x" * 9000,
        "https://[broken/file",
    ],
)
async def test_a_redirect_that_gives_something_away_is_refused(target: str) -> None:
    async with ModelHost(target).opened() as host:
        with pytest.raises(Refused) as refused:
            await address(host, "private")

    assert SECRET not in str(refused.value)
    assert "token=" not in str(refused.value)


async def test_a_host_without_a_token_of_ours_is_not_even_asked() -> None:
    async with ModelHost().opened() as host:
        goods = Goods(host.goods("private").models)

        found = await signed_addresses(goods, goods.models)

        assert found == {"checkpoints/private": [f"http://127.0.0.1:{host.port}/private"]}
        assert host.asked == []


async def test_what_no_machine_can_be_given_is_known_before_one_is_rented() -> None:
    async with ModelHost().opened() as host:
        problems = await refusals(host.goods("private", "small", "public", "hidden"))

    assert [problem.where for problem in problems] == [
        "environment.models checkpoints/small",
        "environment.models checkpoints/hidden",
    ]


async def test_a_token_is_not_sent_in_the_clear_nor_told() -> None:
    token = Token("models.example", "HF_TOKEN", SECRET)
    goods = Goods((Model("a", "http://models.example/a"),), tokens=(token,))

    with pytest.raises(Refused, match="HF_TOKEN is not sent there"):
        await signed_addresses(goods, goods.models)

    assert SECRET not in repr(goods)
