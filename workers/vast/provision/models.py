"""Models get their name in ComfyUI's folder only when they are what the plan says."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from provision.download import CHUNK_BYTES, Refused, Unavailable, download, size_of
from provision.machine import free_bytes
from provision.plan import Model, Plan, Stopped, Trouble, read_urls
from provision.status import Status

PART = ".nightkiln-part"  # no ending that ComfyUI would take for a model's
PAUSE_S_MAX = 30.0
POLL_S = 0.25
ROUNDS_MAX = 3
SPARE_BYTES = 256 * 1024 * 1024  # to stay free for pictures
EXPIRED = frozenset({400, 401, 403, 410})  # S3 says 400 of a signature whose session is over


@contextlib.contextmanager
def _own_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Trouble("disk", f"ComfyUI's models cannot be written: {error.strerror}") from error


class Models:
    """Fetches and verifies models, several at a time."""

    def __init__(self, folder: Path, models: Path, plan: Plan, status: Status) -> None:
        self._folder, self._models, self._plan, self._status = folder, models, plan, status
        self.stop = threading.Event()
        self._spent: dict[str, int] = {}  # addresses, by the status they were refused with

    def check_room(self) -> None:
        """Refuse what cannot fit before a byte of it is paid for.

        Raises:
            Trouble: it cannot.
        """
        with _own_disk():
            missing = [m for m in self._plan.models if not (self._models / m.path).exists()]
            have = sum(size_of(self._part(m)) + size_of(self._pushed(m)) for m in missing)
        needed = sum(m.bytes if m.bytes is not None else 0 for m in missing)
        if missing and needed - have + SPARE_BYTES > free_bytes(self._folder):
            gigabytes = sum(m.bytes if m.bytes is not None else 0 for m in self._plan.models) / 1e9
            raise Trouble("disk", f"the disk is too small for {gigabytes:.1f} GB of models")

    def place(self, model: Model) -> None:
        """Have it where ComfyUI looks for it.

        Raises:
            Trouble: that cannot be had.
            Stopped: something else failed meanwhile.
        """
        final, part = self._models / model.path, self._part(model)
        with _own_disk():
            if final.is_file() and self._is_right(model, final):
                return
            part.parent.mkdir(parents=True, exist_ok=True)
            # What was resumed may not fit together: then once more, from nothing.
            for _ in range(ROUNDS_MAX):
                is_new = self._obtain(model, part)
                if self._is_right(model, part):
                    (self._folder / "restart-due").touch()
                    part.replace(final)
                    return
                part.unlink()
                if is_new:
                    break
        raise Trouble("checksum", f"{model.path} is not the file that the catalog names")

    def _obtain(self, model: Model, part: Path) -> bool:
        """Fill ``part``; whether all of it came in one go, and would come again as it is."""
        tries = 0
        while True:
            address = self._address(model, tries)
            if address is None:
                shutil.move(str(self._pushed(model)), str(part))
                return True
            had = size_of(part)
            self._status.change(model.path, state="waiting", done=had)
            try:
                download(address, model, part, status=self._status, stop=self.stop)
            except Refused as refusal:
                self._spent[address] = refusal.code
                reason = "every address for it is refused"
            except Unavailable:
                reason = "its host is down or does not answer"
                self._status.change(model.path, state="waiting")
                self.stop.wait(min(self._plan.pause_s * 2**tries, PAUSE_S_MAX))
            else:
                return had == 0
            tries = 0 if size_of(part) - had >= CHUNK_BYTES else tries + 1
            if tries >= self._plan.tries:
                raise Trouble("download", f"{model.path}: {reason}")

    def _address(self, model: Model, tries: int) -> str | None:
        """Where to get it, as soon as that is known; None when it was pushed."""
        waited_s = 0.0
        try:
            while waited_s <= self._plan.wait_urls_s:
                if self.stop.is_set():
                    raise Stopped
                if self._pushed(model).is_file():
                    return None
                known = read_urls(self._folder / "urls.json").get(model.path, [])
                fresh = [address for address in known if address not in self._spent]
                if fresh:
                    return fresh[tries % len(fresh)]
                self._check_refusals(model, known)
                self._status.waits(model.path, is_waiting=True)
                self.stop.wait(POLL_S)
                waited_s += POLL_S
        finally:
            self._status.waits(model.path, is_waiting=False)
        raise Trouble("download", f"{model.path}: nobody gave an address to fetch it from")

    def _check_refusals(self, model: Model, known: list[str]) -> None:
        """Only a signature that ran out is worth waiting for another."""
        codes = {self._spent[address] for address in known} - EXPIRED
        if codes:
            raise Trouble("download", f"{model.path}: its address answers HTTP {min(codes)}")

    def _is_right(self, model: Model, path: Path) -> bool:
        size = path.stat().st_size
        self._status.change(model.path, state="checking", done=size, total=size)
        if model.bytes is not None and size != model.bytes:
            return False
        is_right = model.sha256 is None or self._sha256(path) == model.sha256.lower()
        if is_right:
            self._status.change(model.path, state="done")
        return is_right

    def _sha256(self, path: Path) -> str:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                if self.stop.is_set():
                    raise Stopped
                digest.update(chunk)
        return digest.hexdigest()

    def _part(self, model: Model) -> Path:
        return self._models / (model.path + PART)

    def _pushed(self, model: Model) -> Path:
        return self._folder / "pushed" / model.path
