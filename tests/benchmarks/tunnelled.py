"""nightkiln whole, its workers reached over SSH as rented machines are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nightkiln.comfy import ComfyWorker
from nightkiln.core.model import Lease
from nightkiln.machine.keys import BatchKeys
from nightkiln.machine.link import Link
from nightkiln.machine.stay import Address, LinkLimits
from nightkiln.providers.local import LocalProvider
from nightkiln.settings import Settings
from nightkiln.testing.samples import write_catalog
from nightkiln.wire import Wire
from tests.benchmarks.kiln import cost_of
from tests.benchmarks.ssh_host import ssh_host


class Tunnelled(LocalProvider):
    """Reaches each server through an SSH connection of its own."""

    def __init__(self, ssh_ports: Mapping[str, int], folder: Path, keys: BatchKeys) -> None:
        super().__init__(list(ssh_ports))
        self._ssh_ports, self._folder, self._keys = ssh_ports, folder, keys

    @asynccontextmanager
    async def connect(self, lease: Lease) -> AsyncIterator[ComfyWorker]:
        address = Address("127.0.0.1", self._ssh_ports[lease.offer.ref])
        async with tunnel(address, self._keys, self._folder / lease.id) as wire:
            worker = ComfyWorker(wire)
            async with aclosing(worker):
                yield worker


@asynccontextmanager
async def tunnel(address: Address, keys: BatchKeys, pin: Path) -> AsyncIterator[Wire]:
    """The way to the worker behind an SSH server."""

    async def where() -> Address:
        return address

    link = Link(where, keys, pin, limits=LinkLimits())
    async with aclosing(link):
        await link.open()
        async with aclosing(Wire(link.url, ready=link.ready)) as wire:
            yield wire


def keys_in(folder: Path) -> tuple[BatchKeys, Path]:
    """A key pair, and the file that lets it in."""
    keys = BatchKeys.of(folder / "keys", "batch")
    authorized = folder / "authorized_keys"
    authorized.write_text(keys.public + "\n")
    return keys, authorized


def render(urls: Sequence[str], jobs: int, folder: str) -> dict[str, Any]:
    """As ``tests.benchmarks.kiln.render``, through one SSH connection per worker."""
    place = Path(folder)
    catalog = write_catalog(place / "catalog", jobs)
    keys, authorized = keys_in(place)
    with ExitStack() as stack:
        ports = {
            url: stack.enter_context(ssh_host(authorized, urlsplit(url).port or 0)) for url in urls
        }
        provider = Tunnelled(ports, place / "pins", keys)
        return cost_of(catalog, jobs, Settings(store=str(place / "store")), provider=provider)
