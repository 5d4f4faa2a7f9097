"""Every way in which the service says no, as one of our errors, with what to do next.

The only place that knows the SDK's exceptions. A ``VastFailed`` carries no exception of the SDK
with it, neither as cause nor as context: those hold the request, and the request holds the key.
"""

from __future__ import annotations

import json
import math
import re
from enum import StrEnum
from typing import Any

from nightkiln.core.errors import ProviderError

NAME = "vast"
SAID_CHARS_MAX = 200  # of what the service says, in a message of ours
BODY_CHARS_MAX = 64 * 1024  # of an answer that is looked at
RETRY_AFTER_S_MAX = 3600.0  # what asks for more patience is not waited for
KEY = re.compile(r"[\x21-\x7e]{8,512}")  # what can be sent in a header


class Kind(StrEnum):
    """What went wrong: decides what happens next and what people are told."""

    NO_KEY = "no_key"
    WRONG_KEY = "wrong_key"
    NOT_ALLOWED = "not_allowed"  # the key is good, but not for this
    NO_CREDIT = "no_credit"
    SPEND_LIMIT = "spend_limit"  # a young account may not spend faster
    UNREACHABLE = "unreachable"  # the request never arrived
    UNANSWERED = "unanswered"  # it may have arrived
    RATE_LIMITED = "rate_limited"
    SEARCH_QUOTA = "search_quota"
    OFFER_GONE = "offer_gone"
    PRICE = "price"  # the bid does not win
    NO_SUCH_MACHINE = "no_such_machine"
    REFUSED = "refused"  # any other no
    SERVICE = "service"  # its own trouble, or an answer that makes no sense


TRANSIENT = frozenset({Kind.UNREACHABLE, Kind.UNANSWERED, Kind.RATE_LIMITED, Kind.SERVICE})
AMBIGUOUS = frozenset({Kind.UNANSWERED, Kind.SERVICE})

_ADVICE = {
    Kind.NO_KEY: "there is no API key; set NIGHTKILN_VAST_API_KEY (or VAST_API_KEY)",
    Kind.WRONG_KEY: "the API key is not valid; make a new one in the console (Keys), "
    "and set NIGHTKILN_VAST_API_KEY",
    Kind.NOT_ALLOWED: "the API key may not do this; give it user_read, instance_read, "
    "instance_write, billing_read and misc",
    Kind.NO_CREDIT: "the account has no credit; add some in the console (Billing)",
    Kind.SPEND_LIMIT: "the account may not spend faster yet; rent fewer or cheaper machines, "
    "or ask the service's support",
    Kind.UNREACHABLE: "the service cannot be reached; check the network and NIGHTKILN_VAST_URL",
    Kind.UNANSWERED: "the service did not answer; try again later",
    Kind.RATE_LIMITED: "too many requests; something else uses this account or address too, "
    "wait a minute",
    Kind.SEARCH_QUOTA: "today's searches are used up; they are counted anew from 00:00 UTC",
    Kind.OFFER_GONE: "the offer is gone",
    Kind.PRICE: "the bid does not win any more",
    Kind.NO_SUCH_MACHINE: "there is no such machine",
    Kind.REFUSED: "the service refused",
    Kind.SERVICE: "the service has trouble; try again later",
}

# In this order: the first that is found in an answer says what it means.
_SIGNS = (
    ("search_quota_exceeded", Kind.SEARCH_QUOTA),
    ("auth_error", Kind.WRONG_KEY),
    ("invalid user key", Kind.WRONG_KEY),
    ("spend_rate_limit", Kind.SPEND_LIMIT),
    ("insufficient_credit", Kind.NO_CREDIT),
    ("insufficient credit", Kind.NO_CREDIT),
    ("lacks credit", Kind.NO_CREDIT),
    ("missing_billing", Kind.NO_CREDIT),
    ("deprecated_endpoint", Kind.REFUSED),
    ("no_such_instance", Kind.NO_SUCH_MACHINE),
    ("no_such_ask", Kind.OFFER_GONE),
    ("no longer available", Kind.OFFER_GONE),
    ("invalid_price", Kind.PRICE),
)
_STATUSES = {
    401: Kind.WRONG_KEY,
    402: Kind.NO_CREDIT,
    403: Kind.NOT_ALLOWED,
    409: Kind.OFFER_GONE,
    410: Kind.OFFER_GONE,
    429: Kind.RATE_LIMITED,
}


class VastFailed(ProviderError):
    """The service did not do what it was asked for; one line, with what to do next."""

    def __init__(
        self,
        kind: Kind,
        verb: str,
        *,
        said: str = "",
        contract: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        detail = f" ({said})" if said else ""
        super().__init__(f"{NAME}, {verb}: {_ADVICE[kind]}{detail}", provider=NAME)
        self.kind, self.verb = kind, verb
        self.contract = contract  # what it has made all the same
        self.retry_after_s = retry_after_s

    @property
    def is_transient(self) -> bool:
        """Whether the same call may succeed in a moment."""
        return self.kind in TRANSIENT

    @property
    def is_ambiguous(self) -> bool:
        """Whether what was asked for may have been done."""
        return self.kind in AMBIGUOUS


def checked_key(key: str) -> str:
    """A key that can be sent.

    Raises:
        VastFailed: there is none, or it cannot be one; the message does not hold it.
    """
    key = key.strip()
    if not key:
        raise VastFailed(Kind.NO_KEY, "key")
    if not KEY.fullmatch(key):
        raise VastFailed(Kind.WRONG_KEY, "key", said="it has characters that no key has")
    return key


def refusal(answer: Any, verb: str, *, status: int = 200) -> VastFailed:
    """What an answer means that is no yes: parsed JSON, or text."""
    fields = answer if isinstance(answer, dict) else {}
    said = _said(" ".join(_strings(fields)) if fields else answer)
    return VastFailed(
        _kind(said.lower(), status),
        verb,
        said=f"HTTP {status}: {said[:SAID_CHARS_MAX]}" if said else f"HTTP {status}",
        contract=_contract(fields.get("new_contract")),
    )


def translated(error: Exception, verb: str) -> VastFailed:
    """What an exception of the SDK means to us."""
    import requests

    if isinstance(error, VastFailed):
        return error
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _answered(error.response, verb)
    if isinstance(error, requests.ConnectTimeout) or _never_arrived(error):
        return VastFailed(Kind.UNREACHABLE, verb, said="no connection")
    if isinstance(error, requests.RequestException) and not isinstance(error, ValueError):
        return VastFailed(Kind.UNANSWERED, verb, said=type(error).__name__)
    # No JSON, or JSON without what the SDK looks for in it.
    return VastFailed(Kind.SERVICE, verb, said="an answer that makes no sense")


def _answered(response: Any, verb: str) -> VastFailed:
    text = response.text[:BODY_CHARS_MAX]
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = text
    failed = refusal(answer, verb, status=response.status_code)
    failed.retry_after_s = _seconds(response.headers.get("Retry-After"))
    return failed


def _kind(said: str, status: int) -> Kind:
    for sign, kind in _SIGNS:
        if sign in said:
            return kind
    if status >= 500:  # noqa: PLR2004
        return Kind.SERVICE
    return _STATUSES.get(status, Kind.REFUSED)


def _strings(fields: dict[str, Any]) -> list[str]:
    return [value for value in (fields.get("error"), fields.get("msg")) if isinstance(value, str)]


def _said(answer: Any) -> str:
    """Printable text of bounded length on one line."""
    text = answer if isinstance(answer, str) else ""
    return "".join(c if c.isprintable() else " " for c in text[:BODY_CHARS_MAX]).strip()


def _contract(value: Any) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and value.isascii() and value.isdecimal()):
        number = int(str(value)[:20])
        return number if number > 0 else None
    return None


def _seconds(value: str | None) -> float | None:
    """A ``Retry-After`` in seconds; dates are not used by the service."""
    try:
        seconds = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return min(seconds, RETRY_AFTER_S_MAX) if seconds >= 0 else None


def _never_arrived(error: Exception) -> bool:
    """Whether no connection was made: nothing of the request can have been done."""
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)
