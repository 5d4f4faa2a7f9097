"""Has a machine bring what it made to a signed address: two commands over the connection.

What is secret, or was said by a stranger, goes in as curl's configuration on standard input: on
the machine no other process sees the address, and nothing of it is parsed by a shell.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from nightkiln.comfy import ComfyFile, ComfyWorker
from nightkiln.core.model import Ticket
from nightkiln.machine.link import COMFY_PORT, Link
from nightkiln.ports.uploads import Signed, Weighed
from nightkiln.ports.worker import Rendered
from nightkiln.verify import BYTES_MAX
from nightkiln.wire import Wire

WEIGH_S_MAX = 120.0  # for the machine to read its own file
GRACE_S = 10.0  # for curl to say that its time is up
NAME_DIGITS = 32

# ComfyUI is asked for the file, as by anybody: where it lies on the disk is its own affair.
_WEIGH = """umask 077; mkdir -p ~/.nightkiln/outgoing && cd ~/.nightkiln/outgoing || exit 90
curl -q -sS --fail --noproxy '*' --max-time {seconds:.0f} --max-filesize {bytes_max} -o {name} -K -\
 && wc -c <{name} && sha256sum <{name}"""
_UPLOAD = """cd ~/.nightkiln/outgoing || exit 90
curl -q -sS --fail --max-time {seconds:.0f} -o /dev/null -T {name} -K -
status=$?; rm -f {name}; exit $status"""
_AT_ONCE = b'header = "Expect:"\n'  # a server that does not answer that costs a second for nothing
_WEIGHED = re.compile(rb"\s*(\d{1,12})\s+([0-9a-f]{64})\s+-\s*", re.ASCII)


class UploadingWorker(ComfyWorker):
    """ComfyUI on a machine that can bring what it made somewhere else."""

    def __init__(self, wire: Wire, link: Link, **options: Any) -> None:
        super().__init__(wire, **options)
        self._link = link

    async def result(self, ticket: Ticket) -> Rendered:
        rendered = await super().result(ticket)
        outputs = [
            Uploadable(one, self._link) if isinstance(one, ComfyFile) else one
            for one in rendered.outputs
        ]
        return replace(rendered, outputs=outputs)


@dataclass(frozen=True, slots=True)
class Uploadable:
    """One output, still at its machine; it can be fetched, or brought by the machine."""

    file: ComfyFile
    link: Link

    @property
    def node(self) -> str:
        return self.file.node

    async def save(self, path: Path) -> None:
        await self.file.save(path)

    async def weighed(self) -> Weighed | None:
        name = self.file.name
        asked = {"filename": name.filename, "subfolder": name.subfolder, "type": name.folder}
        view = f"http://127.0.0.1:{COMFY_PORT}/view?{urlencode(asked, errors='replace')}"
        command = _WEIGH.format(name=self._name, seconds=WEIGH_S_MAX, bytes_max=BYTES_MAX)
        try:
            ran = await self.link.run(
                command, stdin=_curl_config(view, {}), within_s=WEIGH_S_MAX + GRACE_S
            )
        except TimeoutError:
            return None
        told = _WEIGHED.fullmatch(ran.answer)
        return Weighed(int(told[1]), told[2].decode()) if told is not None else None

    async def upload(self, signed: Signed, *, within_s: float) -> str:
        command = _UPLOAD.format(name=self._name, seconds=within_s)
        config = _curl_config(signed.url, signed.headers) + _AT_ONCE
        try:
            ran = await self.link.run(command, stdin=config, within_s=within_s + GRACE_S)
        except TimeoutError:
            return f"it was not through in {within_s:.0f} s"
        # Not its own words: they could hold the address, and would be written down.
        return f"its curl ended with {ran.status}" if ran.status else ""

    @property
    def _name(self) -> str:
        """Of our copy on the machine: a stranger's name is never part of a command."""
        return hashlib.sha256(repr(self.file.name).encode()).hexdigest()[:NAME_DIGITS]


def _curl_config(url: str, headers: Mapping[str, str]) -> bytes:
    lines = [f'url = "{url}"', *(f'header = "{name}: {value}"' for name, value in headers.items())]
    assert not any(set(line.partition('"')[2][:-1]) & set('"\\\r\n') for line in lines), "one each"
    return "\n".join([*lines, ""]).encode()
