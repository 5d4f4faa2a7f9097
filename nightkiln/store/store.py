"""A store: a folder that holds everything that batches made, and answers for it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nightkiln.blobs import LocalBlobs
from nightkiln.core.errors import BadInput, Problem, StoreUnusable
from nightkiln.core.learning import Scores
from nightkiln.core.model import BatchId
from nightkiln.disk import Disk, OsDisk
from nightkiln.store.charges import CHARGES
from nightkiln.store.quotes import QUOTES
from nightkiln.store.records import BATCHES, LEASES
from nightkiln.store.rows import RESULTS, SCHEMA_VERSION, parquet_bytes
from nightkiln.store.scores import MARKET, market_json
from nightkiln.store.sql_files import glob_root, sql_file
from nightkiln.store.views import CatalogColumns, Has, merged, views_sql
from nightkiln.temporary import temporary_folder

if TYPE_CHECKING:
    import duckdb

MARKER = "nightkiln-store.json"  # what makes a folder a store
VIEWS_SQL = "views.sql"
DATABASE = "nightkiln.duckdb"
STORIES = "stories"
STORY_SUFFIX = ".jsonl.gz"
BATCH_NAME_CHARS_MAX = 100

_BATCH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BATCH_KEY = re.compile(r"batches/dt=(?P<date>[0-9-]{10})/(?P<batch>.+)-[0-9]{6}-start\.parquet")

# A glob that matches nothing is an error in DuckDB, and the first file's schema is the view's:
# a file without rows, first in every listing, answers for both.
_EMPTY = "dt=1970-01-01/schema-1.parquet"
_SCHEMAS = {
    "results": RESULTS,
    "leases": LEASES,
    "batches": BATCHES,
    "quotes": QUOTES,
    "charges": CHARGES,
}


def check_batch_name(name: str) -> str:
    """``name``, if a batch may be called that: it becomes part of file names.

    Raises:
        BadInput: it may not.
    """
    if len(name) <= BATCH_NAME_CHARS_MAX and _BATCH_NAME.fullmatch(name):
        return name
    what = f"{name[:BATCH_NAME_CHARS_MAX]!r} cannot name a batch"
    fix = f"use up to {BATCH_NAME_CHARS_MAX} letters, digits, '-', '_' and '.'"
    raise BadInput([Problem("--name", what, fix)])


def is_store(uri: str) -> bool:
    """Whether there is a store already that could be opened.

    Raises:
        BadInput: such a place cannot be a store (yet).
    """
    return (_folder(uri) / MARKER).is_file()


class Store:
    """One store, open. Made by ``Store.open``."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self.root = root
        self.disk = disk
        self.blobs = LocalBlobs(root, disk=disk)

    @classmethod
    def open(cls, uri: str, *, disk: Disk | None = None, create: bool = False) -> Store:
        """The store at ``uri``, a local folder; with ``create``, made if it is missing.

        A new one has no ``nightkiln.duckdb`` yet: the first run writes it, with its catalog's
        columns.

        Raises:
            BadInput: such a place cannot be a store (yet).
            StoreUnusable: there is no store, or it cannot be read or written.
        """
        store = cls(_folder(uri), disk if disk is not None else OsDisk())
        if store.blobs.size(MARKER) is None:
            if not create:
                raise StoreUnusable(f"{uri}: there is no store; 'nightkiln run' makes one")
            store._make()
        store._check_version()
        return store

    @property
    def staging(self) -> Path:
        """A folder on the store's own file system, for files that are on their way into it."""
        return self.blobs.staging

    def prepare(self, *, now_s: float) -> None:
        """Before a run writes: the staging folder is there, and what crashes left is swept."""
        try:
            self.staging.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnusable(f"{self.staging}: {error.strerror}") from error
        self.blobs.sweep(now_s=now_s)

    def batch_date(self, batch: str, *, today: str) -> str:
        """The date under which a batch is filed: that of its first run, else ``today``."""
        dates = [
            match["date"]
            for key in self.blobs.list("batches/")
            if (match := _BATCH_KEY.fullmatch(key)) and match["batch"] == batch
        ]
        return min(dates, default=today)

    def make_durable(self, date: str) -> None:
        """What a killed run has named and not synced stays from now on, also if the power goes.

        Before a journal is dropped, the shards that were found must be as durable as it was.
        """
        for kind in _SCHEMAS:
            folder = self.root / kind / f"dt={date}"
            try:
                if folder.is_dir():
                    self.disk.sync_folder(folder)
            except OSError as error:
                raise StoreUnusable(f"{folder}: {error.strerror}") from error

    def journal_path(self, batch: str, epoch: int) -> Path:
        """Where a run keeps its journal."""
        return self.root / "journal" / batch / f"{epoch:06d}.jsonl"

    def story_path(self, batch: BatchId) -> Path:
        """Where a run keeps what its scheduler was told and answered."""
        name = f"{batch.batch}-{batch.epoch:06d}{STORY_SUFFIX}"
        return self.root / STORIES / f"dt={batch.date}" / name

    def story_paths(self, batch: str) -> list[Path]:
        """The stories of a batch's runs, in the order of the runs."""
        name = re.compile(re.escape(batch) + r"-[0-9]{6,}" + re.escape(STORY_SUFFIX))
        found = (path for path in (self.root / STORIES).glob("dt=*/*") if name.fullmatch(path.name))
        return sorted(found, key=lambda path: path.name)

    def glob(self, kind: str) -> str:
        """A SQL string that names all Parquet files of ``results``, ``leases`` and so on."""
        return f"'{glob_root(str(self.root))}{kind}/*/*.parquet'"

    def connect(self, *views: str) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection with all views, as fresh as the store.

        With ``views``, those alone, and leases and charges: it is there three times as soon.
        """
        con = _connection()
        con.execute(self._views_sql(str(self.root), self._catalogs(con), only=views))
        return con

    def attach(self, con: duckdb.DuckDBPyConnection, name: str) -> None:
        """Give another connection all views, as a database called ``name``."""
        ((before,),) = con.execute("select current_database()").fetchall()
        con.execute(f"attach ':memory:' as {name}")
        con.execute(f"use {name}")
        try:
            con.execute(self._views_sql(str(self.root), self.catalogs()))
        finally:
            con.execute(f"use {before}")

    def result_bytes(self, workflow_digest: str, *, jobs_max: int) -> tuple[int, int]:
        """How many jobs of a workflow, at most ``jobs_max``, are looked at, and their bytes."""
        sql = sql_file("result_bytes", results=self.glob("results"))
        with _connection() as con:
            found = con.execute(sql, [workflow_digest, jobs_max]).fetchone()
        assert found is not None, "an aggregate has one row"
        return int(found[0]), int(found[1])

    def catalogs(self) -> list[CatalogColumns]:
        """Which catalogs have been here, and with which columns."""
        with _connection() as con:
            return self._catalogs(con)

    def refresh_views(self) -> None:
        """Write ``views.sql`` and ``nightkiln.duckdb`` anew if they would differ.

        Both are replaced in one step: whoever has the old one open keeps it.
        """
        catalogs = self.catalogs()
        # The header names the root, so a store that was moved gets its absolute paths anew.
        text = sql_file("how_to", root=json.dumps(str(self.root))) + self._views_sql("", catalogs)
        if self._has_views(text) and self.blobs.size(DATABASE) is not None:
            return
        self._write_database(self._views_sql(str(self.root), catalogs))
        self.blobs.put(VIEWS_SQL, text.encode())

    def _catalogs(self, con: duckdb.DuckDBPyConnection) -> list[CatalogColumns]:
        sql = sql_file("catalog_columns", root=glob_root(str(self.root)))
        return merged(con.execute(sql).fetchall())

    def _views_sql(
        self, root: str, catalogs: Sequence[CatalogColumns], *, only: Sequence[str] = ()
    ) -> str:
        has = Has(self._has(MARKET), self._has("quotes/"), self._has("charges/"))
        return views_sql(root, catalogs, has, only=only)

    def _has(self, prefix: str) -> bool:
        return next(iter(self.blobs.list(prefix)), None) is not None

    def _has_views(self, text: str) -> bool:
        try:
            return self.blobs.get(VIEWS_SQL) == text.encode()
        except KeyError:
            return False

    def _write_database(self, sql: str) -> None:
        import duckdb

        # Not in the store: DuckDB takes what follows a "?" in a folder's name for options.
        with temporary_folder() as folder:
            made = folder / DATABASE
            with duckdb.connect(str(made)) as con:
                con.execute(f"begin; {sql}; commit")  # one by one, each is written out
            self.blobs.put(DATABASE, made)

    def _make(self) -> None:
        for kind, schema in _SCHEMAS.items():
            self.blobs.create(f"{kind}/{_EMPTY}", parquet_bytes(schema.empty_table()))
        self.blobs.create(f"{MARKET}0.json", market_json(Scores(), (), (), now_s=0.0))
        # The marker is last: a store that was half made is no store, and is made again.
        marker = json.dumps({"kind": "nightkiln store", "schema_version": SCHEMA_VERSION})
        self.blobs.create(MARKER, marker.encode() + b"\n")

    def _check_version(self) -> None:
        try:
            version = int(json.loads(self.blobs.get(MARKER))["schema_version"])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreUnusable(f"{self.root / MARKER} is damaged: {error}") from error
        if version > SCHEMA_VERSION:
            raise StoreUnusable(
                f"{self.root} was made by a newer nightkiln (schema {version}, this one knows "
                f"{SCHEMA_VERSION}); upgrade nightkiln"
            )


def _folder(uri: str) -> Path:
    uri = uri.removeprefix("file://")
    if re.match(r"[a-z0-9]+://", uri):
        what = "stores in object storage come with a later release"
        raise BadInput([Problem(uri, what, "give a local folder")])
    return Path(uri).expanduser().absolute()


def _connection() -> duckdb.DuckDBPyConnection:
    import duckdb

    con = duckdb.connect()
    con.execute("set enable_progress_bar = false")  # it is drawn on stdout, also into pipes
    return con
