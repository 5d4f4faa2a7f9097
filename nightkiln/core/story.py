"""A run's story: what its scheduler began with, was told and answered; and playing it again.

A story is a list of JSON objects, one a line: the opening, then a step for every event, with the
commands that followed. The commands could be derived anew (``replay`` does); they are there to be
read, and to be held against what the rules say today.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias, cast, get_args

from nightkiln.core.events import Command, Event
from nightkiln.core.learning import Scores
from nightkiln.core.model import Host
from nightkiln.core.plain import from_json, to_json
from nightkiln.core.priors import Priors
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.terms import Rules, Terms

STORY_VERSION = 1

_EVENTS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in get_args(Event)}
_COMMANDS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in get_args(Command)}


@dataclass(frozen=True, slots=True)
class Opening:
    """What a run's scheduler started from."""

    batch: str
    epoch: int
    nightkiln: str  # version that wrote it
    began_s: float  # epoch seconds when the clock of ``Tick`` showed ``clock_s``
    clock_s: float
    terms: Terms
    priors: Priors
    scores: Scores
    blocked: Mapping[Host, float]
    outdated: tuple[str, ...] = ()  # figures in the file that no rule or prior has any more

    def scheduler(self) -> Scheduler:
        """One that starts from the same; it learns into ``scores``."""
        return Scheduler(
            self.terms, priors=self.priors, scores=self.scores, blocked=dict(self.blocked)
        )


@dataclass(frozen=True, slots=True)
class Step:
    """An event, and what the scheduler made of it."""

    event: Event
    commands: tuple[Command, ...] = ()
    error: str | None = None  # it broke here instead: a fault of ours


@dataclass(frozen=True, slots=True)
class Cut:
    """The story ends here; the run may have gone on."""

    reason: str


Line: TypeAlias = Opening | Step | Cut


def line_to_json(line: Line) -> dict[str, Any]:
    """A line as a JSON-safe object."""
    told: dict[str, Any]
    match line:
        case Opening():
            told = {"opening": STORY_VERSION, **to_json(line)}
            del told["outdated"]
            return told
        case Step(event, commands, error):
            told = {"event": type(event).__name__, **to_json(event)}
            if commands:
                told["commands"] = [command_to_json(command) for command in commands]
            return told if error is None else {**told, "broke": error}
        case Cut(reason):
            return {"cut": reason}


def command_to_json(command: Command) -> dict[str, Any]:
    """A command as a JSON-safe object."""
    return {"command": type(command).__name__, **to_json(command)}


def line_from_json(entry: Any) -> Line:
    """The line that ``line_to_json`` made ``entry`` of.

    Raises:
        ValueError: it is none; the message says where and why.
    """
    if not isinstance(entry, dict):
        raise ValueError("not an object")  # noqa: TRY004 - as everything else that is wrong here
    if "event" in entry:
        return _step(dict(entry))
    if "opening" in entry:
        return _opening(dict(entry))
    if "cut" in entry:
        return Cut(str(entry["cut"]))
    raise ValueError("neither an event nor an opening")


def _opening(entry: dict[str, Any]) -> Opening:
    """What a run started from; figures of rules that are no more are only named.

    Rules get better and their figures change, and an old night must stay readable all the same.
    """
    version = entry.pop("opening")
    if version != STORY_VERSION:
        raise ValueError(f"version {version!r}; this nightkiln reads {STORY_VERSION}")
    outdated: list[str] = []
    terms = entry.get("terms")
    if isinstance(terms, dict) and isinstance(terms.get("rules"), dict):
        entry["terms"] = {**terms, "rules": _known(Rules, terms["rules"], outdated)}
    if isinstance(entry.get("priors"), dict):
        entry["priors"] = _known(Priors, entry["priors"], outdated)
    return from_json(Opening, {**entry, "outdated": outdated}, where="opening")


def _known(kind: type[Rules | Priors], figures: dict[str, Any], outdated: list[str]) -> Any:
    names = {each.name for each in fields(kind)}
    outdated += sorted(figures.keys() - names)
    return {name: value for name, value in figures.items() if name in names}


def _step(entry: dict[str, Any]) -> Step:
    commands, broke = entry.pop("commands", []), entry.pop("broke", None)
    if not isinstance(commands, list):
        raise ValueError("commands: not a list")  # noqa: TRY004
    return Step(
        event=cast("Event", _tagged(entry, "event", _EVENTS)),
        commands=tuple(cast("Command", _tagged(one, "command", _COMMANDS)) for one in commands),
        error=str(broke) if broke is not None else None,
    )


def _tagged(entry: Any, tag: str, kinds: Mapping[str, type[Any]]) -> object:
    name = entry.get(tag) if isinstance(entry, dict) else None
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"{tag} {name!r}: there is no such {tag}")
    rest = {key: each for key, each in entry.items() if key != tag}
    return from_json(kind, rest, where=kind.__name__)


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the rules of today part from the story."""

    number: int  # of the event, from 1
    event: Event
    told: tuple[Command, ...]
    derived: tuple[Command, ...]
    told_error: str | None = None
    derived_error: str | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """A story played again, as far as it is the same."""

    events: int
    commands: int
    difference: Difference | None = None
    cut: str | None = None


def replay(opening: Opening, lines: Iterable[Line]) -> Replayed:
    """Derive the commands anew from the events, and compare until they differ."""
    scheduler, events, commands = opening.scheduler(), 0, 0
    for line in lines:
        if isinstance(line, Cut):
            return Replayed(events, commands, cut=line.reason)
        assert isinstance(line, Step), "a story has one opening"
        events += 1
        derived, error = heard(scheduler, line.event)
        if derived != line.commands or error != line.error:
            told = (line.commands, derived, line.error, error)
            return Replayed(events, commands, Difference(events, line.event, *told))
        commands += len(derived)
        if error is not None:
            break
    return Replayed(events, commands)


def heard(scheduler: Scheduler, event: Event) -> tuple[tuple[Command, ...], str | None]:
    """What a scheduler answers to an event, or how it breaks."""
    try:
        return tuple(scheduler.handle(event)), None
    except Exception as error:  # noqa: BLE001 - a rule that breaks is what such a story is kept for
        return (), told_error(error)


def told_error(error: BaseException) -> str:
    """A fault of ours as a story tells it."""
    return f"{type(error).__name__}: {error}"
