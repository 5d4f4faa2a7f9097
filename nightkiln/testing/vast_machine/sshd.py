"""``python -m nightkiln.testing.vast_machine.sshd``: the SSH server of a simulated machine.

What it does is what OpenSSH does for nightkiln: it lets in whom ``~/.ssh/authorized_keys`` names,
runs commands and ``sftp`` as root in its home, and forwards ComfyUI's port. A process of its own,
so that it can be frozen, and so that its work is not measured as the controller's. The machine's
line is in it too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import asyncssh

from nightkiln.testing.vast_machine.meter import Meter
from nightkiln.testing.vast_machine.network import open_line

HOST = "127.0.0.1"
USER = "root"
COMFY_PORT = 18188  # on which the image's ComfyUI listens
CHUNK_BYTES = 256 * 1024
_LISTENING = re.compile(rb"^listening on http://127\.0\.0\.1:(\d{1,5})\s", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the server knows of the machine that it is on."""

    home: Path
    comfy_output: Path  # what ComfyUI prints; the stand-in says there where it listens
    comfy_port: int | None  # where it listens, if that is fixed
    meter: Meter

    def is_authorized(self, key: asyncssh.SSHKey) -> bool:
        try:
            lines = (self.home / ".ssh" / "authorized_keys").read_bytes().splitlines()
        except OSError:  # the start script has not been there yet
            return False
        offered = key.export_public_key("openssh").split()[:2]
        return any(line.split()[:2] == offered for line in lines)

    def listening(self) -> int | None:
        """The loopback port of this machine's ComfyUI, if it is up."""
        if self.comfy_port is not None:
            return self.comfy_port
        with contextlib.suppress(OSError), self.comfy_output.open("rb") as output:
            said = _LISTENING.search(output.read(4096))
            return int(said[1]) if said is not None else None
        return None


class Door(asyncssh.SSHServer):
    """One connection."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._connection: asyncssh.SSHServerConnection | None = None
        self._closed: Callable[[], None] = lambda: None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._closed = self._machine.meter.opened(conn.get_extra_info("socket"))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - it was counted
        self._closed()

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 - nobody comes in without a key
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == USER and self._machine.is_authorized(key)

    def connection_requested(
        self,
        dest_host: str,
        dest_port: int,
        orig_host: str,  # noqa: ARG002
        orig_port: int,  # noqa: ARG002
    ) -> Awaitable[asyncssh.SSHTCPSession[Any]]:
        """Forward to this machine's own ComfyUI and to nothing else of whoever runs the test."""
        assert self._connection is not None, "connected"
        if dest_host not in {HOST, "localhost"} or dest_port != COMFY_PORT:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "only ComfyUI is reached this way"
            )
        port = self._machine.listening()
        if port is None:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "Connection refused")
        forwarder = self._connection.forward_connection(HOST, port)
        return cast("Awaitable[asyncssh.SSHTCPSession[Any]]", forwarder)  # as it documents itself


async def _run(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """One command; it is over when it has ended and nobody holds its output any more."""
    if process.command is None:
        process.exit(1)  # no terminal, no shell: nobody here would use one
        return
    child = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        process.command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    feeding = asyncio.create_task(_feed(process.stdin, child.stdin))
    try:
        # The other side may hang up at any time: the command goes on, as it does with OpenSSH.
        with contextlib.suppress(asyncssh.Error, OSError):
            await asyncio.gather(
                _tell(child.stdout, process.stdout), _tell(child.stderr, process.stderr)
            )
        status = await child.wait()
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
    with contextlib.suppress(asyncssh.Error, OSError):
        process.exit(status if status >= 0 else 128 - status)


async def _feed(source: asyncssh.SSHReader[bytes], sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        while chunk := await source.read(CHUNK_BYTES):
            sink.write(chunk)
            await sink.drain()
    sink.close()


async def _tell(source: asyncio.StreamReader, sink: asyncssh.SSHWriter[bytes]) -> None:
    while chunk := await source.read(CHUNK_BYTES):
        sink.write(chunk)
        await sink.drain()


def host_key(path: Path) -> asyncssh.SSHKey:
    """The machine's own key: made once, the same after every reboot."""
    if not path.exists():
        key = asyncssh.generate_private_key("ssh-ed25519")
        path.write_bytes(key.export_private_key("openssh"))
        path.chmod(0o600)
    return asyncssh.read_private_key(path)


async def _serve(machine: Machine, *, port: int, key: asyncssh.SSHKey, mbps: float) -> None:
    line = await open_line(mbps, machine.meter)
    proxy = f"http://{HOST}:{line.sockets[0].getsockname()[1]}"
    os.environ |= {"http_proxy": proxy, "https_proxy": proxy}  # for whatever is run over SSH
    telling = asyncio.create_task(machine.meter.keep_telling())
    async with asyncssh.listen(
        HOST,
        port,
        server_factory=lambda: Door(machine),
        server_host_keys=[key],
        process_factory=_run,
        sftp_factory=asyncssh.SFTPServer,
        encoding=None,
        config=None,
        agent_forwarding=False,
        x11_forwarding=False,
        reuse_address=True,
    ) as server:
        # For its starter: where it listens, and the way out of the machine.
        print(f"listening on {server.get_port()} {proxy}", flush=True)  # noqa: T201
        await telling


def main() -> None:
    """Serve until somebody ends the process."""
    parser = argparse.ArgumentParser(prog="python -m nightkiln.testing.vast_machine.sshd")
    parser.add_argument("--port", type=int, default=0, help="0, the default, picks a free one")
    parser.add_argument("--host-key", type=Path, required=True)
    parser.add_argument("--comfy-output", type=Path, required=True)
    parser.add_argument("--comfy-port", type=int)
    parser.add_argument("--traffic", type=Path, required=True)
    parser.add_argument("--mbps", type=float, required=True)
    options = parser.parse_args()
    machine = Machine(
        Path(os.environ["HOME"]), options.comfy_output, options.comfy_port, Meter(options.traffic)
    )
    os.chdir(machine.home)
    key = host_key(options.host_key)
    asyncio.run(_serve(machine, port=options.port, key=key, mbps=options.mbps))


if __name__ == "__main__":
    main()
