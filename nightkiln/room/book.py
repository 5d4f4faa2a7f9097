"""What ``nightkiln up`` has started on this computer, written down in the user's state folder."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from nightkiln import records
from nightkiln.core.errors import BadInput, Problem, StoreUnusable
from nightkiln.core.plain import from_json, to_json
from nightkiln.disk import OsDisk, private_folder, trouble
from nightkiln.store.processes import Process, is_alive

SQLITE = "sqlite"
PORT, HOST = 4200, "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Started:
    """A process that ``nightkiln up`` has started."""

    process: Process
    log: str
    since_s: float  # epoch seconds

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; another process that has got its number is not it."""
        return is_alive(self.process)


@dataclass(frozen=True, slots=True)
class Room:
    """A control room as it was last opened; closed, it keeps its address and database."""

    mark: str  # in the environment of everything that was started for this room
    salt: str  # of ``told``
    host: str = HOST
    port: int = PORT
    database: str = SQLITE  # without its password, which is never written down
    has_password: bool = False
    checkout: str = ""
    deployed: str = ""  # digest of what was deployed last, and where
    notify: str = ""  # the block that notifications go to
    server: Started | None = None
    worker: Started | None = None
    told: dict[str, str] = field(default_factory=dict)  # what the worker was told: name to digest

    @property
    def address(self) -> str:
        """Where this computer reaches the server."""
        host = {"0.0.0.0": HOST, "::": "[::1]"}.get(self.host, self.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host.strip('[]') else host}:{self.port}"

    @property
    def api(self) -> str:
        """Where programs ask."""
        return f"{self.address}/api"


class RoomBook:
    """The record of one user's control room."""

    def __init__(self, state_folder: Path) -> None:
        self.folder = state_folder / "room"
        self.home = self.folder / "prefect"  # Prefect's: its database, unless that is elsewhere
        self._path = self.folder / "room.json"
        self._disk = OsDisk()

    def read(self) -> Room:
        """The room as it was last written down; a new one if it never was.

        Raises:
            StoreUnusable: it cannot be read.
        """
        try:
            return from_json(Room, records.read(self._path), where=self._path.name)
        except ValueError:
            if self._path.exists():
                raise StoreUnusable(
                    f"{self._path} is damaged, or of a newer nightkiln: call that one's "
                    "'nightkiln down', or remove it"
                ) from None
            return Room(mark=secrets.token_hex(8), salt=secrets.token_hex(16))

    def keep(self, room: Room) -> None:
        """Write it down; durable when this returns."""
        records.keep(self._path, to_json(room), self._disk)

    def log(self, name: str) -> Path:
        """Where a process writes what it has to say."""
        return self.folder / "logs" / f"{name}.log"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other ``nightkiln up`` or ``nightkiln down`` of this user works meanwhile.

        Raises:
            BadInput: one does.
            StoreUnusable: the folder cannot be made.
        """
        lock = self.folder / "room.lock"
        try:
            private_folder(self.home, self._disk)
            private_folder(self.folder / "logs", self._disk)
            with FileLock(lock, 0, mode=0o600):
                yield
        except Timeout as error:
            what = "another nightkiln up or down is at work"
            raise BadInput([Problem(str(lock), what, "wait until it has ended")]) from error
        except OSError as error:
            raise StoreUnusable(trouble(error, self.folder)) from error
