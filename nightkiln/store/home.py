"""Where a store lives, and where on this computer is what has not got there yet."""

from __future__ import annotations

import contextlib
import hashlib
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nightkiln.blobs import LocalBlobs
from nightkiln.blobs.s3 import S3Blobs
from nightkiln.blobs.s3_place import SCHEME, S3Access, S3Place
from nightkiln.core.errors import BadInput, Problem, StoreUnusable
from nightkiln.disk import Disk
from nightkiln.ports.blobs import Blobs
from nightkiln.ports.uploads import Uploads

if TYPE_CHECKING:
    import duckdb

STORES = "stores"  # in the state folder
PROBE = "probe.json"  # who makes it twice ignores conditions
SAID_CHARS_MAX = 300
ID_DIGITS = 8  # of a store's id in the name of its local folder

_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Home:
    """A store's address, opened."""

    uri: str
    blobs: Blobs
    disk: Disk
    folder: Path | None  # None: it is no folder
    state: Path  # what this user has on this computer
    access: S3Access

    def here(self, store_id: object) -> LocalBlobs:
        """What lies on this computer: journals, stories, files on their way into the store.

        A folder is its own. One in an object store is told from another by its id, so that one
        that was made anew under the same address does not inherit journals.
        """
        if isinstance(self.blobs, LocalBlobs):
            return self.blobs
        if not isinstance(store_id, str) or not _ID.fullmatch(store_id):
            # A folder that was copied into a bucket, for one: its address will do.
            store_id = hashlib.sha256(f"{self.access.endpoint} {self.uri}".encode()).hexdigest()
        name = re.sub(r"[^a-z0-9]+", "-", self.uri.removeprefix(SCHEME).lower()).strip("-")
        return LocalBlobs(self.state / STORES / f"{name}-{store_id[:ID_DIGITS]}", disk=self.disk)

    def sweep(self, *, now_s: float) -> None:
        """Clear away what crashes have left half brought into an object store, if that is allowed.

        A store is whole without it; its owner pays for what is left.
        """
        if isinstance(self.blobs, S3Blobs):
            with contextlib.suppress(StoreUnusable):
                self.blobs.sweep(now_s=now_s)

    def has(self, key: str) -> bool:
        """Whether there is such a file; asked so that who is refused is told why."""
        try:
            self.blobs.get(key)
        except KeyError:
            return False
        return True

    def register(self, con: duckdb.DuckDBPyConnection) -> None:
        """Let a DuckDB connection read the store."""
        if self.folder is not None:
            return
        if con.filesystem_is_registered("s3"):  # for a catalog that lies in an object store, too
            con.unregister_filesystem("s3")
        con.register_filesystem(self.access.for_duckdb())

    def check_creates_once(self) -> None:
        """See that of two who create the same key only one is told that he did.

        Raises:
            StoreUnusable: claims and commits would not hold here, with the reason.
        """
        if self.folder is not None:
            return  # a link is made once on every file system that has links
        mine, other = uuid.uuid4().hex.encode(), uuid.uuid4().hex.encode()
        if self.blobs.create(PROBE, mine) and (
            self.blobs.create(PROBE, other) or self.blobs.get(PROBE) != mine
        ):
            raise StoreUnusable(
                f"{self.uri}: {self.access.endpoint or 'this service'} ignores 'If-None-Match: *' "
                "and lets two runs commit the same thing; a store needs one that does not, such "
                "as AWS, Cloudflare R2, MinIO, Ceph or SeaweedFS in a version of today"
            )

    def tried_uploads(self) -> Uploads:
        """How machines bring files here by themselves, once that was tried out.

        Raises:
            BadInput: they cannot: it is a folder, or the service does not check what they bring.
            StoreUnusable: it could not be tried.
        """
        fix = "leave --upload out: then results come through this computer"
        if not isinstance(self.blobs, S3Blobs):
            raise _no_uploads("machines can bring results to an object store only", fix)
        objection = self.blobs.uploads.objection()
        if objection is not None:
            service = self.access.endpoint or "this service"
            raise _no_uploads(f"{service} is not to be trusted with that: {objection}", fix)
        return self.blobs.uploads


def _no_uploads(what: str, fix: str) -> BadInput:
    return BadInput([Problem("--upload direct", what, fix)])


def home_of(uri: str, *, disk: Disk, access: S3Access, state: Path) -> Home:
    """The place that ``uri`` names; nothing is looked at yet.

    Raises:
        BadInput: such a place cannot be a store.
    """
    if uri.startswith(SCHEME):
        place = S3Place.parse(uri)
        blobs: Blobs = S3Blobs(place, access)
        return Home(place.uri, blobs, disk, None, state, access)
    path = uri.removeprefix("file://")
    if re.match(r"[A-Za-z0-9+.-]+://", path):
        what = f"stores do not live at {path.partition('://')[0]}:// addresses"
        raise BadInput([Problem("--store", what, "give a local folder, or s3://bucket/prefix")])
    folder = Path(path).expanduser().absolute()
    return Home(str(folder), LocalBlobs(folder, disk=disk), disk, folder, state, access)


def store_uri(uri: str) -> str:
    """How a store is called wherever it matters which one it is.

    Raises:
        BadInput: such a place cannot be a store.
    """
    if uri.startswith(SCHEME):
        return S3Place.parse(uri).uri
    return str(Path(uri.removeprefix("file://")).expanduser().absolute())


def why_unread(error: Exception) -> str:
    """The line of what DuckDB says that says it; from s3fs it hands on a whole traceback."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (told[-1] if told else lines[0] if lines else type(error).__name__)[:SAID_CHARS_MAX]
