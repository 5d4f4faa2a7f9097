"""A PostgreSQL of a test's own, on a loopback port; Debian's is installed where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.docs.shown import free_port

PACKAGE = "postgresql"
STARTS_S_MAX = 60.0
STOPS_S_MAX = 30.0
OWNER = "postgres"  # PostgreSQL runs as anybody but root


def programs() -> Path | None:
    """Where ``initdb`` and its like are; Debian puts them on nobody's path."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    kept = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return kept[-1].parent if kept else None


def install() -> None:
    """Debian's, as root; what apt-get says goes to standard error."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit("no PostgreSQL: install one (Debian: postgresql)")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", PACKAGE]):
        subprocess.run(["apt-get", "-qq", *words], env=quiet, check=True, stdout=sys.stderr)


@contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty database, as Prefect's server takes it."""
    if programs() is None:
        install()
    bin_folder, port = programs(), free_port()
    assert bin_folder is not None, "it was just installed"
    with tempfile.TemporaryDirectory(prefix="nightkiln-postgres-") as folder:
        data = Path(folder) / "data"
        data.mkdir(mode=0o700)
        owner = OWNER if os.geteuid() == 0 else None
        if owner is not None:
            shutil.chown(folder, owner)
            shutil.chown(data, owner)
        initdb = (
            str(bin_folder / "initdb"),
            "--auth=trust",
            "--username=postgres",
            "-D",
            str(data),
        )
        subprocess.run(initdb, user=owner, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c max_connections=200"
        control = (str(bin_folder / "pg_ctl"), "-D", str(data), "-w")
        start = (
            *control,
            "-t",
            f"{STARTS_S_MAX:.0f}",
            "-o",
            options,
            "-l",
            f"{folder}/log",
            "start",
        )
        subprocess.run(start, user=owner, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        try:
            yield f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres"
        finally:
            stop = (*control, "-m", "immediate", "stop")
            subprocess.run(stop, user=owner, check=False, timeout=STOPS_S_MAX, cwd=folder)
