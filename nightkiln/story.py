"""Stories on disk: JSON lines, gzipped piece by piece, written where nobody has to wait for it.

A run that is killed loses the last few seconds of its story, but not why it rented: that is written
at once. A full disk ends a story; the batch goes on without it. The pieces are members of one gzip
file, so ``zcat`` reads it while it grows.
"""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.events import Rent
from nightkiln.core.story import Cut, Line, Opening, Step, line_from_json, line_to_json

PIECE_S = 5.0  # what a killed run loses of its story, at most
PIECE_STEPS = 5_000  # sooner, when so much has happened
WAITING_STEPS_MAX = 100_000  # a disk that is so far behind: the story ends
CLOSE_S_MAX = 10.0  # for the last piece
LINE_BYTES_MAX = 64 * 1024 * 1024  # a thousand offers are half a megabyte, many nights' scores one
GZIP_MAGIC = b"\x1f\x8b"


class StoryFile:
    """Writes one run's story. ``tell`` neither waits nor fails; ``close`` says what went wrong.

    The thread encodes, too: what it is given is frozen, and a list of a thousand offers is a
    hundredth of a second of work that the event loop need not do.
    """

    def __init__(self, path: Path, opening: Opening) -> None:
        self.path = path
        self.trouble: str | None = None
        # Encoded here: the scheduler learns into the scores from its first event on.
        self._first = _encoded(opening)
        self._waiting: list[Line] = []
        self._lock = threading.Lock()  # around the waiting lines
        self._wake = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._write_all, name="story", daemon=True)
        self._thread.start()

    def tell(self, step: Step) -> None:
        """One step more."""
        if self.trouble is not None:
            return
        with self._lock:
            count = len(self._waiting)
            if count < WAITING_STEPS_MAX:
                self._waiting.append(step)
        if count >= WAITING_STEPS_MAX:
            self.trouble = f"{self.path}: the disk is too slow for the story"
        is_dear = any(isinstance(command, Rent) for command in step.commands)
        if is_dear or count >= PIECE_STEPS:
            self._wake.set()

    def close(self) -> str | None:
        """Write what is left, in bounded time; why the story is not whole, or None."""
        self._is_closing = True
        self._wake.set()
        self._thread.join(CLOSE_S_MAX)
        if self._thread.is_alive() and self.trouble is None:
            self.trouble = f"{self.path}: the last piece was not written in {CLOSE_S_MAX:.0f} s"
        return self.trouble

    def _write_all(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("xb", buffering=0) as file:
                file.write(gzip.compress(self._first, compresslevel=1))
                is_last = False
                while not is_last:
                    self._wake.wait(PIECE_S)
                    self._wake.clear()
                    is_last = self._is_closing or self.trouble is not None
                    self._write_piece(file)
        except OSError as error:
            self.trouble = f"{self.path}: {error.strerror}"
            self._waiting = []

    def _write_piece(self, file: IO[bytes]) -> None:
        with self._lock:
            lines, self._waiting = self._waiting, []
        if self.trouble is not None:
            lines.append(Cut(self.trouble))
        if lines:
            file.write(gzip.compress(b"".join(map(_encoded, lines)), compresslevel=1))


def _encoded(line: Line) -> bytes:
    return json.dumps(line_to_json(line), separators=(",", ":"), allow_nan=False).encode() + b"\n"


def read_story(path: Path, *, only: Collection[str] = ()) -> tuple[Opening, Iterator[Step | Cut]]:
    """What a run started from, and step by step what happened; read as it is taken.

    A torn end (the writer died) is left out silently. ``only``: names of events and commands; a
    step in which none of them occurs may be left out, which is ten times as fast.

    Raises:
        BadInput: it cannot be read or is no story; also while the steps are taken.
    """
    lines = _lines(path, tuple(f'"{name}"'.encode() for name in only))
    opening = next(lines, None)
    if not isinstance(opening, Opening):
        what = "empty" if opening is None else "the first line is no opening"
        raise BadInput([Problem(str(path), what, "stories lie in a store under stories/")])
    return opening, _steps(path, lines)


def _steps(path: Path, lines: Iterator[Line]) -> Iterator[Step | Cut]:
    for number, line in enumerate(lines, 2):
        if isinstance(line, Opening):
            raise BadInput([Problem(f"{path}:{number}", "a second opening", "one story a file")])
        yield line


def _lines(path: Path, only: Sequence[bytes] = ()) -> Iterator[Line]:
    try:
        with path.open("rb") as raw, _unpacked(raw) as file:
            for number, text in enumerate(_texts(file), 1):
                if number > 1 and only and not any(name in text for name in only):
                    continue
                yield _line(path, number, text)
    except OSError as error:
        what = error.strerror or str(error)
        raise BadInput([Problem(str(path), what)]) from error


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    is_packed = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    raw.seek(0)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if is_packed else raw


def _texts(file: IO[bytes]) -> Iterator[bytes]:
    """Every whole line; one that is too long comes cut off, and will be no JSON."""
    try:
        text = file.readline(LINE_BYTES_MAX)
        while text.endswith(b"\n") or len(text) == LINE_BYTES_MAX:
            yield text
            text = file.readline(LINE_BYTES_MAX)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return  # the piece that was being written when the run was killed


def _line(path: Path, number: int, text: bytes) -> Line:
    try:
        return line_from_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        fix = "the file was changed, or another nightkiln wrote it"
        raise BadInput([Problem(f"{path}:{number}", str(error), fix)]) from error
