"""What must be there before anything is started; every problem is told at once."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from errno import EADDRINUSE
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

from nightkiln.core.errors import BadInput, Problem
from nightkiln.room.asking import is_loopback
from nightkiln.room.book import SQLITE, Room
from nightkiln.room.database import Database
from nightkiln.room.environment import SERVER_AUTH

INSTALL = "pip install 'nightkiln[prefect]', or make setup in the checkout"
Package: TypeAlias = tuple[str, tuple[int, ...], tuple[int, ...], str]
# At least and below: as pyproject.toml has them; and why it has.
WANTED: tuple[Package, ...] = (
    ("prefect", (3, 8, 8), (4,), "flows are written for Prefect 3.8"),
    ("fastapi", (0,), (0, 151), "Prefect's server does not start with a newer one"),
    ("sqlalchemy", (2,), (2, 1), "Prefect's server starts no scheduled run with a newer one"),
)
CHECKOUT = ("prefect.yaml", "flows", "tasks")
DATABASE_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A room as it was asked for."""

    checkout: Path
    host: str
    port: int
    database: Database
    notify: str = ""  # "slack-webhook/ops"; "": nobody is told, "none": nobody any more
    adhoc_limit: int | None = None  # runs from a form that work at once; None: as it is


def prefect_command(*words: str) -> list[str]:
    """The ``prefect`` command line of this environment, whatever is on the path."""
    return [sys.executable, "-P", "-m", "prefect", *words]


def check(wanted: Wanted, room: Room, user: Mapping[str, str]) -> None:
    """Nothing is started, and nothing changed.

    Raises:
        BadInput: something is missing, or in the way.
    """
    problems = [*package_problems(), *_checkout_problems(wanted.checkout)]
    problems += _address_problems(wanted, room, user)
    if room.server is None or not room.server.is_alive:
        problems += _database_problems(wanted.database, room)
    if problems:
        raise BadInput(problems)


def package_problems(wanted: Iterable[Package] = WANTED) -> Iterator[Problem]:
    """What is not installed, or in a version that fails later and says less."""
    for package, least, below, why in wanted:
        try:
            found = version(package)
        except PackageNotFoundError:
            yield Problem(package, "is not installed", INSTALL)
            if package == "prefect":
                return  # it brings the others
            continue
        numbers = tuple(int(part) for part in found.split(".")[:3] if part.isdigit())
        if not least <= numbers < below:
            yield Problem(f"{package} {found}", why, INSTALL)


def _checkout_problems(folder: Path) -> Iterator[Problem]:
    missing = [name for name in CHECKOUT if not (folder / name).exists()]
    if missing:
        what = f"has no {', '.join(missing)}"
        fix = "call nightkiln up in a checkout of nightkiln, or say where one is with --checkout"
        yield Problem(str(folder), what, fix)


def _address_problems(wanted: Wanted, room: Room, user: Mapping[str, str]) -> Iterator[Problem]:
    if room.server is not None and room.server.is_alive:
        yield from _other_room(wanted, room)
        return
    if not is_loopback(wanted.host) and not user.get(SERVER_AUTH):
        what = "whoever reaches it could start flows with your keys"
        fix = f"export {SERVER_AUTH}=user:password first, or stay on 127.0.0.1"
        yield Problem(f"--host {wanted.host}", what, fix)
    try:
        is_taken = not _is_free(wanted.host, wanted.port)
    except OSError as error:
        yield Problem(f"--host {wanted.host}", f"{error.strerror or error}", "give one of its own")
        return
    if is_taken:
        what = "somebody else's server has it"
        yield Problem(f"port {wanted.port}", what, "end that one, or give another with --port")


def _other_room(wanted: Wanted, room: Room) -> Iterator[Problem]:
    first = "end it first: nightkiln down"
    if (wanted.host, wanted.port) != (room.host, room.port):
        yield Problem(f"{wanted.host}:{wanted.port}", f"the room is up at {room.address}", first)
    if wanted.database.shown != room.database:
        yield Problem("--database", f"the room is up with {room.database}", first)


def _is_free(host: str, port: int) -> bool:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with closing(socket.socket(family, kind, protocol)) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(address)
        except OSError as error:
            if error.errno != EADDRINUSE:
                raise
            return False
    return True


def _database_problems(database: Database, room: Room) -> Iterator[Problem]:
    if database.shown == SQLITE:
        return
    is_known = database.shown == room.database
    if is_known and room.has_password and not database.has_password:
        what = f"the room is in {database.shown}, whose password is not written down"
        yield Problem("--database", what, "give it again, or export NIGHTKILN_DATABASE")
        return
    try:
        socket.create_connection((database.host, database.port), DATABASE_S_MAX).close()
    except OSError as error:
        where = f"nothing answers at {database.host}:{database.port}"
        yield Problem("--database", f"{where}: {error.strerror or error}", "start PostgreSQL there")
