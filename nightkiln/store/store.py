"""A store: a folder, or part of a bucket, that holds everything that batches made."""

from __future__ import annotations

import json
import re
import uuid
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightkiln.blobs import LocalBlobs
from nightkiln.blobs.s3_place import S3Access
from nightkiln.blobs.spool import SpooledBlobs, fitting
from nightkiln.core.errors import StoreUnusable
from nightkiln.core.model import BatchId
from nightkiln.disk import Disk, OsDisk, free_bytes, private_folder, state_folder
from nightkiln.ports.uploads import Uploads
from nightkiln.store.home import Home, home_of, why_unread
from nightkiln.store.layout import SCHEMAS, facts_of, lay_out
from nightkiln.store.rows import SCHEMA_VERSION
from nightkiln.store.settled_sql import settled_sql
from nightkiln.store.showing import refresh
from nightkiln.store.sql_files import glob_root, sql_file
from nightkiln.store.stories import stories_of, story_key
from nightkiln.store.views import CatalogColumns, merged, views_sql

if TYPE_CHECKING:
    import duckdb

MARKER = "nightkiln-store.json"  # what makes a folder a store
SPOOL = "spool"
CLOCK = "clock.json"  # written to learn what time it is where files are kept

_BATCH_KEY = re.compile(r"batches/dt=(?P<date>[0-9-]{10})/(?P<batch>.+)-[0-9]{6}-start\.parquet")


def is_store(uri: str, *, s3: S3Access | None = None) -> bool:
    """Whether there is a store already that could be opened.

    Raises:
        BadInput: such a place cannot be a store.
        StoreUnusable: nobody can tell.
    """
    access = s3 if s3 is not None else S3Access()
    home = home_of(uri, disk=OsDisk(), access=access, state=state_folder())
    return home.has(MARKER)


class Store:
    """One store, open. Made by ``Store.open``."""

    def __init__(self, home: Home) -> None:
        self.uri, self.blobs, self.disk = home.uri, home.blobs, home.disk
        self.uploads: Uploads | None = None  # how machines bring results by themselves
        self._home = home

    @classmethod
    def open(
        cls,
        uri: str,
        *,
        disk: Disk | None = None,
        create: bool = False,
        s3: S3Access | None = None,
        state: Path | None = None,
    ) -> Store:
        """The store at ``uri``, a local folder or ``s3://bucket/prefix``.

        ``create``: it is made if it is missing. ``s3``: how an object store is reached, if not as
        AWS's own clients would. ``state``: what lies here of it, if not in the user's state folder.

        A new one has no ``nightkiln.duckdb`` yet: the first run writes it, with its catalog's
        columns.

        Raises:
            BadInput: such a place cannot be a store.
            StoreUnusable: there is no store, or it cannot be read or written.
        """
        home = home_of(
            uri,
            disk=disk if disk is not None else OsDisk(),
            access=s3 if s3 is not None else S3Access(),
            state=state if state is not None else state_folder(),
        )
        store = cls(home)
        if not home.has(MARKER):
            if not create:
                raise StoreUnusable(f"{uri}: there is no store; 'nightkiln run' makes one")
            store._make()
        store._check_version()
        return store

    @property
    def root(self) -> Path:
        """The folder that the store is; only one that is a folder has it."""
        assert self._home.folder is not None, f"{self.uri} is no folder"
        return self._home.folder

    @property
    def is_remote(self) -> bool:
        """Whether it lies in an object store."""
        return self._home.folder is None

    @cached_property
    def here(self) -> LocalBlobs:
        """What of it lies on this computer: all of a folder, else what is on its way."""
        return self._home.here(self._marker()["id"])

    @property
    def staging(self) -> Path:
        """A local folder for files that are on their way into the store."""
        return self.here.staging

    def where(self, key: str) -> str:
        """A file of the store as a user would name it."""
        return f"{self.uri}/{key}"

    def prepare(
        self, *, now_s: float, spool_bytes: int | None = None, is_direct: bool = False
    ) -> None:
        """Before a run writes: the place will do, and what crashes left is swept.

        ``spool_bytes``: how much may wait here on its way into an object store; None: no spool.
        ``is_direct``: machines bring what they can to it by themselves.

        Raises:
            StoreUnusable: creations are not sure to hold here, or it cannot be written.
            BadInput: machines cannot bring anything there.
        """
        self._home.check_creates_once()
        self.uploads = self._home.tried_uploads() if is_direct else None
        self.upgrade()
        try:
            if self.is_remote:  # keys of machines lie beside it
                private_folder(self.here.root, self.disk)
            self.staging.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnusable(f"{self.staging}: {error.strerror}") from error
        self.here.sweep(now_s=now_s)
        self._home.sweep(now_s=now_s)
        if self.is_remote and spool_bytes is not None:
            room = fitting(spool_bytes, free_bytes(self.here.root))
            spool, inner = self.here.root / SPOOL, self._home.blobs
            self.blobs = SpooledBlobs(inner, spool, disk=self.disk, bytes_max=room)

    def upgrade(self) -> None:
        """Before rows of today's schema are written: earlier versions will leave the store alone.

        What an earlier version wrote stays as it is: the views show what it lacks as null.
        """
        if self._marker()["schema_version"] < SCHEMA_VERSION:
            marker = {**json.loads(self.blobs.get(MARKER)), "schema_version": SCHEMA_VERSION}
            self.blobs.put(MARKER, json.dumps(marker).encode() + b"\n")

    def batch_date(self, batch: str, *, today: str) -> str:
        """The date under which a batch is filed: that of its first run, else ``today``."""
        dates = [
            match["date"]
            for key in self.blobs.list("batches/")
            if (match := _BATCH_KEY.fullmatch(key)) and match["batch"] == batch
        ]
        return min(dates, default=today)

    def now_s(self) -> float:
        """Epoch seconds by the clock of the place, which is what the age of a file goes by."""
        self.blobs.put(CLOCK, b"{}\n")
        return max(entry.modified_s for entry in self.blobs.entries(CLOCK))

    def make_durable(self, date: str) -> None:
        """What a killed run has named and not synced stays from now on, also if the power goes.

        Before a journal is dropped, the shards that were found must be as durable as it was.
        """
        if self.is_remote:
            return  # an object that can be seen is durable
        for kind in SCHEMAS:
            folder = self.root / kind / f"dt={date}"
            try:
                if folder.is_dir():
                    self.disk.sync_folder(folder)
            except OSError as error:
                raise StoreUnusable(f"{folder}: {error.strerror}") from error

    def journal_path(self, batch: str, epoch: int) -> Path:
        """Where a run keeps its journal."""
        return self.here.root / "journal" / batch / f"{epoch:06d}.jsonl"

    def story_path(self, batch: BatchId) -> Path:
        """Where a run keeps what its scheduler was told and answered."""
        return self.here.root / story_key(batch)

    def keep_story(self, batch: BatchId) -> None:
        """The story of a run that is over goes where everybody finds it."""
        if self.is_remote:
            # Not by the spool: nobody would wait until it has arrived.
            self._home.blobs.put(story_key(batch), self.story_path(batch))

    def story_paths(self, batch: str) -> list[Path]:
        """The stories of a batch's runs, in the order of the runs; fetched, if far away."""
        return stories_of(batch, self.blobs, self.here)

    def glob(self, kind: str) -> str:
        """A SQL string that names all Parquet files of ``results``, ``leases`` and so on."""
        return f"'{glob_root(self.uri)}{kind}/*/*.parquet'"

    def register(self, con: duckdb.DuckDBPyConnection) -> None:
        """Let a DuckDB connection of one's own read what ``glob`` names."""
        self._home.register(con)

    def settled_sql(self) -> str:
        """Statements that create ``_results`` and ``_settled`` in a connection of one's own."""
        facts = facts_of(self.blobs)
        return settled_sql(glob_root(self.uri), facts.manifest, has_versions=facts.versions)

    def connect(self, *views: str) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection with all views, as fresh as the store.

        With ``views``, those alone, and leases and charges: it is there three times as soon.

        Raises:
            StoreUnusable: what the views are made of cannot be read.
        """
        import duckdb

        con = self._connection()
        try:
            facts = facts_of(self.blobs)
            con.execute(views_sql(self.uri, self._catalogs(con), facts, only=views))
        except duckdb.Error as error:
            con.close()
            raise StoreUnusable(f"{self.uri}: {why_unread(error)}") from error
        return con

    def attach(self, con: duckdb.DuckDBPyConnection, name: str) -> None:
        """Give another connection all views, as a database called ``name``."""
        self.register(con)
        ((before,),) = con.execute("select current_database()").fetchall()
        con.execute(f"attach ':memory:' as {name}; use {name}")
        try:
            con.execute(views_sql(self.uri, self.catalogs(), facts_of(self.blobs)))
        finally:
            con.execute(f"use {before}")

    def result_bytes(self, workflow_digest: str, *, jobs_max: int) -> tuple[int, int]:
        """How many jobs of a workflow, at most ``jobs_max``, are looked at, and their bytes."""
        with self._connection() as con:
            con.execute(self.settled_sql())
            found = con.execute(sql_file("result_bytes"), [workflow_digest, jobs_max]).fetchone()
        assert found is not None, "an aggregate has one row"
        return int(found[0]), int(found[1])

    def catalogs(self) -> list[CatalogColumns]:
        """Which catalogs have been here, and with which columns."""
        with self._connection() as con:
            return self._catalogs(con)

    def refresh_views(self) -> None:
        """Write ``views.sql`` and ``nightkiln.duckdb`` anew if they would differ.

        Both are replaced in one step: whoever has the old one open keeps it.

        Raises:
            StoreUnusable: they cannot be written.
        """
        refresh(self)

    def _catalogs(self, con: duckdb.DuckDBPyConnection) -> list[CatalogColumns]:
        sql = sql_file("catalog_columns", root=glob_root(self.uri))
        return merged(con.execute(sql).fetchall())

    def _make(self) -> None:
        self._home.check_creates_once()
        lay_out(self.blobs)
        # The marker is last: a store that was half made is no store, and is made again.
        said = {"kind": "nightkiln store", "schema_version": SCHEMA_VERSION, "id": uuid.uuid4().hex}
        self.blobs.create(MARKER, json.dumps(said).encode() + b"\n")

    def _marker(self) -> dict[str, Any]:
        """What says that this is a store, and of which version."""
        try:
            marker = json.loads(self.blobs.get(MARKER))
            return {"id": marker.get("id"), "schema_version": int(marker["schema_version"])}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreUnusable(f"{self.where(MARKER)} is damaged: {error}") from error

    def _check_version(self) -> None:
        version = self._marker()["schema_version"]
        if version > SCHEMA_VERSION:
            said = f"{self.uri} was made by a newer nightkiln (schema {version}, this one knows "
            raise StoreUnusable(f"{said}{SCHEMA_VERSION}); upgrade nightkiln")

    def _connection(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        con = duckdb.connect()
        con.execute("set enable_progress_bar = false")  # it is drawn on stdout, also into pipes
        self.register(con)
        return con
