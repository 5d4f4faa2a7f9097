"""Files of this computer, brought to a machine over the connection that is there anyway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from shlex import quote

from nightkiln.core.errors import BadInput, Problem, WorkerLost
from nightkiln.core.model import Loss
from nightkiln.machine.link import RUN_S_MAX, Link
from nightkiln.machine.talk import Cut

PIECE_BYTES = 256 * 1024
BYTES_PER_S_MIN = 100_000  # slower than this a file never arrives
CUTS_MAX = 20  # of one file: it goes on where it was
NOT_TAKEN = "the machine does not take a pushed file: no space there?"


async def write_file(link: Link, path: str, data: bytes) -> None:
    """Put a small file below ``~/.nightkiln``, whole or not at all; private to its owner.

    Raises:
        WorkerLost: it could not be written.
    """
    target = quote(path)
    command = (
        f"umask 077; cd ~/.nightkiln && mkdir -p -- {quote(_folder(path))} "
        f"&& cat > {target}.new && mv -f -- {target}.new {target}"
    )
    try:
        ran = await link.run(command, stdin=data, within_s=_patience_s(len(data)))
    except TimeoutError as error:
        raise WorkerLost(NOT_TAKEN, loss=Loss.STARTUP) from error
    if ran.status != 0:
        raise WorkerLost(NOT_TAKEN, loss=Loss.STARTUP)


async def push_file(
    link: Link, source: Path, path: str, *, told: Callable[[int, int], None]
) -> None:
    """Put a large file below ``~/.nightkiln``; what was cut off goes on where it ended.

    ``told`` hears of bytes done and in all. Whether they are the right bytes is for the machine's
    checksum to tell.

    Raises:
        WorkerLost: it could not be written.
        BadInput: our own file cannot be read any more.
    """
    size = await asyncio.to_thread(_size, source)
    part = f"{path}.part"
    for _ in range(CUTS_MAX):
        have = await _length(link, part)
        if have > size:
            await link.run(f"rm -f -- ~/.nightkiln/{quote(part)}")
            have = 0
        told(have, size)
        if have == size:
            await _named(link, part, path)
            return
        pieces = _pieces(source, have, told=lambda done: told(done, size))
        command = (  # at its place: one that was cut off and still writes can do no harm then
            f"umask 077; cd ~/.nightkiln && dd of={quote(part)} bs={PIECE_BYTES} seek={have} "
            "oflag=seek_bytes conv=notrunc status=none"
        )
        try:
            ran = await link.run_once(command, pieces=pieces, within_s=_patience_s(size - have))
        except Cut:
            continue
        except TimeoutError as error:
            raise WorkerLost("the machine takes a pushed file too slowly") from error
        if ran.status != 0:
            raise WorkerLost(NOT_TAKEN, loss=Loss.STARTUP)
    raise WorkerLost("a pushed file is cut off again and again")


async def _length(link: Link, part: str) -> int:
    """Bytes that are there already."""
    where = quote(part)
    command = (
        f"umask 077; cd ~/.nightkiln && mkdir -p -- {quote(_folder(part))} "
        f"&& touch -- {where} && wc -c < {where}"
    )
    try:
        ran = await link.run(command, bytes_max=4096)
    except TimeoutError as error:
        raise WorkerLost(NOT_TAKEN, loss=Loss.STARTUP) from error
    said = ran.text.strip()
    if ran.status != 0 or not (said.isascii() and said.isdecimal() and len(said) < 16):  # noqa: PLR2004
        raise WorkerLost(NOT_TAKEN, loss=Loss.STARTUP)
    return int(said)


async def _named(link: Link, part: str, path: str) -> None:
    ran = await link.run(
        f"cd ~/.nightkiln && mv -f -- {quote(part)} {quote(path)} || [ -f {quote(path)} ]"
    )
    if ran.status != 0:
        raise WorkerLost(NOT_TAKEN, loss=Loss.STARTUP)


async def _pieces(
    source: Path, offset: int, *, told: Callable[[int], None]
) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(_piece, source, offset):
        yield piece
        offset += len(piece)
        told(offset)


def _piece(source: Path, offset: int) -> bytes:
    try:
        with source.open("rb") as file:
            file.seek(offset)
            return file.read(PIECE_BYTES)
    except OSError as error:
        raise _unreadable(source, error) from error


def _size(source: Path) -> int:
    try:
        return source.stat().st_size
    except OSError as error:
        raise _unreadable(source, error) from error


def _unreadable(source: Path, error: OSError) -> BadInput:
    return BadInput([Problem(str(source), f"cannot be read: {error.strerror}")])


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or "."


def _patience_s(size: int) -> float:
    return RUN_S_MAX + size / BYTES_PER_S_MIN
