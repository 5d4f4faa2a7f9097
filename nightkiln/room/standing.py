"""How a room stands: what is up, where, and whether the next night would spend money."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import chdir
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from nightkiln.core.errors import BadInput, NightkilnError
from nightkiln.places import LOCAL, provider_names
from nightkiln.room.asking import PrefectApi
from nightkiln.room.automations import OURS
from nightkiln.room.book import Room, RoomBook
from nightkiln.room.opening import api_of, is_online, worker_name
from nightkiln.settings import Settings, load_settings

# Of a night's deployment, whatever that is called: several nights are copies of it.
ENTRYPOINTS = frozenset({"flows.nightly:nightly", "flows/nightly.py:nightly"})
UP, DOWN = "up", "down"


@dataclass(frozen=True, slots=True)
class Night:
    """What a schedule will do, or all of them."""

    says: str
    usd_max: Decimal | None = None  # None: it rents nothing


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
    night = scheduled(room, deployments)
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
        night_usd_max=str(night.usd_max) if night.usd_max is not None else None,
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


def scheduled(room: Room, deployments: Iterable[Mapping[str, Any]]) -> Night:
    """What the nights among these deployments will do, in the checkout of the room."""
    nightlies = [each for each in deployments if each.get("entrypoint") in ENTRYPOINTS]
    if not nightlies:
        return Night("no night is scheduled: nothing is rented")
    try:
        # As its flow reads them: nightkiln.toml of the checkout counts, too.
        with chdir(Path(room.checkout)):
            return nights(nightlies, load_settings)
    except (OSError, NightkilnError) as error:
        return Night(f"the night would not begin: {error}")


def nights(nightlies: Iterable[Mapping[str, Any]], load: Any) -> Night:
    """Which of the deployed nights would rent, and for how much all together."""
    by_name = sorted(nightlies, key=lambda each: str(each["name"]))
    found = [night for each in by_name for night in _nights_of(each, load)]
    says, spend = ". ".join(night.says for night in found), [night.usd_max for night in found]
    usd = [each for each in spend if each is not None]
    if not usd:
        return Night(says)
    total = sum(usd, Decimal(0))
    return Night(f"{says}. All together: up to {total} USD" if len(usd) > 1 else says, total)


def _nights_of(nightly: Mapping[str, Any], load: Any) -> list[Night]:
    """One for each schedule that is on."""
    name = str(nightly["name"])
    active = [each for each in nightly.get("schedules", ()) if each["active"]]
    if nightly.get("paused") or not active:
        return [Night(f"the schedule of {name} is off: nothing is rented")]
    return [
        _night_of(name, _when(each["schedule"]), _params_of(nightly, each), load) for each in active
    ]


def _params_of(nightly: Mapping[str, Any], schedule: Mapping[str, Any]) -> Mapping[str, Any]:
    """As Prefect gives them to the run: the schedule's, whole, instead of the deployment's."""
    told = {**(nightly.get("parameters") or {}), **(schedule.get("parameters") or {})}
    params: Mapping[str, Any] = told.get("params") or {}
    return params


def _night_of(name: str, when: str, params: Mapping[str, Any], load: Any) -> Night:
    try:
        settings = _settings_of(params, load)
        providers = [each for each in _names(settings, params) if each != LOCAL]
    except BadInput as error:
        return Night(f"{name} begins {when}, and would end at once: {error}")
    if not providers:
        return Night(f"{name} begins {when}, on your own workers: nothing is rented")
    if settings.budget is None:
        what = f"nothing is rented, as no budget is set (budget of {name}, or NIGHTKILN_BUDGET)"
        return Night(f"{name} begins {when}; {what}")
    what = f"it RENTS from {' and '.join(providers)} for up to {settings.budget} USD a night"
    return Night(f"{name} begins {when}; {what}", settings.budget)


def _settings_of(params: Mapping[str, Any], load: Any) -> Settings:
    budget = params.get("budget")
    options = params.get("options") or {}
    own = options.get("local") or options  # of kind several, or local
    settings: Settings = load(
        providers=params.get("providers"),
        budget=str(budget) if budget else None,
        fallback=params.get("fallback") or None,
        worker_urls=own.get("worker_urls"),
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
