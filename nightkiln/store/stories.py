"""Where the stories of runs lie: in the store, and while a run goes on on its computer."""

from __future__ import annotations

import re
from pathlib import Path

from nightkiln.blobs import LocalBlobs
from nightkiln.core.model import BatchId
from nightkiln.ports.blobs import Blobs

STORIES = "stories"
STORY_SUFFIX = ".jsonl.gz"


def story_key(batch: BatchId) -> str:
    """What a run's story is called."""
    return f"{STORIES}/dt={batch.date}/{batch.batch}-{batch.epoch:06d}{STORY_SUFFIX}"


def stories_of(batch: str, blobs: Blobs, here: LocalBlobs) -> list[Path]:
    """The stories of a batch's runs, in the order of the runs; what lies far away is fetched."""
    name = re.compile(re.escape(batch) + r"-[0-9]{6,}" + re.escape(STORY_SUFFIX))
    for key in blobs.list(f"{STORIES}/") if blobs is not here else ():
        if name.fullmatch(key.rpartition("/")[2]) and here.size(key) is None:
            here.put(key, blobs.get(key))
    paths = (here.root / STORIES).glob("dt=*/*")
    return sorted((path for path in paths if name.fullmatch(path.name)), key=lambda path: path.name)
