"""One try to log in to a machine: with our key alone, and to the same machine as the last time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh

from nightkiln.core.errors import WorkerLost
from nightkiln.machine.keys import BatchKeys
from nightkiln.machine.once import keep_once, read_bounded
from nightkiln.machine.stay import Address, LinkLimits

# AES in hardware and its checksum in one pass: the default cipher costs twice the time.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr", "aes128-ctr")
CHANGED = "the machine shows another host key than at first contact"


class NotYet(Exception):
    """The host is up, but lets nobody in so far."""


class Silent(Exception):
    """Nothing came back."""


class Pinned(asyncssh.SSHClient):
    """Accepts any host key at first contact and that one ever after."""

    def __init__(self, pinned: bytes | None, on_lost: Callable[[], None]) -> None:
        self._pinned, self._on_lost = pinned, on_lost
        self.met = b""  # the host key of this connection, one line

    def validate_host_public_key(
        self,
        host: str,
        addr: str,
        port: int,
        key: asyncssh.SSHKey,
    ) -> bool:
        del host, addr, port  # a machine may come back under another address
        self.met = b" ".join(key.export_public_key().split()[:2]) + b"\n"
        return self._pinned is None or self._pinned == self.met

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._on_lost()


async def dial(
    address: Address,
    *,
    keys: BatchKeys,
    pin: Path,
    limits: LinkLimits,
    on_lost: Callable[[], None],
) -> asyncssh.SSHClientConnection:
    """Log in; ``on_lost`` is called when the connection ends, for whatever reason.

    Raises:
        NotYet: refused, reset, or our key is not known there yet.
        Silent: timeouts, no way to the host.
        WorkerLost: the host key is not the pinned one.
    """
    client = Pinned(await asyncio.to_thread(read_bounded, pin), on_lost)
    try:
        async with asyncio.timeout(limits.connect_s_max):
            connection = await asyncssh.connect(
                address.host,
                address.port,
                username=address.user,
                client_factory=lambda: client,
                **_options(keys, limits),
            )
    except asyncssh.HostKeyNotVerifiable as error:
        raise WorkerLost(CHANGED) from error
    except (asyncssh.Error, TimeoutError, OSError) as error:
        raise _meaning(error) from error
    try:
        pinned = await asyncio.to_thread(keep_once, pin, client.met)
    except BaseException:
        connection.abort()
        raise
    if pinned != client.met:  # another process was there first, and met another machine
        connection.abort()
        raise WorkerLost(CHANGED)
    return connection


def _options(keys: BatchKeys, limits: LinkLimits) -> dict[str, Any]:
    return {
        # Nothing of this user's own SSH set-up: no config, agent, other key, password or forwarding
        # may have a part in a connection to a stranger.
        "config": None,
        "client_keys": [keys.private],
        "agent_path": None,
        "agent_forwarding": False,
        "x11_forwarding": False,
        "preferred_auth": ["publickey"],
        "password_auth": False,
        "kbdint_auth": False,
        "host_based_auth": False,
        "gss_auth": False,
        "gss_kex": False,
        "disable_trivial_auth": True,
        "known_hosts": ([], [], []),  # none: ``Pinned`` is asked
        "encryption_algs": list(CIPHERS),
        "compression_algs": ["none"],  # pictures are compressed already
        "keepalive_interval": limits.keepalive_s,
        "keepalive_count_max": limits.keepalives_max,
        "login_timeout": 0,  # ours covers both
    }


def _meaning(error: Exception) -> NotYet | Silent:
    """Refused and reset come from a host that is up; see "Port truth" of any GPU market."""
    match error:
        case asyncssh.PermissionDenied():
            return NotYet("SSH does not take our key")
        case TimeoutError():
            return Silent("nothing but timeouts")
        case asyncssh.Error() | ConnectionError():
            return NotYet("SSH does not answer")
        case OSError(errno=None):  # several addresses, each with an error of its own
            return NotYet("SSH does not answer")
        case _:
            return Silent("no way to the host")
