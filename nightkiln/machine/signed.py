"""Addresses of private files that a stranger's machine may have: signed ones, never a token.

Model hosts answer an authenticated request with a redirect to a signed address that opens one file
for some minutes. We make that request here and hand over where it leads. Where the answer is no
such redirect, the machine would need the token itself, so the file is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

import httpx

from nightkiln.core.errors import NightkilnError, Problem
from nightkiln.machine.goods import Goods, Model, Token

REDIRECTS_MAX = 5  # within the model host; a renamed repository is one
ADDRESS_LETTERS_MAX = 8192
ANSWER_S_MAX = 30.0
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_OPEN, _REDIRECTS = range(200, 300), frozenset({301, 302, 303, 307, 308})
_LOCKED = frozenset({401, 403, 404})  # hosts say 404 of what they will not show
_TOO_MANY, _ITS_TROUBLE = 429, 500


class Refused(NightkilnError):
    """A model that no machine can be given without giving it a token as well."""


async def signed_addresses(goods: Goods, models: Sequence[Model]) -> dict[str, list[str]]:
    """Where a machine may fetch each of ``models`` from, by path; signed anew where they have to.

    Raises:
        Refused: one of them has no such address.
    """
    tokens = {token.host: token for token in goods.tokens}
    found: dict[str, list[str]] = {}
    async with httpx.AsyncClient(
        follow_redirects=False, timeout=ANSWER_S_MAX, headers={"user-agent": "nightkiln"}
    ) as client:
        for model in models:
            assert model.url is not None, "only what comes from an address has a signed one"
            token = tokens.get(urlsplit(model.url).netloc.lower())
            found[model.path] = [
                model.url if token is None else await _address(client, model.url, token)
            ]
    return found


async def refusals(goods: Goods) -> list[Problem]:
    """What stands between these goods and any machine: ask before anything is rented."""
    problems = []
    for model in goods.models:
        if model.url is not None and model.file is None:
            try:
                await signed_addresses(goods, [model])
            except Refused as error:
                problems.append(Problem(f"environment.models {model.path}", str(error)))
    return problems


async def _address(client: httpx.AsyncClient, url: str, token: Token) -> str:
    """``url`` itself if it is public, else where it leads whoever has the token."""
    home = urlsplit(url)
    if "@" in home.netloc or (home.scheme != "https" and home.hostname not in _LOOPBACK):
        raise Refused(f"{_shown(home)} is no https address, so {token.variable} is not sent there")
    if (await _followed(client, url, None)).is_public:
        return url
    answer = await _followed(client, url, token)
    if answer.target is not None:
        return _harmless(answer.target, home, token)
    if answer.status in _LOCKED:
        raise Refused(f"{_shown(home)} answers HTTP {answer.status}, also with {token.variable}")
    raise Refused(
        f"{_shown(home)} answers HTTP {answer.status} instead of a redirect to a signed address: a "
        f"machine would need {token.variable} itself; give the model as a local file"
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a model host says in the end, its redirects to itself followed."""

    status: int
    target: str | None  # where at another host it leads
    is_page: bool  # for people: a form to log in, not a model

    @property
    def is_public(self) -> bool:
        """Whether anybody is let in; trouble at the host may be over when the machine asks."""
        is_trouble = self.status == _TOO_MANY or self.status >= _ITS_TROUBLE
        return self.target is not None or is_trouble or (self.status in _OPEN and not self.is_page)


async def _followed(client: httpx.AsyncClient, url: str, token: Token | None) -> _Answer:
    """Ask, and ask again where the host sends us to itself; no body is ever read.

    The token goes to the address that it is meant for and to no other.
    """
    headers = {} if token is None else {"authorization": f"Bearer {token.secret}"}
    home = _origin(urlsplit(url))
    for _ in range(REDIRECTS_MAX):
        try:
            async with client.stream("GET", url, headers=headers) as response:
                status, target = response.status_code, response.headers.get("location")
                is_page = response.headers.get("content-type", "").startswith("text/html")
        except httpx.HTTPError as error:
            said = f"{_shown(urlsplit(url))} does not answer: {type(error).__name__}"
            raise Refused(said) from None  # its message may hold the whole address
        if status not in _REDIRECTS or target is None:
            return _Answer(status, None, is_page)
        url = _joined(url, target)
        if _origin(urlsplit(url)) != home:
            return _Answer(status, url, is_page)
    return _Answer(status, None, is_page=True)


def _joined(url: str, target: str) -> str:
    try:
        joined = urljoin(url, target)
        urlsplit(joined)
        httpx.URL(joined)
    except (httpx.InvalidURL, ValueError):
        raise Refused(f"{_shown(urlsplit(url))} redirects to nowhere") from None
    return joined


def _harmless(url: str, home: SplitResult, token: Token) -> str:
    """A signed address that gives nothing away but the file."""
    parts = urlsplit(url)
    is_private = parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in _LOOPBACK and home.hostname in _LOOPBACK
    )
    spellings = (token.secret, quote(token.secret), quote(token.secret, safe=""))
    carries = any(spelling in url for spelling in spellings) or token.secret in unquote(url)
    if carries:
        raise Refused(f"{_shown(home)} redirects to an address that carries {token.variable}")
    is_odd = "@" in parts.netloc or not url.isprintable() or len(url) > ADDRESS_LETTERS_MAX
    if not is_private or is_odd or any(letter.isspace() for letter in url):
        raise Refused(f"{_shown(home)} redirects to an address that is no https one")
    return url


def _origin(parts: SplitResult) -> tuple[str, str]:
    return parts.scheme.lower(), parts.netloc.lower()


def _shown(parts: SplitResult) -> str:
    """An address without what may be secret in it."""
    return f"{parts.hostname}{parts.path}"[:200]
