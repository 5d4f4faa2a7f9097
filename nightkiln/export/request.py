"""What somebody wants taken away, and how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

EXPORT_VERSION = 1  # of what is written: a new one does not go on with what an old one began
DEFAULT_NAME = "{batch}/{job_id}-{index}"
DEFAULT_CAPTION = "prompt"
SHARD_BYTES = 500_000_000  # what Hugging Face advises; of the outputs' own bytes
SHARD_ROWS_MAX = 1_000_000
# Of one output: it is in memory while it is compared, and as often again while it is written. The
# largest image that a run lets in has as many.
OUTPUT_BYTES_MAX = 512 * 1024**2


class Format(StrEnum):
    """The form that an export has."""

    WEBDATASET = "webdataset"
    PARQUET = "parquet"
    HF = "hf"
    FILES = "files"
    CSV = "csv"


# What a kill can cost to do again, and how many files of a kind lie in one folder.
SHARD_ROWS: Mapping[Format, int] = {
    Format.WEBDATASET: 10_000,
    Format.PARQUET: 10_000,
    Format.HF: 10_000,
    Format.FILES: 1_000,
    Format.CSV: 100_000,
}


@dataclass(frozen=True, slots=True)
class Request:
    """One export. The same request on the same store gives the same bytes."""

    folder: Path
    format: Format
    where: str = ""  # a condition in SQL; empty: every finished output
    name: str = DEFAULT_NAME  # template of an output's name
    caption: str = DEFAULT_CAPTION  # the column that describes an output in words
    columns: tuple[str, ...] = ()  # metadata; empty: the usual ones
    shard_rows: int | None = None  # None: ``SHARD_ROWS``
    shard_bytes: int = SHARD_BYTES

    @property
    def rows_max(self) -> int:
        """Outputs in one shard at most."""
        return self.shard_rows if self.shard_rows is not None else SHARD_ROWS[self.format]

    @property
    def digest(self) -> str:
        """The same for two requests that ask for the same bytes, wherever they go."""
        asked = {**asdict(self), "folder": None, "shard_rows": self.rows_max}
        text = json.dumps([EXPORT_VERSION, asked], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
