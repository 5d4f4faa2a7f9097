"""The start script of a rented machine: the dead-man switch, and who is let in."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from nightkiln.machine.scripts import ONSTART_CHARACTERS_MAX, start_script
from nightkiln.testing.vast_machine import leash
from nightkiln.testing.waiting import until

KEY = "container-key-4242"
BATCH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHnightkiln batch"
QUIET_S, LIFE_S = 900, 3600


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def arguments_of_everybody() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:  # it has ended
            continue
    return found


@dataclass
class Service:
    """Vast, as far as a machine talks to it; answers what it is told, then 200."""

    port: int = field(default_factory=free_port)
    answers: list[int] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    arguments: list[bytes] = field(default_factory=list)  # of all processes during a request

    async def _answer(self, request: web.Request) -> web.Response:
        self.arguments += await asyncio.to_thread(arguments_of_everybody)
        self.asked.append((request.method, request.path, request.headers["Authorization"]))
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Service]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True).start()
        try:
            yield self
        finally:
            await runner.cleanup()


@dataclass
class Rented:
    """A machine on which the script is started as the service starts it."""

    folder: Path
    service: Service
    mark: str
    uptime_s: float = 5000.0
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> Path:
        return self.folder / "home" / ".nightkiln"

    def passes(self, seconds: float) -> None:
        """Let time pass, by the host's uptime."""
        self.uptime_s += seconds
        self._replace(self.folder / "uptime", f"{self.uptime_s:.2f} 12345.67\n")

    def beats(self, content: str) -> None:
        self._replace(self.ours / "heartbeat", content)

    def _replace(self, path: Path, content: str) -> None:
        new = path.with_suffix(".whole")
        new.write_text(content)
        new.replace(path)

    def left(self) -> tuple[int, int]:
        remaining, quiet = (self.ours / "left").read_text().split()
        return int(remaining), int(quiet)

    def log(self) -> str:
        return (self.ours / "log").read_text()

    async def boots(self, launch: str = "true", *, shell: str = "/bin/sh") -> int:
        """Run the script until what it launches has ended; the exit status."""
        (self.folder / "home").mkdir(exist_ok=True)
        (self.folder / "onstart.sh").write_text(start_script())
        self.passes(0)
        variables = {
            "HOME": str(self.folder / "home"),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "NK_KEY": BATCH_KEY,
            "NK_API": f"http://127.0.0.1:{self.service.port}",
            "NK_LIFE_S": str(LIFE_S),
            "NK_QUIET_S": str(QUIET_S),
            "NK_TICK_S": "0.02",
            "NK_LAUNCH": launch,
            "NK_UPTIME": str(self.folder / "uptime"),
            "CONTAINER_ID": "4242",
            "CONTAINER_API_KEY": KEY,
            leash.VARIABLE: self.mark,
        }
        wanted = {n: v for n, v in (variables | self.environment).items() if v}
        process = await asyncio.create_subprocess_exec(
            shell, str(self.folder / "onstart.sh"), env=wanted, cwd=self.folder / "home"
        )
        return await process.wait()

    def loses_power(self) -> None:
        leash.end(self.mark)

    async def ticks(self) -> None:
        """Wait until the dead-man has looked again, from the beginning of a round."""
        for _ in range(2):
            await until(self._has_looked_since((self.ours / "left").stat().st_mtime_ns))

    def _has_looked_since(self, before_ns: int) -> Callable[[], bool]:
        return lambda: (self.ours / "left").stat().st_mtime_ns != before_ns


@pytest.fixture
def rented(tmp_path: Path) -> Iterator[Rented]:
    mark = f"{os.getpid()}-{tmp_path.name}/"
    (tmp_path / "bin").mkdir()
    yield Rented(tmp_path, Service(), mark)
    leash.end(mark)


DELETED = ("DELETE", "/api/v0/instances/4242/", f"Bearer {KEY}")


def test_it_fits_into_a_create_with_room_for_arguments() -> None:
    assert len(start_script()) < ONSTART_CHARACTERS_MAX


@pytest.mark.parametrize("shell", ["bash", "dash", "sh"])
async def test_silence_since_boot_ends_the_machine(shell: str, rented: Rented) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    async with rented.service.up() as service:
        await rented.boots(shell=shell)
        rented.passes(QUIET_S - 1)
        await rented.ticks()
        assert not service.asked

        rented.passes(1)

        await until(lambda: service.asked)
        assert service.asked[0] == DELETED


async def test_silence_later_ends_the_machine(rented: Rented) -> None:
    async with rented.service.up() as service:
        await rented.boots()
        rented.beats("1 3600")
        await rented.ticks()

        rented.passes(QUIET_S)

        await until(lambda: service.asked)


async def test_heartbeats_keep_it_alive_until_it_expires(rented: Rented) -> None:
    async with rented.service.up() as service:
        await rented.boots()
        for beat in range(1, 7):  # 6 x 600 s is all of its first hour; each beat promises 1000 more
            rented.passes(600)
            rented.beats(f"{beat} 1000")
            await rented.ticks()
        assert not service.asked

        rented.passes(500)
        rented.beats("7 500")  # a beat that promises nothing new does not delay the end
        await rented.ticks()
        rented.passes(500)
        await until(lambda: service.asked)
        assert "left 0 s" in rented.log()


async def test_a_machine_that_nobody_extends_expires_in_spite_of_the_same_old_beat(
    rented: Rented,
) -> None:
    rented.environment["NK_QUIET_S"] = str(10 * LIFE_S)
    async with rented.service.up() as service:
        await rented.boots()
        rented.beats("1 3600")
        await rented.ticks()
        rented.beats("1 3600")

        rented.passes(LIFE_S)

        await until(lambda: service.asked)


@pytest.mark.parametrize(
    "beat", ["", "7", "x 3600", "7 -1", "7 1e9", "7 604801", "7 010", "7 3600 9", "7 $(id)", "\0"]
)
async def test_a_beat_that_makes_no_sense_is_none(beat: str, rented: Rented) -> None:
    async with rented.service.up():
        await rented.boots()
        rented.passes(100)
        await rented.ticks()

        rented.beats(beat)
        rented.passes(100)
        await rented.ticks()

        assert rented.left() == (LIFE_S - 200, 200)


async def test_a_reboot_neither_extends_it_nor_forgives_silence(rented: Rented) -> None:
    async with rented.service.up() as service:
        await rented.boots()
        rented.beats("1 2000")
        await rented.ticks()
        rented.passes(300)
        await rented.ticks()
        rented.loses_power()

        rented.uptime_s = 20.0  # the host was restarted too
        await rented.boots()
        await rented.ticks()
        assert rented.left() == (1700, 300)  # the old beat is no news

        rented.passes(QUIET_S - 300)
        await until(lambda: service.asked)


async def test_a_machine_that_comes_back_after_hours_counts_them_where_uptime_shows_them(
    rented: Rented,
) -> None:
    async with rented.service.up() as service:
        await rented.boots()
        await rented.ticks()
        rented.loses_power()

        rented.passes(3 * 3600)  # outbid, and resumed when nobody expected it
        await rented.boots()

        await until(lambda: service.asked)


async def test_uptime_that_cannot_be_read_counts_as_time(rented: Rented) -> None:
    rented.environment |= {"NK_UPTIME": "/nonexistent", "NK_QUIET_S": "20"}
    async with rented.service.up() as service:
        await rented.boots()

        await until(lambda: service.asked)


async def test_the_hosts_clock_is_never_asked(rented: Rented) -> None:
    clock = rented.folder / "bin" / "date"
    clock.write_text(f"#!/bin/sh\ntouch {rented.folder}/asked-the-clock\n")
    clock.chmod(0o755)
    async with rented.service.up() as service:
        await rented.boots()
        rented.passes(QUIET_S)
        await until(lambda: service.asked)

    assert not (rented.folder / "asked-the-clock").exists()


async def test_it_asks_again_through_refusals_and_without_a_network(rented: Rented) -> None:
    await rented.boots()
    rented.passes(QUIET_S)
    await until(lambda: rented.log().count("asked to be deleted: 000") >= 2)  # nobody listens

    rented.service.answers = [429, 500, 429, 401, 404]
    async with rented.service.up() as service:
        await until(lambda: len(service.asked) >= 5)

    assert set(service.asked) == {DELETED}


async def test_a_machine_that_outlives_its_deletion_asks_again(rented: Rented) -> None:
    async with rented.service.up() as service:
        await rented.boots()
        rented.passes(QUIET_S)

        await until(lambda: len(service.asked) >= 2)

    assert "asked to be deleted: 200" in rented.log()


async def test_the_containers_key_is_in_no_command_line_and_no_file(rented: Rented) -> None:
    async with rented.service.up() as service:
        await rented.boots()
        rented.passes(QUIET_S)
        await until(lambda: service.asked)

        assert any(b"curl" in words for words in service.arguments)
        assert not any(KEY.encode() in words for words in service.arguments)
        rented.loses_power()  # so that no file is replaced while it is looked into
    files = [path for path in (rented.folder / "home").rglob("*") if path.is_file()]
    assert not any(KEY.encode() in path.read_bytes() for path in files)


async def test_the_batchs_key_is_let_in_once_beside_those_already_there(rented: Rented) -> None:
    keys = rented.folder / "home" / ".ssh" / "authorized_keys"
    keys.parent.mkdir(parents=True)
    keys.write_text("ssh-ed25519 AAAA owner")  # without an end of line, as some leave it

    await rented.boots()
    await rented.boots()

    lines = [line for line in keys.read_text().splitlines() if line]
    assert lines == ["ssh-ed25519 AAAA owner", BATCH_KEY]
    assert keys.stat().st_mode & 0o777 == 0o600


async def test_the_switch_is_armed_before_anything_is_launched(rented: Rented) -> None:
    launcher = rented.folder / "bin" / "entrypoint.sh"
    launcher.write_text('#!/bin/sh\nkill -0 "$(cat ~/.nightkiln/armed)" && umask >~/launched\n')
    launcher.chmod(0o755)

    await rented.boots(launch="")

    assert (rented.folder / "home" / "launched").read_text().strip() != "0077"


@pytest.mark.nights
@pytest.mark.parametrize("name", ["NK_API", "CONTAINER_ID", "CONTAINER_API_KEY"])
async def test_a_machine_that_could_not_delete_itself_lets_nobody_in(
    name: str, rented: Rented
) -> None:
    rented.environment[name] = ""

    assert await rented.boots() == 1

    assert not (rented.folder / "home" / ".ssh").exists()
    assert not (rented.ours / "armed").exists()
    assert "no dead-man switch" in rented.log()


async def test_the_log_does_not_grow_for_ever(rented: Rented) -> None:
    rented.ours.mkdir(parents=True)
    (rented.ours / "log").write_text("x" * 70_000)

    await rented.boots()

    assert len(rented.log()) == 70_000
