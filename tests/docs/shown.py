"""The commands that pages show, and a shell to run them in as a reader would.

Every command in a block of a page is run unless ``ELSEWHERE`` says where else it is, so a page
cannot show something that nobody has tried: a new command is run as soon as it is written down.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import create_server

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/tutorial/*.md", "docs/how-to/*.md", "docs/reference/*.md")
PREFECT_PAGE = "docs/how-to/prefect.md"  # run by tests/flows, which have a server
VAST_PAGE = "docs/how-to/vast.md"  # run by test_vast_page.py, which has a market
MARKET = "nightkiln market --port 8700 --speed 60"
DEPLOYED_PAGES = (  # run by tests/flows/test_deployments.py, in this order
    "docs/how-to/own-server.md",
    "docs/how-to/schedule.md",
    "docs/reference/parameters.md",
)
TUTORIAL = "docs/tutorial/first-night.md"  # run by tests/room: it opens a control room
UP = "nightkiln up"
S3_PAGE = "docs/how-to/s3.md"  # run by test_s3_page.py, which has a server
MODAL_PAGE = "docs/how-to/modal.md"  # run by test_modal_page.py, which has a fake Modal
SERVER = ".venv/bin/prefect server start"
SHELL, SESSION = "sh", "console"  # blocks of commands; blocks of "$ command" and what it prints
TEXT = frozenset({"mermaid", "text", "yaml", "json", "sql", "toml", "python"})  # no commands here
COMMAND_S_MAX = 120.0
STOP_S_MAX = 10.0

ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "README.md": {
        "make demo": ".ci/run runs it, after make test: its own Prefect server takes half a minute",
        "make test": "this test is part of it",
        UP: "tests/room/test_tutorial.py opens one, on a port of its own",
        'nightkiln query "select batch, status, count(*) as jobs, sum(attempt_count) as attempts, '
        'round(sum(gpu_seconds), 1) as gpu_seconds from jobs group by all order by all" --store '
        "/home/me/nightkiln/nightkiln-demo": "make demo asks it and prints it with the answer",
    },
    TUTORIAL: {
        "make setup": "it made the environment that this test runs in",
    },
    "docs/reference/vast-market.md": {
        "nightkiln market --speed 60 --faults default": "it stays until it is ended; "
        "tests/cli/test_market.py starts and ends it",
    },
    "docs/reference/fake-modal.md": {
        "nightkiln market --with-modal --speed 60": "it stays until it is ended; "
        "tests/cli/test_market.py starts and ends it",
    },
    VAST_PAGE: {
        MARKET: "test_vast_page.py starts it beside all others, as it stays",
        "export VAST_API_KEY=...": "it wants an account",
        "nightkiln doctor --budget 2.50": "the market's account has more credit than that allows",
        "nightkiln run catalogs/smoke --provider vast --by 1h --budget 0.50": "it asks; the page "
        "runs the same with --yes",
    },
    "docs/how-to/export.md": {
        "pip install 'nightkiln[webdataset]'": "this environment has it",
    },
    MODAL_PAGE: {
        "pip install 'nightkiln[modal]'": "this environment has it",
        "modal token new": "it opens a browser",
        "export MODAL_TOKEN_ID=ak-... MODAL_TOKEN_SECRET=as-...": "it wants an account",
        "nightkiln modal deploy catalogs/demo": "its model has 4 GB; tests/cli/test_modal.py "
        "deploys a catalog with a small one",
        "nightkiln run catalogs/demo --provider modal --budget 0.50 --limit 4": "it is quoted and "
        "asks; tests/e2e/test_modal_night.py renders such a batch",
    },
    S3_PAGE: {
        "python -m nightkiln.testing.s3_server": "it stays; a fixture starts it",
    },
    "docs/how-to/up.md": {
        "nightkiln up": "tests/room/test_up.py calls it; a room takes a minute to open",
        "nightkiln up --status": "so it does with this one",
        "nightkiln up --port 4310": "and with another port",
        "nightkiln down": "and with this one",
    },
    "docs/how-to/notify.md": {
        "nightkiln up --notify slack-webhook/ops": "tests/room/test_up.py names a block so",
        "nightkiln automations --notify slack-webhook/ops": "and so",
    },
    PREFECT_PAGE: {
        SERVER: "the fixture of tests/flows runs it: one server for the page and all flow tests",
    },
}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    kind: str  # the word behind the fence
    line: int  # of the page, where it begins
    lines: tuple[str, ...]


def pages() -> list[str]:
    """Every page whose commands are held to be true, by its path in the checkout."""
    found = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    return [str(path.relative_to(ROOT)) for path in found]


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order, without their indentation."""
    inside: list[str] | None = None
    kind, begin = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.fullmatch(r"\s*```(.*)", line)
        if fence is None:
            if inside is not None:
                inside.append(line.strip())
        elif inside is None:
            inside, kind, begin = [], fence[1].strip(), number
        else:
            yield Block(kind, begin, tuple(inside))
            inside = None
    assert inside is None, f"the block in line {begin} has no end"


def commands(text: str) -> list[str]:
    """Every command that a page shows, in order; one that spans lines is one.

    Raises:
        ValueError: a block does not say what it holds, so it could hide a command.
    """
    found: list[str] = []
    for block in blocks(text):
        if block.kind == SHELL:
            lines = list(block.lines)
        elif block.kind == SESSION:
            lines = [line[2:] for line in block.lines if line.startswith("$ ")]
        elif block.kind in TEXT:
            continue
        else:
            known = ", ".join((SHELL, SESSION, *sorted(TEXT)))
            raise ValueError(f"line {block.line}: a block of {block.kind!r}; one of {known}")
        whole = "\n".join(lines).replace("\\\n", "")
        found += [line for raw in whole.splitlines() if (line := _bare(raw))]
    return found


def _bare(line: str) -> str:
    """A line without its comment."""
    return re.sub(r"(^|\s+)# .*", "", line).strip()


def free_port() -> str:
    """A port that nobody listens on."""
    with create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])


class Shell:
    """A reader's shell in a folder that looks like a checkout: nothing of the machine shows in it.

    It has a home of its own, what is exported stays, and ``ports`` says which port stands for one
    that a page names. Nothing is on its path until the page activates the environment.
    """

    def __init__(self, folder: Path, ports: Mapping[str, str], **environment: str) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        (folder / ".venv").symlink_to(sys.prefix)
        for name in ("catalogs", "deploy", "flows", "tasks", "nightkiln", "prefect.yaml"):
            (folder / name).symlink_to(ROOT / name)
        self._ports = ports
        self._exported = folder / "home" / ".exported"
        self._exported.touch()
        self._environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            **environment,
        }

    def run(self, command: str, *, within_s: float = COMMAND_S_MAX) -> str:
        """What a command prints.

        Raises:
            AssertionError: it failed; with what it printed.
        """
        done = subprocess.run(
            self._script(command),
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=within_s,
            check=False,
        )
        assert done.returncode == 0, f"{command}\nexit code {done.returncode}\n{done.stdout}"
        return done.stdout

    @contextmanager
    def started(self, command: str) -> Iterator[Path]:
        """A command that stays, as in a shell of its own; where its output goes."""
        log = self.home / f"log-{len(list(self.home.glob('log-*')))}"
        with (
            log.open("w") as output,
            subprocess.Popen(
                self._script(command),
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that it ends with all that it started
            ) as process,
        ):
            try:
                yield log
            finally:
                _end(process)

    def _script(self, command: str) -> list[str]:
        for shown, ours in self._ports.items():
            command = re.sub(rf"\b{shown}\b", ours, command)
        keep = f"export -p > '{self._exported}'"
        return ["bash", "-e", "-c", f". '{self._exported}'\ncd '{self.folder}'\n{command}\n{keep}"]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started: asked first, then made to."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S_MAX)
