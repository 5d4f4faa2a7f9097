"""Which part of which object store, and how it is reached.

Credentials are never stored, and never part of an address: what is not set here comes from where
every AWS client looks (variables, ``~/.aws``, the role of the machine).
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nightkiln.blobs.keys import is_key
from nightkiln.core.errors import BadInput, Problem

if TYPE_CHECKING:
    from s3fs import S3FileSystem

SCHEME = "s3://"
PREFIX_CHARS_MAX = 100  # with the longest key it stays below what an object store takes
CONNECT_S_MAX = 5.0
SILENCE_S_MAX = 20.0  # between a request that was sent and its answer, or two pieces of it
CONNECTIONS_MAX = 32
READ_TRIES_MAX = 4  # of DuckDB's requests, which nobody else repeats
CLIENTS_MAX = 16  # kept open at once, by one process
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
REGION_VARIABLE = "AWS_REGION"  # every SDK of AWS looks there but Python's

_ENDPOINT = re.compile(r"https?://[^\s@?#]+")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket and the beginning that all keys of a store have there."""

    bucket: str
    prefix: str  # without slashes at its ends; "" is the whole bucket

    @classmethod
    def parse(cls, uri: str) -> S3Place:
        """What ``s3://bucket/prefix`` names.

        Raises:
            BadInput: it cannot be the place of a store.
        """
        bucket, _, prefix = uri.removeprefix(SCHEME).partition("/")
        prefix = prefix.rstrip("/")
        fix = "write s3://bucket/prefix, without credentials"
        if not _BUCKET.fullmatch(bucket):
            # Not shown: who writes credentials into an address writes them here.
            raise BadInput([Problem("--store", "that cannot be the name of a bucket", fix)])
        if prefix and (len(prefix) > PREFIX_CHARS_MAX or not is_key(prefix)):
            what = f"a store's prefix has up to {PREFIX_CHARS_MAX} of the characters of file names"
            raise BadInput([Problem("--store", what, fix)])
        return cls(bucket, prefix)

    @property
    def uri(self) -> str:
        """As a user writes it."""
        return f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")

    def object_key(self, key: str) -> str:
        """The name in the bucket of what the store calls ``key``."""
        return f"{self.prefix}/{key}" if self.prefix else key


@dataclass(frozen=True, slots=True)
class S3Access:
    """How an object store is reached; what is empty is taken from AWS's variables and files."""

    endpoint_url: str = ""
    region: str = ""
    profile: str = ""
    is_path_style: bool | None = None  # None: yes, unless it is AWS itself
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)

    @property
    def endpoint(self) -> str:
        """Where it answers, "" for AWS.

        Raises:
            BadInput: it is no address, or has credentials in it, which are not shown.
        """
        places = [("s3_endpoint_url", self.endpoint_url)]
        places += [(name, os.environ.get(name, "")) for name in ENDPOINT_VARIABLES]
        where, url = next((place for place in places if place[1]), ("", ""))
        if url and not _ENDPOINT.fullmatch(url):
            fix = "write https://host:port, and credentials where AWS clients look for them"
            raise BadInput([Problem(where, "that is not the address of a service", fix)])
        return url

    def file_system(self) -> S3FileSystem:
        """An s3fs file system; the same one for the same access, since each has a client to make.

        Raises:
            BadInput: s3fs is not installed, or the endpoint is no address.
        """
        return _file_system(self._whole(), is_for_duckdb=False)

    def for_duckdb(self) -> S3FileSystem:
        """One for a new connection of DuckDB to read through; it repeats what fails by itself.

        Raises:
            BadInput: s3fs is not installed, or the endpoint is no address.
        """
        files = _file_system(self._whole(), is_for_duckdb=True)
        files.forget()
        return files

    def _whole(self) -> S3Access:
        """With what the client would not find by itself, or not check."""
        region = self.region or os.environ.get(REGION_VARIABLE, "")
        return replace(self, endpoint_url=self.endpoint, region=region)


@lru_cache(maxsize=CLIENTS_MAX)
def _file_system(access: S3Access, *, is_for_duckdb: bool) -> S3FileSystem:
    # At DEBUG botocore writes down what it signs, the token of a session among it.
    logging.getLogger("botocore").setLevel(logging.INFO)
    try:
        import s3fs

        from nightkiln.blobs.s3_reading import ReadingFiles
    except ImportError as error:
        fix = "pip install 'nightkiln[s3]'"
        raise BadInput([Problem("--store", "s3fs is not installed", fix)]) from error
    styles = {True: "path", False: "virtual", None: "path" if access.endpoint_url else "auto"}
    named: dict[str, Any] = {
        "endpoint_url": access.endpoint_url,
        "key": access.access_key_id,
        "secret": access.secret_access_key,
        "token": access.session_token,
        "profile": access.profile,
    }
    made: S3FileSystem = (ReadingFiles if is_for_duckdb else s3fs.S3FileSystem)(
        # s3fs keeps what it is made of where others find it again; this cache is enough.
        skip_instance_cache=True,
        # With its usual caches it fetches the file for a column, and does not see new files.
        default_cache_type="none",
        use_listings_cache=False,
        client_kwargs={"region_name": access.region} if access.region else {},
        config_kwargs={
            "signature_version": "s3v4",
            "s3": {"addressing_style": styles[access.is_path_style]},
            "retries": {
                "total_max_attempts": READ_TRIES_MAX if is_for_duckdb else 1,
                "mode": "standard",
            },
            "connect_timeout": CONNECT_S_MAX,
            "read_timeout": SILENCE_S_MAX,
            "max_pool_connections": CONNECTIONS_MAX,
        },
        **{name: value for name, value in named.items() if value},
    )
    return made
