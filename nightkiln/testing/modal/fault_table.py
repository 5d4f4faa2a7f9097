"""Every fault by name."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from grpclib import Status

from nightkiln.testing.modal.fault_kinds import (
    BLOB_GET,
    BLOB_PUT,
    RUN,
    START,
    Answered,
    Crashes,
    Ended,
    Fault,
    Forgotten,
    Frozen,
    Garbled,
    Late,
    Lost,
    NeverUp,
    NextGpu,
    Preempted,
    Refused,
    Slow,
)

SDK_ATTEMPTS = 4  # of the SDK at a call that fails for a moment: it repeats three times
TIMES_MAX = 1_000_000  # "always"

SPAWN = frozenset({"FunctionMap"})
POLL = frozenset({"FunctionGetOutputs"})
CANCEL = frozenset({"FunctionCallCancel"})
LOOKUP = frozenset({"ClassGet", "FunctionGet"})
EVERYWHERE = frozenset({"*"})  # every call of the control plane
RUNS, STARTS = frozenset({RUN}), frozenset({START})

AWAY = Refused(Status.UNAVAILABLE, "the service is away")
# The words are those of modal-labs/modal-client#3397; the status is a guess.
SPENT = "Function call failed: workspace billing cycle spend limit reached"
NO_CREDIT = Refused(Status.RESOURCE_EXHAUSTED, SPENT)

FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        # the control plane
        "away": Fault("every call fails for a moment", EVERYWHERE, AWAY, SDK_ATTEMPTS, 0.005),
        "down": Fault("every call fails from here on", EVERYWHERE, AWAY, TIMES_MAX),
        "internal_500": Fault(
            "a call fails within the service",
            EVERYWHERE,
            Refused(Status.INTERNAL, "internal error"),
            SDK_ATTEMPTS,
        ),
        "slow_connect": Fault("the first call takes a minute", EVERYWHERE, Late(60.0)),
        "auth": Fault(
            "the token is not known any more",
            EVERYWHERE,
            Refused(Status.UNAUTHENTICATED, "Token ID/secret not recognised"),
            TIMES_MAX,
        ),
        "forbidden": Fault(
            "the token may not do that",
            SPAWN,
            Refused(Status.PERMISSION_DENIED, "the token lacks permission"),
            TIMES_MAX,
        ),
        "lookup_lost": Fault("a look-up fails for a moment", LOOKUP, AWAY, 2, 0.02),
        "no_credit": Fault("the workspace is out of credit", SPAWN, NO_CREDIT, TIMES_MAX),
        "spawn_rate": Fault(
            "calls come too fast, or too many wait",
            SPAWN,
            Refused(Status.RESOURCE_EXHAUSTED, "rate limit exceeded for function calls"),
            2,
            0.02,
        ),
        "spawn_away": Fault("a spawn fails, nothing is spawned", SPAWN, AWAY, SDK_ATTEMPTS, 0.005),
        "spawn_blink": Fault("a spawn fails at first", SPAWN, AWAY, 2, 0.02),
        "spawn_lost": Fault("spawned, and the answer is lost", SPAWN, Lost(), SDK_ATTEMPTS),
        "spawn_reply_lost_once": Fault(
            "spawned, and the first answer is lost", SPAWN, Lost(), 1, 0.02
        ),
        "poll_away": Fault("asking for a result fails", POLL, AWAY, SDK_ATTEMPTS, 0.01),
        "expired": Fault("the result has expired", POLL, Forgotten()),
        "cancel_away": Fault("cancelling fails", CANCEL, AWAY, SDK_ATTEMPTS),
        "cancel_lost": Fault("cancelled, and the answer is lost", CANCEL, Lost(), SDK_ATTEMPTS),
        # payloads
        "blob_put_503": Fault(
            "a payload is refused for a moment",
            frozenset({BLOB_PUT}),
            Answered(HTTPStatus.BAD_GATEWAY, "slow down"),
            1,
            0.02,
        ),
        "blob_put_fails": Fault(
            "payloads cannot be put",
            frozenset({BLOB_PUT}),
            Answered(HTTPStatus.FORBIDDEN, "no"),
            TIMES_MAX,
        ),
        "blob_get_503": Fault(
            "a payload cannot be had for a moment",
            frozenset({BLOB_GET}),
            Answered(HTTPStatus.BAD_GATEWAY, "slow down"),
            1,
            0.02,
        ),
        "blob_get_fails": Fault(
            "payloads cannot be had",
            frozenset({BLOB_GET}),
            Answered(HTTPStatus.NOT_FOUND, "no such key"),
            TIMES_MAX,
        ),
        "blob_short": Fault("half of a payload arrives", frozenset({BLOB_GET}), Garbled()),
        # inputs
        "preempted": Fault("a container is taken away", RUNS, Preempted(1.0), 1, 0.02),
        "preempted_late": Fault("a container is taken away later", RUNS, Preempted(30.0)),
        "frozen": Fault("a container hangs until its time is up", RUNS, Frozen(0.5)),
        "internal_failure": Fault(
            "an input is lost for good",
            RUNS,
            Ended("INTERNAL_FAILURE", "worker lost, input given up"),
            1,
            0.01,
        ),
        "oom": Fault(
            "a container runs out of memory",
            RUNS,
            Ended("KERNEL_OOM_KILL", "Runner ran out of memory"),
        ),
        "evicted": Fault("an input is stopped by the service", RUNS, Ended("TERMINATED", "")),
        # starts
        "crash_start": Fault(
            "a container dies while it starts", STARTS, Crashes("enter hook crashed"), 1, 0.02
        ),
        "crash_loop": Fault(
            "every container dies while it starts",
            STARTS,
            Crashes("enter hook crashed"),
            TIMES_MAX,
        ),
        "never_up": Fault("a container never comes up", STARTS, NeverUp()),
        "slow_start": Fault("a container is slow to start", STARTS, Slow(5.0), 1, 0.05),
        "next_gpu": Fault("the first GPU of the list is not to be had", STARTS, NextGpu(), 1, 0.1),
    }
)
