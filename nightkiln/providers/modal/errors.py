"""Every way in which Modal says no, as one of our errors, with what to do next.

The only place that knows the SDK's exceptions. Two traps are settled here: the SDK's own
``TimeoutError`` and ``ConnectionError`` are not the builtin ones, and the builtin ``TimeoutError``
means that a result is pending, which is no failure and never gets here.
"""

from __future__ import annotations

from enum import StrEnum

from nightkiln.core.errors import NightkilnError, ProviderError, RenderFailed, WorkerLost
from nightkiln.core.model import Fault, Loss

NAME = "modal"
SAID_CHARS_MAX = 200  # of what the service says, in a message of ours
DEPLOY = "run: nightkiln modal deploy CATALOG"


class Kind(StrEnum):
    """What went wrong: decides what happens next and what people are told."""

    NO_TOKEN = "no_token"  # noqa: S105 - a word of ours
    WRONG_TOKEN = "wrong_token"  # noqa: S105
    NOT_INSTALLED = "not_installed"
    NOT_ALLOWED = "not_allowed"
    NOT_DEPLOYED = "not_deployed"
    OTHER_ENVIRONMENT = "other_environment"
    NO_CREDIT = "no_credit"
    RATE_LIMITED = "rate_limited"
    UNREACHABLE = "unreachable"
    UNANSWERED = "unanswered"  # it may have been done
    SERVICE = "service"
    OUTDATED = "outdated"  # SDK and service, or the two sides of our contract
    REFUSED = "refused"
    # What became of a call.
    TIMED_OUT = "timed_out"  # it took longer than its timeout
    LOST = "lost"  # its container was lost, and the service gave up
    STOPPED = "stopped"  # cancelled, or its container could not start
    RAISED = "raised"  # its container says that it is broken
    FORGOTTEN = "forgotten"  # results are kept for seven days
    NO_RESULT = "no_result"  # it cannot be read here
    TOO_LARGE = "too_large"


# What the SDK raises -> what that is to us. The first that fits counts; ``modal.exception``.
TABLE: tuple[tuple[str, Kind], ...] = (
    ("FunctionTimeoutError", Kind.TIMED_OUT),
    ("OutputExpiredError", Kind.FORGOTTEN),
    ("TimeoutError", Kind.UNANSWERED),
    ("ConnectionError", Kind.UNREACHABLE),
    ("ClientClosed", Kind.UNREACHABLE),
    ("AuthError", Kind.WRONG_TOKEN),
    ("PermissionDeniedError", Kind.NOT_ALLOWED),
    ("NotFoundError", Kind.NOT_DEPLOYED),
    ("ResourceExhaustedError", Kind.RATE_LIMITED),
    ("RequestSizeError", Kind.TOO_LARGE),
    ("InternalFailure", Kind.LOST),
    ("RemoteError", Kind.STOPPED),
    ("ExecutionError", Kind.NO_RESULT),
    ("DeserializationError", Kind.NO_RESULT),
    ("VersionError", Kind.OUTDATED),
    ("UnimplementedError", Kind.OUTDATED),
    ("ServiceError", Kind.UNANSWERED),
    ("InternalError", Kind.SERVICE),
    ("InvalidError", Kind.REFUSED),
    ("Error", Kind.SERVICE),
)
# In the service's words, where its exceptions say less.
SIGNS: tuple[tuple[str, Kind], ...] = (
    ("spend limit", Kind.NO_CREDIT),
    ("out of credit", Kind.NO_CREDIT),
    ("insufficient credit", Kind.NO_CREDIT),
    ("payment", Kind.NO_CREDIT),
)
_SIGNED = frozenset({Kind.RATE_LIMITED, Kind.NOT_ALLOWED, Kind.REFUSED})

_ADVICE = {
    Kind.NO_TOKEN: "there is no token; set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET "
    "(docs/how-to/modal.md)",
    Kind.WRONG_TOKEN: "the token is not valid; make a new one with 'modal token new', and set "
    "MODAL_TOKEN_ID and MODAL_TOKEN_SECRET",
    Kind.NOT_INSTALLED: "its SDK is not installed; pip install 'nightkiln[modal]'",
    Kind.NOT_ALLOWED: "the token may not do this; use one of a member who may",
    Kind.NOT_DEPLOYED: f"the app is not deployed; {DEPLOY}",
    Kind.OTHER_ENVIRONMENT: f"the app is deployed for another environment; {DEPLOY}",
    Kind.NO_CREDIT: "the workspace has no credit left, or has reached its spend limit; see "
    "Settings > Usage and billing",
    Kind.RATE_LIMITED: "too many calls; wait a minute",
    Kind.UNREACHABLE: "the service cannot be reached; check the network",
    Kind.UNANSWERED: "the service did not answer; try again later",
    Kind.SERVICE: "the service has trouble; try again later",
    Kind.OUTDATED: f"versions do not match; {DEPLOY}, or install the locked versions",
    Kind.REFUSED: "the service refused",
    Kind.TIMED_OUT: "a call took longer than its timeout; see the setting modal_timeout_s",
    Kind.LOST: "a container was lost, and the service gave up",
    Kind.STOPPED: "a call was stopped, or its container did not start",
    Kind.RAISED: "a container is broken",
    Kind.FORGOTTEN: "the service has the result no more",
    Kind.NO_RESULT: "a result cannot be had, or not be read",
    Kind.TOO_LARGE: "a request or a result is too large; see the setting modal_result_mb_max",
}
TRANSIENT = frozenset({Kind.RATE_LIMITED, Kind.UNREACHABLE, Kind.UNANSWERED, Kind.SERVICE})
AMBIGUOUS = frozenset({Kind.UNANSWERED, Kind.SERVICE, Kind.UNREACHABLE})
# What only a call that runs no more is answered with. Everything else says nothing about it: a
# token that was revoked meanwhile does not end a container.
OVER = frozenset(
    {
        Kind.TIMED_OUT,
        Kind.LOST,
        Kind.STOPPED,
        Kind.RAISED,
        Kind.FORGOTTEN,
        Kind.NO_RESULT,
        Kind.TOO_LARGE,
        Kind.NOT_DEPLOYED,  # there is no such call
        Kind.REFUSED,  # nor can there be one of that name
    }
)


class ModalFailed(ProviderError):
    """Modal did not do what it was asked for; one line, with what to do next."""

    def __init__(self, kind: Kind, verb: str, *, said: str = "") -> None:
        detail = f" ({said})" if said else ""
        super().__init__(f"{NAME}, {verb}: {_ADVICE[kind]}{detail}", provider=NAME)
        self.kind, self.verb, self.said = kind, verb, said

    @property
    def is_transient(self) -> bool:
        """Whether the same call may succeed in a moment."""
        return self.kind in TRANSIENT

    @property
    def is_over(self) -> bool:
        """Whether a call that was asked about runs no more."""
        return self.kind in OVER

    @property
    def is_ambiguous(self) -> bool:
        """Whether what was asked for may have been done."""
        return self.kind in AMBIGUOUS


def translated(error: Exception, verb: str) -> ModalFailed:
    """What an exception of the SDK, or of a call's own code, means to us."""
    import aiohttp
    import modal.exception

    if isinstance(error, ModalFailed):
        return error
    said = _said(str(error))
    for name, kind in TABLE:
        if isinstance(error, getattr(modal.exception, name)):
            return ModalFailed(_signed(kind, said), verb, said=said)
    if isinstance(error, OSError | aiohttp.ClientError):  # the way of a large payload
        return ModalFailed(Kind.UNANSWERED, verb, said=type(error).__name__)
    return ModalFailed(Kind.RAISED, verb, said=said or type(error).__name__)


def as_attempt(failed: ModalFailed) -> NightkilnError:
    """What the failure of a call means for the job that it was to render."""
    said = str(failed)
    if failed.kind is Kind.TIMED_OUT:
        return RenderFailed(said, fault=Fault.UNKNOWN, kind="timeout")
    if failed.kind is Kind.TOO_LARGE:
        return RenderFailed(said, fault=Fault.JOB, kind="too_large")
    if failed.kind is Kind.STOPPED and "out of memory" in failed.said.lower():
        return RenderFailed(said, fault=Fault.MACHINE, kind="oom")
    if failed.kind is Kind.OUTDATED:
        return RenderFailed(said, fault=Fault.OURS, kind="contract")
    # A slot whose container is gone gets another; nothing is known against the job.
    return WorkerLost(said, loss=Loss.LOST)


def _signed(kind: Kind, said: str) -> Kind:
    if kind not in _SIGNED:
        return kind
    return next((found for sign, found in SIGNS if sign in said.lower()), kind)


def _said(text: str) -> str:
    """Printable text of bounded length on one line."""
    return "".join(c if c.isprintable() else " " for c in text[:SAID_CHARS_MAX]).strip()
