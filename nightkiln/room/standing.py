"""How a room stands: what is up, where, and whether the next night would spend money."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightkiln.core.errors import BadInput, NightkilnError
from nightkiln.places import LOCAL, provider_names
from nightkiln.room.asking import PrefectApi
from nightkiln.room.automations import OURS
from nightkiln.room.book import Room, RoomBook
from nightkiln.room.opening import api_of, is_online, worker_name
from nightkiln.settings import Settings, load_settings

NIGHTLY = "nightly"
UP, DOWN = "up", "down"


@dataclass(frozen=True, slots=True)
class Night:
    """What the schedule will do."""

    says: str
    usd_max: str | None = None  # None: it rents nothing


@dataclass(frozen=True, slots=True)
class Standing:
    """What there is to say about a room."""

    ui: str
    api: str
    server: str
    worker: str
    database: str
    deployments: tuple[str, ...]
    automations: tuple[str, ...]
    adhoc_limit: int | None  # runs from a form that work at once; None: as many as are asked for
    night: str
    night_usd_max: str | None
    logs: str

    @property
    def is_up(self) -> bool:
        """Whether a run that is asked for starts."""
        return (self.server, self.worker) == (UP, UP)


def standing(book: RoomBook, user: Mapping[str, str]) -> Standing:
    """Look at the room, and change nothing."""
    room = book.read()
    api = api_of(room, user)
    server = _server(room, api)
    deployments: list[dict[str, Any]] = []
    automations: list[dict[str, Any]] = []
    worker, queue = DOWN, None
    if server == UP:
        deployments, automations = api.deployments(), api.automations()
        worker, queue = _worker(room, api), api.queue()
    night = _night(room, deployments)
    return Standing(
        ui=room.address,
        api=room.api,
        server=server,
        worker=worker,
        database=room.database,
        deployments=tuple(sorted(str(each["name"]) for each in deployments)),
        automations=tuple(sorted(str(each["name"]) for each in automations if is_ours(each))),
        adhoc_limit=queue["concurrency_limit"] if queue is not None else None,
        night=night.says,
        night_usd_max=night.usd_max,
        logs=str(book.log("server").parent),
    )


def is_ours(automation: Mapping[str, Any]) -> bool:
    """Whether it came from the shipped file, and is switched on."""
    return OURS in automation["tags"] and bool(automation["enabled"])


def _server(room: Room, api: PrefectApi) -> str:
    if room.server is None or not room.server.is_alive:
        return DOWN
    return UP if api.is_ready() else f"does not answer; {room.server.log} says why"


def _worker(room: Room, api: PrefectApi) -> str:
    if room.worker is None or not room.worker.is_alive:
        return DOWN
    is_seen = is_online(api, worker_name(room), room.worker.since_s)
    return UP if is_seen else f"gives no sign of life; {room.worker.log} says why"


def _night(room: Room, deployments: Iterable[Mapping[str, Any]]) -> Night:
    nightly = next((each for each in deployments if each["name"] == NIGHTLY), None)
    if nightly is None:
        return Night("no night is scheduled: nothing is rented")
    try:
        # As its flow reads them: nightkiln.toml of the checkout counts, too.
        with chdir(Path(room.checkout)):
            return night(nightly, load_settings)
    except (OSError, NightkilnError) as error:
        return Night(f"the night would not begin: {error}")


def night(nightly: Mapping[str, Any], load: Any) -> Night:
    """Whether the deployed nightly would rent, and for how much."""
    active = [each for each in nightly.get("schedules", ()) if each["active"]]
    if nightly.get("paused") or not active:
        return Night("the schedule of nightly is off: nothing is rented")
    when = " and ".join(_when(each["schedule"]) for each in active)
    params = (nightly.get("parameters") or {}).get("params") or {}
    try:
        settings = _settings_of(params, load)
        names = [name for name in _names(settings, params) if name != LOCAL]
    except BadInput as error:
        return Night(f"nightly begins {when}, and would end at once: {error}")
    if not names:
        return Night(f"nightly begins {when}, on your own workers: nothing is rented")
    if settings.budget is None:
        what = "nothing is rented, as no budget is set (budget of nightly, or NIGHTKILN_BUDGET)"
        return Night(f"nightly begins {when}; {what}")
    what = f"it RENTS from {' and '.join(names)} for up to {settings.budget} USD a night"
    return Night(f"nightly begins {when}; {what}", str(settings.budget))


def _settings_of(params: Mapping[str, Any], load: Any) -> Settings:
    budget = params.get("budget")
    options = params.get("options") or {}
    settings: Settings = load(
        providers=params.get("providers"),
        budget=str(budget) if budget else None,
        fallback=params.get("fallback") or None,
        worker_urls=params.get("worker_urls") or options.get("worker_urls"),
    )
    return settings


def _names(settings: Settings, params: Mapping[str, Any]) -> tuple[str, ...]:
    """Providers as the flow would choose them; a block brings a key that is not known here."""
    blocks = {"vast": "vast_block", "modal": "modal_block"}
    brought = tuple(name for name, block in blocks.items() if params.get(block))
    chosen = settings.providers
    if brought:
        own = (LOCAL,) if settings.worker_urls else ()
        return tuple(name for name in chosen or (*own, *brought) if name in (*own, *brought))
    return provider_names(settings)


def _when(schedule: Mapping[str, Any]) -> str:
    zone = schedule.get("timezone") or "UTC"
    if "cron" not in schedule:
        return f"by its schedule ({zone})"
    minute, hour, *rest = str(schedule["cron"]).split()
    if rest == ["*", "*", "*"] and minute.isdigit() and hour.isdigit():
        return f"at {int(hour):02d}:{int(minute):02d} {zone}"
    return f"by the schedule {schedule['cron']!r} ({zone})"
