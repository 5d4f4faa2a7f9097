"""Commands on a machine that means no good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.errors import WorkerLost
from nightkiln.machine.dial import NotYet, dial
from nightkiln.machine.keys import BatchKeys
from nightkiln.machine.link import Link
from nightkiln.machine.stay import Address
from nightkiln.machine.talk import plain
from nightkiln.testing.waiting import until
from tests.machine.place import QUICK, open_files


@dataclass
class Stranger:
    """An SSH server that answers each command by ``answer``."""

    key: asyncssh.SSHKey | None  # let in; None: anybody is, without being asked for one
    offered: list[str] = field(default_factory=list)  # keys that callers have shown
    asked: list[str] = field(default_factory=list)
    ciphers: set[str] = field(default_factory=set)
    let_in: int = 0
    port: int = 0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Stranger]:
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Door(self),
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            process_factory=self._answer,
            encoding=None,
            config=None,
        )
        self.port = server.get_port()
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _answer(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        command = process.command if process.command is not None else ""
        self.asked.append(command)
        self.ciphers.add(process.get_extra_info("recv_cipher"))
        try:
            if command == "endless":
                while True:
                    process.stdout.write(b"x" * 65_536)
                    await process.stdout.drain()
            if command == "complains":
                while True:
                    process.stderr.write(b"x" * 65_536)
                    await process.stderr.drain()
            if command == "silent":
                await process.stdin.read()
                await asyncio.Event().wait()
        except (asyncssh.Error, OSError):
            return
        if command == "cut":
            process.channel.get_connection().abort()
            return
        process.stdout.write(b"\x1b[2J\xff\x07fine\n")
        process.exit(3)


class _Door(asyncssh.SSHServer):
    def __init__(self, stranger: Stranger) -> None:
        self._stranger = stranger

    def begin_auth(self, username: str) -> bool:
        del username
        return self._stranger.key is not None

    def auth_completed(self) -> None:
        self._stranger.let_in += 1

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        del username
        shown, known = (_words(key), _words(self._stranger.key))
        self._stranger.offered.append(shown)
        return shown == known


def _words(key: asyncssh.SSHKey | None) -> str:
    return "" if key is None else key.export_public_key().decode().split()[1]


@asynccontextmanager
async def linked(folder: Path, stranger: Stranger) -> AsyncIterator[Link]:
    async def where() -> Address:
        return Address("127.0.0.1", stranger.port)

    link = Link(where, BatchKeys.of(folder, "night"), folder / "pin", limits=QUICK.link)
    try:
        await link.open()
        keeping = asyncio.create_task(link.keep())
        yield link
        keeping.cancel()
        await asyncio.wait([keeping])
    finally:
        await link.aclose()


@asynccontextmanager
async def meeting(folder: Path) -> AsyncIterator[tuple[Stranger, Link]]:
    key = BatchKeys.of(folder, "night").private
    async with Stranger(key).opened() as stranger, linked(folder, stranger) as link:
        yield stranger, link


async def test_an_answer_comes_with_its_status_and_without_what_harms_a_terminal(
    tmp_path: Path,
) -> None:
    async with meeting(tmp_path) as (_, link):
        ran = await link.run("something")

    assert ran.status == 3
    assert ran.text == "[2J\N{REPLACEMENT CHARACTER} fine\n"


@pytest.mark.parametrize("command", ["endless", "complains"])
async def test_an_answer_without_end_is_not_read_to_its_end(tmp_path: Path, command: str) -> None:
    async with meeting(tmp_path) as (_, link):
        with pytest.raises(WorkerLost, match="without end"):
            await link.run(command)


async def test_a_command_that_never_ends_is_given_up(tmp_path: Path) -> None:
    async with meeting(tmp_path) as (_, link):
        with pytest.raises(TimeoutError):
            await link.run("silent", within_s=0.2)

        assert (await link.run("something")).status == 3


async def test_a_machine_that_cuts_off_every_command_is_lost(tmp_path: Path) -> None:
    async with meeting(tmp_path) as (stranger, link):
        with pytest.raises(WorkerLost, match="cuts off every command"):
            await link.run("cut")

        assert stranger.asked == ["cut"] * 5


async def test_only_the_batchs_own_key_is_shown(tmp_path: Path) -> None:
    async with meeting(tmp_path) as (stranger, _):
        assert set(stranger.offered) == {BatchKeys.of(tmp_path, "night").public.split()[1]}


async def test_the_cipher_that_costs_least_is_spoken(tmp_path: Path) -> None:
    async with meeting(tmp_path) as (stranger, link):
        await link.run("hello")

    assert stranger.ciphers == {"aes128-gcm@openssh.com"}


async def test_a_machine_that_does_not_know_our_key_yet_is_waited_for(tmp_path: Path) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    async with Stranger(other).opened() as stranger:
        arriving = asyncio.create_task(_first_contact(tmp_path, stranger))
        await until(lambda: len(stranger.offered) >= 2)

        stranger.key = BatchKeys.of(tmp_path, "night").private
        await arriving

        assert stranger.let_in == 1


async def _first_contact(folder: Path, stranger: Stranger) -> None:
    async with linked(folder, stranger):
        pass


async def test_a_machine_that_lets_anybody_in_is_not_entered(tmp_path: Path) -> None:
    keys = BatchKeys.of(tmp_path, "night")
    async with Stranger(None).opened() as stranger:
        files = open_files()
        with pytest.raises(NotYet):
            await dial(
                Address("127.0.0.1", stranger.port),
                keys=keys,
                pin=tmp_path / "pin",
                limits=QUICK.link,
                on_lost=lambda: None,
            )
        await until(lambda: open_files() <= files)

    assert not (tmp_path / "pin").exists()


@given(st.text())
def test_a_strangers_words_fit_on_one_line(text: str) -> None:
    said = plain(text, 50)

    assert len(said) <= 50
    assert all(letter == " " or letter.isprintable() or not letter.isascii() for letter in said)
    assert said.splitlines() in ([], [said])
