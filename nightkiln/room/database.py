"""Where Prefect's server keeps what it knows; its password is told to that server alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

from nightkiln.core.errors import BadInput, Problem
from nightkiln.room.book import SQLITE

SCHEMES = frozenset({"postgresql", "postgres", "postgresql+asyncpg"})
DRIVER = "postgresql+asyncpg"
HOW = "--database postgresql://user:password@host:5432/name, or the same in NIGHTKILN_DATABASE"
POSTGRES_PORT = 5432


@dataclass(frozen=True, slots=True)
class Database:
    """A database as it was asked for."""

    shown: str  # without its password; "sqlite" for a file in the room's folder
    url: str = field(default="", repr=False)  # as Prefect wants it; "" for that file
    password: str = field(default="", repr=False)
    host: str = ""
    port: int = POSTGRES_PORT

    @property
    def has_password(self) -> bool:
        """Whether it cannot be opened again by what is written down."""
        return bool(self.password)

    def hidden(self, text: str) -> str:
        """A text without the password, however it is spelled in there."""
        for secret in {self.password, unquote(self.password)} - {""}:
            text = text.replace(secret, "...")
        return text


def database_of(given: str) -> Database:
    """The database that somebody asks for.

    Raises:
        BadInput: it is none; of what was given only its kind is shown, it may hold a password.
    """
    if given in {"", SQLITE}:
        return Database(SQLITE)
    try:
        parts = urlsplit(given)
        port = parts.port if parts.port is not None else POSTGRES_PORT
    except ValueError:
        raise BadInput([Problem("--database", "is no address", HOW)]) from None
    if parts.scheme not in SCHEMES or not parts.hostname or not parts.path.strip("/"):
        raise BadInput([Problem("--database", "names no PostgreSQL database on a host", HOW)])
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = f"{user}@{host}:{port}" if user else f"{host}:{port}"
    return Database(
        shown=urlunsplit(("postgresql", place, parts.path, "", "")),
        url=urlunsplit((DRIVER, parts.netloc, parts.path, parts.query, "")),
        password=parts.password if parts.password is not None else "",
        host=parts.hostname,
        port=port,
    )
