"""What each process of the room is told by its environment; pure.

The server hears nothing of nightkiln's settings and of nobody's keys: it renders nothing, and its
API would show to whoever asks what a flow could be made to print. The Prefect worker hears all that
the user has, as flows run with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from nightkiln.room.book import SQLITE, Room
from nightkiln.room.database import Database
from nightkiln.room.processes import MARK

# Measured: 14 task runs a second are recorded as Prefect is shipped, five times as many so.
# https://docs.prefect.io/v3/api-ref/settings-ref names them all.
SERVER_TUNED: Mapping[str, str] = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "2d",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
HEARTBEAT_S = 30
WORKER_TUNED: Mapping[str, str] = {
    "PREFECT_CLIENT_MAX_RETRIES": "8",  # waits out a server that is away for eight minutes
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),  # what deploy/automations.yaml goes by
    "PREFECT_LOGGING_EXTRA_LOGGERS": "nightkiln",
}
# Of the user's environment, what any program needs. Proxies: the server sends notifications.
PLAIN = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("LD_LIBRARY_PATH", "VIRTUAL_ENV", "DO_NOT_TRACK"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    }
)
# Of Prefect's settings those that would lead to another server, or another database.
NOT_TAKEN = ("PREFECT_HOME", "PREFECT_PROFILE", "PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT__")
DATABASES = ("PREFECT_SERVER_DATABASE", "PREFECT_API_DATABASE")
ADDRESSES = ("PREFECT_SERVER_API_PORT", "PREFECT_SERVER_API_HOST", "PREFECT_UI_API_URL")
# Where the page asks, in whichever browser it is open: at the address it came from. An address of
# this computer would leave it blank on any other; both of Prefect's pages take it so.
UI_API_URL, PAGE_ASKS = "PREFECT_SERVER_UI_API_URL", "/api"
UI_URL = "PREFECT_UI_URL"
AUTH, SERVER_AUTH = "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"
DATABASE = "NIGHTKILN_DATABASE"


def server_environment(
    user: Mapping[str, str], room: Room, home: Path, database: Database
) -> dict[str, str]:
    """Of the server: tuned, on this room's address, and with its database."""
    plain = {name: value for name, value in user.items() if is_plain(name)}
    theirs = {
        name: value
        for name, value in user.items()
        if name.startswith("PREFECT_") and not name.startswith((*NOT_TAKEN, *DATABASES, *ADDRESSES))
    }
    ours = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_HOST": room.host,
        "PREFECT_SERVER_API_PORT": str(room.port),
        UI_API_URL: user.get(UI_API_URL, PAGE_ASKS),
        # What the links in its notifications begin with; else they are no links.
        UI_URL: user.get(UI_URL, room.address),
        MARK: f"{room.mark}:server",
    }
    if database.shown != SQLITE:
        ours["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database.url
    return {**plain, **SERVER_TUNED, **theirs, **ours}


def worker_environment(user: Mapping[str, str], room: Room, home: Path) -> dict[str, str]:
    """Of the Prefect worker and the flows it starts: all that the user has, and this room's API."""
    kept = {
        name: value
        for name, value in user.items()
        if not name.startswith((*NOT_TAKEN, *DATABASES)) and name not in {DATABASE, SERVER_AUTH}
    }
    ours = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": room.api,
        MARK: f"{room.mark}:worker",
    }
    if SERVER_AUTH in user and AUTH not in user:
        ours[AUTH] = user[SERVER_AUTH]
    return {**WORKER_TUNED, **kept, **ours}


def tool_environment(user: Mapping[str, str], room: Room, home: Path) -> dict[str, str]:
    """Of a ``prefect`` command that ends by itself: no mark, and no key."""
    worker = worker_environment(user, room, home)
    return {
        name: value
        for name, value in worker.items()
        if name != MARK and (is_plain(name) or name.startswith("PREFECT_"))
    }


def is_plain(name: str) -> bool:
    """Whether any program may know it."""
    return name in PLAIN or name.startswith(("LC_", "XDG_"))


def told(environment: Mapping[str, str], salt: str) -> dict[str, str]:
    """What a worker was told of settings and keys, so that a change is seen, and nothing read."""
    return {
        name: hashlib.sha256(f"{salt}{name}={value}".encode()).hexdigest()[:16]
        for name, value in environment.items()
        if name != MARK and name.startswith(NOTICED)
    }


NOTICED = ("NIGHTKILN_", "VAST_", "MODAL_", "AWS_", "HF_TOKEN", "CIVITAI_TOKEN")


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of what a worker was told otherwise, or not at all."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
