"""Everything that can go wrong at the service and its machines, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from nightkiln.testing.vast_market.fault_kinds import (
    Afflicts,
    Afterwards,
    Altered,
    Fault,
    Hangs,
    Instead,
    Raced,
)
from nightkiln.testing.vast_market.replies import Reply

TIMES_MAX = 1_000_000  # of a fault that never ends by itself


def _refusal(status: int, error: str, message: str, **more: Any) -> Reply:
    return Reply({"success": False, "error": error, "msg": message, **more}, status)


def _rows(**values: Any) -> Altered:
    """Every second row of a listing has these values."""

    def change(body: Any) -> Any:
        for row in body.get("instances", [])[::2]:
            row.update(values)
        return body

    return Altered(change)


def _emptied(body: Any) -> Any:
    return {
        **body,
        "instances": [],
        "instances_found": 0,
        "total_instances": 0,
        "label_counts": {},
        "next_token": None,
    }


CREATE = frozenset({"create"})
LIST = frozenset({"list"})
SEARCH = frozenset({"search"})
DESTROY = frozenset({"destroy", "destroy_bulk"})
EVERYWHERE = frozenset({"search", "create", "list", "show", "destroy", "destroy_bulk", "user"})
MANY = Reply("API requests too frequent: endpoint threshold=4.5", 429)
NO_ASK = "error 404/3603: no_such_ask Instance type by id is not available."
BAD_GATEWAY = Reply("<html><body>502 Bad Gateway</body></html>", 502, content_type="text/html")
BROKEN = Reply("Internal Server Error", 500)
HTML = Reply("<html><body>Just a moment...</body></html>", 200, content_type="text/html")
NO_KEY = _refusal(404, "auth_error", "Invalid user key")

_ALL: dict[str, Fault] = {
    "create_404": Fault(
        "no such offer", CREATE, Instead(_refusal(404, "invalid_args", NO_ASK)), 2, 0.03
    ),
    "create_409": Fault(
        "the offer is taken",
        CREATE,
        Instead(_refusal(409, "conflict", "offer no longer available")),
        2,
        0.02,
    ),
    "create_410": Fault(
        "the offer is gone",
        CREATE,
        Instead(_refusal(410, "no_such_ask", "error 410/3907: no_such_ask")),
        2,
        0.03,
    ),
    "create_price": Fault(
        "the price is refused", CREATE, Instead(_refusal(400, "invalid_price", "invalid price")), 2
    ),
    "create_no_credit": Fault(
        "the account lacks credit",
        CREATE,
        Instead(_refusal(400, "insufficient_credit", "Your account lacks credit")),
        1,
    ),
    "create_spend_limit": Fault(
        "a new account may not spend so fast",
        CREATE,
        Instead(_refusal(400, "spend_rate_limit", "spend rate limit reached")),
        2,
    ),
    "create_false": Fault(
        "200 that says success: false",
        CREATE,
        Instead(_refusal(200, "no_such_ask", "no_such_ask")),
        2,
        0.01,
    ),
    "create_lost": Fault("rented, and the answer is lost", CREATE, Afterwards(None), 1, 0.02),
    "create_502_before": Fault("502, nothing rented", CREATE, Instead(BAD_GATEWAY), 2, 0.02),
    "create_502_after": Fault("502, and rented", CREATE, Afterwards(BAD_GATEWAY), 1, 0.02),
    "create_hangs": Fault("rented, and no answer in time", CREATE, Hangs(), 1),
    "taken_race": Fault("taken since the search", CREATE, Raced(), 2, 0.02),
    "search_429": Fault("the search is refused", SEARCH, Instead(MANY), 2, 0.02),
    "search_quota": Fault(
        "the day's searches are used up",
        SEARCH,
        Instead(_refusal(429, "search_quota_exceeded", "search quota exceeded")),
        3,
    ),
    "search_html": Fault("a search answers with a page", SEARCH, Instead(HTML), 1, 0.01),
    "list_429": Fault("a storm of 429 on the list", LIST, Instead(MANY), 6, 0.03),
    "list_500": Fault("the list fails", LIST, Instead(BROKEN), 3, 0.02),
    "list_html": Fault("the list answers with a page", LIST, Instead(HTML), 2, 0.01),
    "list_empty": Fault("the list says that there is nothing", LIST, Altered(_emptied), 2, 0.01),
    "list_token": Fault(
        "a page's token is not known any more",
        LIST,
        Instead(_refusal(400, "invalid_args", "invalid after_token")),
        1,
    ),
    "env_null": Fault("rows whose extra_env is null", LIST, _rows(extra_env=None), TIMES_MAX, 0.1),
    "date_null": Fault(
        "rows whose start_date is null", LIST, _rows(start_date=None), TIMES_MAX, 0.1
    ),
    "nulls": Fault(
        "rows of which nothing but the id is known",
        LIST,
        _rows(label=None, actual_status=None, machine_id=None, ports=None, dph_total=None),
        3,
    ),
    "unknown_status": Fault(
        "rows with a status that nobody has heard of", LIST, _rows(actual_status="parked"), 3, 0.02
    ),
    "auth_404": Fault("the key is not known for a while", EVERYWHERE, Instead(NO_KEY), 2),
    "away": Fault("the service is away", EVERYWHERE, Instead(Reply("away", 503)), 10, 0.005),
    "mute": Fault("nothing is answered in time", EVERYWHERE, Hangs(), 10),
    "destroy_429": Fault("destroying is refused", DESTROY, Instead(MANY), 4, 0.05),
    "destroy_500": Fault("destroying fails", DESTROY, Instead(BROKEN), 3, 0.03),
    "destroy_404": Fault(
        "destroyed, and said to have been gone",
        DESTROY,
        Afterwards(_refusal(404, "no_such_instance", "Instance not found")),
        2,
        0.02,
    ),
    "destroy_lie": Fault(
        "said to be destroyed, and is not", DESTROY, Instead(Reply({"success": True})), 2, 0.02
    ),
}
_BODIES: Mapping[str, tuple[str, float]] = {
    "stuck_loading": ("never leaves the image pull", 0.01),
    "manifest_unknown": ("the image cannot be had", 0.01),
    "no_space": ("the host's disk is full", 0.01),
    "oci_failed": ("the container cannot be created", 0.01),
    "exits_at_once": ("the container exits at once", 0.01),
    "small_disk": ("half of the disk that was asked for", 0.01),
    "wrong_gpu": ("another GPU than was offered", 0.01),
    "cuda_old": ("a driver that is too old", 0.01),
    "busy_card": ("another tenant on the card", 0.01),
    "ports_missing": ("the SSH port is not shown", 0.01),
    "ports_ipv6": ("the SSH port is shown for IPv6 only", 0.01),
    "black_hole_port": ("the SSH port never answers", 0.01),
    "provision_fails": ("provisioning fails", 0.01),
    "slow_download": ("a fiftieth of its line", 0.01),
    "comfy_never_up": ("ComfyUI never answers", 0.01),
    "outbid": ("outbid in the middle of a job", 0.0),
    "zombie": ("outbid, and back by itself a minute later", 0.02),
    "offline_back": ("its host is offline for a minute", 0.02),
    "offline_forever": ("its host is gone", 0.01),
    "frozen": ("frozen, and billed", 0.01),
    "gpu_slow": ("ten times as slow", 0.02),
    "cuda_500": ("CUDA errors", 0.01),
    "moves": ("restarts under another port", 0.02),
    "disk_full": ("its disk fills up", 0.01),
    "end_date": ("its host takes it back", 0.01),
    "destroy_lingers": ("its row is there for a minute after it is destroyed", 0.02),
}
_ALL |= {
    name: Fault(says, CREATE, Afflicts(name), 1, share) for name, (says, share) in _BODIES.items()
}
FAULTS: Mapping[str, Fault] = MappingProxyType(_ALL)
