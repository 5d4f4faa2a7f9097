"""An SSH server in a process of its own, through which a stand-in worker is reached.

``python -m tests.benchmarks.ssh_host AUTHORIZED_KEYS PORT`` prints the port on which it listens;
whoever logs in may reach 127.0.0.1:PORT, whatever port is asked for, as on a rented machine.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh


@contextmanager
def ssh_host(authorized: Path, port: int) -> Iterator[int]:
    """The port of a server that leads to ``port``; ended with the block."""
    command = [sys.executable, "-m", __name__, str(authorized), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


class _Door(asyncssh.SSHServer):
    """Leads every caller to one port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> Any:
        del dest_host, dest_port, orig_host, orig_port
        assert self._connection is not None
        return self._connection.forward_connection("127.0.0.1", self._port)


async def _serve(authorized: str, port: int) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(
        lambda: _Door(port),
        "127.0.0.1",
        0,
        server_host_keys=[key],
        authorized_client_keys=authorized,
        compression_algs=["none"],
    )
    print(server.get_port(), flush=True)
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
