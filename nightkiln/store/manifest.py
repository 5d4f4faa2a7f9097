"""Which files hold compacted rows: a numbered list, and creating the next one is the commit.

    manifests/000042.json        every compacted file, what they replace, what they have retired
    manifests/000042.shown.json  since when ``views.sql`` and ``nightkiln.duckdb`` go by it

A manifest is never changed. Of two compactions that start from the same one, one creates the next;
the files of the other belong to nobody. Shards that were folded into compacted files stay where
they are until every reader can have the new views: what is in both is read once, because whoever
knows the compacted file also knows which shards it replaces.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nightkiln.core.errors import StoreConflict, StoreUnusable
from nightkiln.ports.blobs import Blobs
from nightkiln.store.commit import create_or_same

MANIFESTS = "manifests/"
FORMAT = 1
READ_TRIES_MAX = 5  # the newest was replaced and removed in between that often: something is wrong

_MANIFEST = re.compile(r"manifests/(?P<number>[0-9]{6,})(?P<shown>\.shown)?\.json")
_SHAPE = re.compile(r"-o(?P<outputs>[0-9])-a(?P<attempts>[0-9])\.parquet$")
_SHARD = re.compile(r"results/(?P<run>dt=[0-9-]{10}/.+-[0-9]{6})-(?P<number>[0-9]{6,})\.parquet")


@dataclass(frozen=True, slots=True)
class Shape:
    """How many outputs and attempts every row of a compacted file has. Its name says so."""

    outputs: int
    attempts: int

    def __str__(self) -> str:
        return f"o{self.outputs}-a{self.attempts}"


@dataclass(frozen=True, slots=True)
class CompactFile:
    """One file of compacted rows; every (batch, job) is in one of them at most."""

    key: str  # compact/dt=<batch date>/<name>[-<shape>].parquet
    rows: int
    bytes: int
    sha256: str

    @property
    def day(self) -> str:
        """The batch date that its rows are filed under."""
        return self.key.split("/")[1].removeprefix("dt=")

    @property
    def shape(self) -> Shape | None:
        """That of every row; None: they differ, or nobody has looked."""
        match = _SHAPE.search(self.key)
        return Shape(int(match["outputs"]), int(match["attempts"])) if match is not None else None


@dataclass(frozen=True, slots=True)
class Folded:
    """Shards of one run that compacted files replace: all with a number smaller than ``below``."""

    run: str  # dt=<batch date>/<batch>-<epoch>
    below: int
    since: int  # the manifest that raised ``below`` last


@dataclass(frozen=True, slots=True)
class Retired:
    """A compacted file that was written again, and by which manifest."""

    key: str
    since: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is compacted. The one before any compaction has number 0 and exists nowhere."""

    number: int = 0
    made_s: float = 0.0
    files: tuple[CompactFile, ...] = ()
    folded: tuple[Folded, ...] = ()
    retired: tuple[Retired, ...] = ()

    @property
    def below(self) -> Mapping[str, int]:
        """Which shards of which run are replaced."""
        return {one.run: one.below for one in self.folded}

    def replaces(self, shard: Shard) -> bool:
        """Whether the rows of ``shard`` are in a compacted file."""
        return shard.number < self.below.get(shard.run, 0)


@dataclass(frozen=True, slots=True)
class Shard:
    """The key of a shard, taken apart. The numbers of a run's shards have no gaps."""

    key: str
    run: str  # dt=<batch date>/<batch>-<epoch>
    number: int

    @property
    def day(self) -> str:
        """The batch date that it is filed under."""
        return self.run.partition("/")[0].removeprefix("dt=")

    @property
    def batch(self) -> str:
        """The batch whose jobs it holds."""
        return self.run.partition("/")[2].rpartition("-")[0]

    @property
    def epoch(self) -> int:
        """Of the run that committed it."""
        return int(self.run.rpartition("-")[2])


def shard_of(key: str) -> Shard | None:
    """What a key below ``results/`` says; None if it is no shard of a run."""
    match = _SHARD.fullmatch(key)
    return Shard(key, match["run"], int(match["number"])) if match is not None else None


def manifest_key(number: int, part: str = "") -> str:
    """Where a manifest lies, or its ``shown`` part."""
    return f"{MANIFESTS}{number:06d}{'.' + part if part else ''}.json"


def newest_manifest(blobs: Blobs) -> Manifest:
    """What is compacted now.

    Raises:
        StoreUnusable: it cannot be read, or is damaged.
    """
    for _ in range(READ_TRIES_MAX):
        number = max(manifest_numbers(blobs), default=0)
        if number == 0:
            return Manifest()
        # A newer one may have come, and the one that was listed may be gone.
        with contextlib.suppress(KeyError):
            return _decoded(blobs.get(manifest_key(number)), number)
    raise StoreUnusable(f"{MANIFESTS} changes faster than it can be read; try again")


def manifest_numbers(blobs: Blobs) -> list[int]:
    """The manifests that are there."""
    found = (_MANIFEST.fullmatch(key) for key in blobs.list(MANIFESTS))
    return [int(match["number"]) for match in found if match is not None and not match["shown"]]


def create_manifest(blobs: Blobs, manifest: Manifest) -> bool:
    """Commit a compaction; False if another one was faster and this one is void.

    An answer that was lost is asked for again, so True means that it is this manifest.
    """
    try:
        create_or_same(blobs, manifest_key(manifest.number), _encoded(manifest))
    except StoreConflict:
        return False
    return True


def shown_since(blobs: Blobs) -> Mapping[int, float]:
    """For manifests by number: since when (epoch seconds) the written views go by it."""
    found = ((_MANIFEST.fullmatch(entry.key), entry) for entry in blobs.entries(MANIFESTS))
    return {
        int(match["number"]): entry.modified_s
        for match, entry in found
        if match is not None and match["shown"]
    }


def show(blobs: Blobs, number: int, *, shown_before: int) -> None:
    """Say that the written views go by manifest ``number`` from now on.

    ``shown_before``: by which they went until now. If that is less than what was said of them,
    somebody slow had written old views over new ones: what was said is taken back first.
    """
    for marked in sorted(shown_since(blobs), reverse=True):
        if marked > shown_before:
            blobs.remove(manifest_key(marked, "shown"))
    blobs.put(manifest_key(number, "shown"), b"{}\n")


def _encoded(manifest: Manifest) -> bytes:
    return json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1).encode() + b"\n"


def _decoded(data: bytes, number: int) -> Manifest:
    try:
        entry: dict[str, Any] = json.loads(data)
        if entry["format"] > FORMAT:
            raise StoreUnusable(
                f"{manifest_key(number)} was made by a newer nightkiln; upgrade nightkiln"
            )
        return Manifest(
            number=int(entry["number"]),
            made_s=float(entry["made_s"]),
            files=tuple(CompactFile(**one) for one in entry["files"]),
            folded=tuple(Folded(**one) for one in entry["folded"]),
            retired=tuple(Retired(**one) for one in entry["retired"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreUnusable(f"{manifest_key(number)} is damaged: {error}") from error
