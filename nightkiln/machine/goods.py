"""What a machine needs before it can render: models and custom nodes, by checksum."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from nightkiln.catalog.catalog import Environment
from nightkiln.catalog.models import SENT_BYTES_MAX
from nightkiln.core.errors import BadInput, Problem

PARALLEL = 4  # downloads at once
PATH_LETTERS_MAX = 400


@dataclass(frozen=True, slots=True)
class Token:
    """What opens private files at one model host. Never sent anywhere else."""

    host: str  # "huggingface.co"; its subdomains are other hosts
    variable: str  # the environment variable it came from, for messages
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Model:
    """One file below ComfyUI's models folder, and where it comes from."""

    path: str
    url: str | None = None
    file: Path | None = None  # on this computer; pushed over SSH
    sha256: str | None = None  # hex
    size: int | None = None  # bytes, where it is known exactly


@dataclass(frozen=True, slots=True)
class Goods:
    """Everything to be brought to a machine, and the program that brings it."""

    models: tuple[Model, ...] = ()
    custom_nodes: tuple[tuple[str, str], ...] = ()  # (repository, ref)
    program: bytes = field(default=b"", repr=False)  # provision.py, run by the machine's own Python
    restart: str = "supervisorctl restart comfyui"  # how the image's ComfyUI is started again
    tries: int = 6  # of a file, none of which brings anything, then its host is down
    pause_s: float = 5.0  # after the first; each further one is twice as long, up to two minutes
    tokens: tuple[Token, ...] = ()

    def __post_init__(self) -> None:
        problems = [problem for model in self.models for problem in _problems(model)]
        if problems:
            raise BadInput(problems)

    @classmethod
    def of(
        cls,
        environment: Environment,
        *,
        program: bytes,
        files: Mapping[str, Path] | None = None,
        tokens: tuple[Token, ...] = (),
    ) -> Goods:
        """What a catalog's environment asks for; ``files`` maps a model's path to a local file.

        Reads local files whole, for their checksums. Blocks.

        Raises:
            BadInput: a model comes from nowhere, from a file that cannot be pushed, or is one
                that nobody could tell from another when a machine has fetched it.
        """
        local = files if files is not None else {}
        models = [
            Model(model.path, model.url, local.get(model.path), model.sha256)
            for model in environment.models
        ]
        cls(tuple(models))  # what is wrong is told before anything is read
        if problems := [_unknown(model) for model in models if not _is_verifiable(model)]:
            raise BadInput(problems)
        brought = tuple(_measured(model) for model in models)
        return cls(brought, environment.custom_nodes, program, tokens=tokens)

    @property
    def is_empty(self) -> bool:
        """Whether the image alone is enough."""
        return not self.models and not self.custom_nodes


def _is_verifiable(model: Model) -> bool:
    return model.sha256 is not None or model.file is not None


def _unknown(model: Model) -> Problem:
    where, fix = f"environment.models {model.path}", "give sha256: its checksum in hex"
    return Problem(where, "has no sha256, so a machine could render with another file", fix)


def _measured(model: Model) -> Model:
    """A local file with its own size, and its own checksum where the catalog has none."""
    if model.file is None:
        return model
    try:
        with model.file.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            found = model.sha256
            if found is None:
                found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        what = f"{model.file} cannot be read: {error.strerror}"
        raise BadInput([Problem(f"environment.models {model.path}", what)]) from error
    return replace(model, sha256=found, size=size)


def _problems(model: Model) -> list[Problem]:
    where = f"environment.models {model.path}"
    path = PurePosixPath(model.path)
    is_inside = path.parts and not path.is_absolute() and ".." not in path.parts
    if not is_inside or not model.path.isprintable() or len(model.path) > PATH_LETTERS_MAX:
        return [Problem(where, "leads out of ComfyUI's models folder", "checkpoints/name")]
    if model.file is not None:
        return _file_problems(where, model.file)
    if model.url is None:
        return [Problem(where, "says nowhere where it comes from", "give url: or file:")]
    if urlsplit(model.url).scheme not in {"http", "https"}:
        return [Problem(where, "is no http or https address", "give url: https://...")]
    return []


def _file_problems(where: str, file: Path) -> list[Problem]:
    try:
        size = file.stat().st_size
    except OSError as error:
        return [Problem(where, f"{file} cannot be read: {error.strerror}", "give an existing file")]
    if size > SENT_BYTES_MAX:
        limit = f"more than {SENT_BYTES_MAX / 1e9:g} GB is not pushed to every machine"
        return [Problem(where, limit, "put it on a server and give url: and sha256:")]
    return []
