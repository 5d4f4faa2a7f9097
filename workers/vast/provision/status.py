"""status.json: how far it is, for whoever looks over SSH."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from provision.plan import Model

EVERY_S = 0.5
SAMPLES = 20  # of the line's speed: ten seconds


class Status:
    """Always whole on disk, replaced twice a second while anything goes on."""

    def __init__(self, path: Path, models: list[Model]) -> None:
        self._path = path
        self._lock, self._over = threading.Lock(), threading.Event()
        self._files: dict[str, dict[str, Any]] = {
            model.path: {"done": 0, "total": model.bytes, "state": "waiting"} for model in models
        }
        self._waiting: set[str] = set()
        self._ending: dict[str, Any] = {
            "state": "working",
            "kind": "",
            "why": "",
            "restarted": False,
        }
        self._received, self._beat = 0, 0
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)
        self._mbps: float | None = None

    def change(self, path: str, **facts: Any) -> None:
        """Tell ``done``, ``total`` or ``state`` of a file."""
        with self._lock:
            self._files[path].update(facts)

    def received(self, path: str, count: int) -> None:
        """So many more bytes of a file came over the line."""
        with self._lock:
            self._files[path]["done"] += count
            self._received += count

    def waits(self, path: str, *, is_waiting: bool) -> None:
        """Whether a file needs an address before it can go on."""
        with self._lock:
            if is_waiting:
                self._waiting.add(path)
                self._files[path]["state"] = "waiting"
            else:
                self._waiting.discard(path)

    def end(self, state: str, *, kind: str = "", why: str = "", restarted: bool = False) -> None:
        """The last word."""
        self._over.set()
        with self._lock:
            self._waiting.clear()
            self._ending = {"state": state, "kind": kind, "why": why, "restarted": restarted}
        self.publish()

    def keep_publishing(self) -> None:
        """Publish until the end."""
        while not self._over.is_set():
            self.publish()
            self._over.wait(EVERY_S)

    def publish(self) -> None:
        """Replace the file by what is true now."""
        with self._lock:
            self._measure()
            self._beat += 1
            told = {
                **self._ending,
                "waiting_for": sorted(self._waiting),
                "files": self._files,
                "mbps": self._mbps,
                "beat": self._beat,  # counts on: it is alive
                "pid": os.getpid(),
            }
            if self._waiting:
                told["state"] = "needs_urls"
            new = self._path.with_suffix(".new")
            # A full disk must not end it: that is what the next status has to tell.
            with contextlib.suppress(OSError):
                new.write_text(json.dumps(told), encoding="utf-8")
                new.replace(self._path)

    def _measure(self) -> None:
        if not any(file["state"] == "loading" for file in self._files.values()):
            self._samples.clear()  # time in which nothing was asked for says nothing of the line
            return
        self._samples.append((time.monotonic(), self._received))
        (began_s, had), (now_s, have) = self._samples[0], self._samples[-1]
        if now_s > began_s:
            self._mbps = round((have - had) * 8 / 1e6 / (now_s - began_s), 2)
