"""Rented machines as real processes: each an SSH server on loopback with a scratch home.

::

    async with SshBodies(folder) as bodies:
        body = bodies(box)
        port = await body.start()  # ssh -p PORT root@127.0.0.1

A machine runs the onstart that it was rented with (nightkiln's real start script) and, behind the
forward of port 18188, a ComfyUI: the stand-in, or a real one by its command.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from nightkiln.testing.comfyui.definitions import CHECKPOINTS
from nightkiln.testing.vast_machine import leash, meter, tools, troubles
from nightkiln.testing.vast_machine.black_hole import BlackHole
from nightkiln.testing.vast_market.body import Body, Box, Traffic

START_S_MAX = 60.0
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMFY_PORT = 18188  # on which the image's ComfyUI listens
PORT_WORD = "{port}"  # stands in the command of a ComfyUI for the port it shall listen on
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SshBodies:
    """Makes machines in ``folder``; at its end, however it comes, none of their processes is left.

    ``comfy`` is the command of a real ComfyUI, with ``{port}`` where its port belongs; else
    ``options`` go to the stand-in, beside those that follow from what was rented.
    """

    def __init__(
        self, folder: Path, *, comfy: Sequence[str] | None = None, options: Sequence[str] = ()
    ) -> None:
        self._folder, self._comfy, self._options = folder.resolve(), comfy, options
        self.mark = f"{os.getpid()}-{secrets.token_hex(8)}/"
        self._leash: subprocess.Popen[bytes] | None = None
        self._made: list[SshBody] = []

    def __call__(self, box: Box) -> Body:
        assert self._leash is not None, "entered"
        body = SshBody(
            box,
            folder=self._folder / str(box.contract),
            mark=f"{self.mark}{box.contract}/",
            comfy=self._comfy,
            options=self._options,
        )
        self._made.append(body)
        return body

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._leash = subprocess.Popen(  # noqa: ASYNC220 - it only starts it
            [sys.executable, "-I", "-S", leash.__file__, self.mark],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._leash is not None, "entered"
        for body in self._made:
            await body.stop()
        assert self._leash.stdin is not None, "a pipe"
        self._leash.stdin.close()
        await asyncio.to_thread(self._leash.wait, START_S_MAX)


class SshBody:
    """One machine; see ``Body``."""

    def __init__(
        self,
        box: Box,
        *,
        folder: Path,
        mark: str,
        comfy: Sequence[str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.box, self.folder, self._mark = box, folder, mark
        self.home, self._bin, self._run = folder / "home", folder / "bin", folder / "run"
        self._comfy_port = _free_port() if comfy is not None else None
        self._comfy, self._options = comfy, options
        self._port = 0
        self._children: list[asyncio.subprocess.Process] = []
        self._hole = BlackHole()
        self._traffic = folder / "traffic"
        self._discarded: Traffic | None = None

    @property
    def host_key(self) -> Path:
        """The private key by which the machine is known."""
        return self.folder / "host_key"

    async def start(self) -> int:
        await asyncio.to_thread(self._furnish)
        self._port, line = await self._listen()
        onstart = self.folder / "onstart.sh"
        onstart.write_text(self.box.onstart)
        await self._spawn(
            "/bin/sh",
            str(onstart),
            env=self._container() | {"http_proxy": line, "https_proxy": line},
            log="onstart.log",
        )
        if troubles.BLACK_HOLE_PORT in self.box.trouble:
            return self._hole.open()
        return self._port

    async def freeze(self) -> None:
        await asyncio.to_thread(leash.send, self._mark, signal.SIGSTOP)

    async def thaw(self) -> None:
        await asyncio.to_thread(leash.send, self._mark, signal.SIGCONT)

    async def reboot(self) -> int:
        await self.stop()
        if troubles.PORT_CHANGE in self.box.trouble:
            self._port = 0
        return await self.start()

    async def stop(self) -> None:
        self._hole.close()
        await asyncio.to_thread(leash.end, self._mark)
        for child in self._children:
            await child.wait()
        self._children.clear()

    async def discard(self) -> None:
        await self.stop()
        self._discarded = self.traffic()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    def traffic(self) -> Traffic:
        if self._discarded is not None:
            return self._discarded
        return Traffic(*meter.read(self._traffic))

    async def _listen(self) -> tuple[int, str]:
        """Start the SSH server; where it listens, and the address of the machine's line.

        Raises:
            RuntimeError: it does not come up.
        """
        options: dict[str, object] = {
            "--port": self._port,
            "--host-key": self.host_key,
            "--comfy-output": self._run / "comfy.out",
            "--traffic": self._traffic,
            "--mbps": self.box.mbps,
        }
        if self._comfy_port is not None:
            options["--comfy-port"] = self._comfy_port
        words = [str(word) for option in options.items() for word in option]
        module = ("-m", "nightkiln.testing.vast_machine.sshd")
        child = await self._spawn(
            sys.executable, *module, *words, env=self._login(), log="sshd.log", tells=True
        )
        assert child.stdout is not None, "it tells"
        async with asyncio.timeout(START_S_MAX):
            line = (await child.stdout.readline()).decode()
        if not line.startswith("listening on "):
            raise RuntimeError(f"the machine's SSH server did not start: {self.folder}/sshd.log")
        port, proxy = line.removeprefix("listening on ").split()
        return int(port), proxy

    async def _spawn(
        self, *command: str, env: Mapping[str, str], log: str, tells: bool = False
    ) -> asyncio.subprocess.Process:
        """A process in a session of its own; what it has to say goes to ``log``, or comes here."""
        with (self.folder / log).open("ab") as lines:
            child = await asyncio.create_subprocess_exec(
                *command,
                cwd=self.home,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if tells else lines,
                stderr=lines,
                start_new_session=True,
            )
        self._children.append(child)
        return child

    def _login(self) -> dict[str, str]:
        """What a command over SSH finds: not the container's variables, as with OpenSSH."""
        return {
            "HOME": str(self.home),
            "PATH": f"{self._bin}:{SYSTEM_PATH}",
            "LANG": "C.UTF-8",
            leash.VARIABLE: self._mark,
        }

    def _container(self) -> dict[str, str]:
        """What the onstart finds; a key that is no variable name asks for a port."""
        asked = {name: text for name, text in self.box.env.items() if _VARIABLE.fullmatch(name)}
        return asked | {"NK_COMFY": str(self.home / "ComfyUI")} | self._login()

    def _furnish(self) -> None:
        """Make its disk at the first start; at each, what is on the image."""
        shutil.rmtree(self._run, ignore_errors=True)
        for folder in (self._bin, self._run):
            folder.mkdir(parents=True, exist_ok=True)
        comfy = self.home / "ComfyUI"
        if not self.home.exists():
            is_broken = troubles.PROVISION_FAILS in self.box.trouble
            _furnish_comfy(comfy, can_write_models=not is_broken)
        for name, script in self._scripts().items():
            _write_script(self._bin / name, script)
        _write_script(comfy / ".venv" / "bin" / "python", tools.comfy_python(self._run))

    def _scripts(self) -> Mapping[str, str]:
        box = self.box
        is_up = troubles.COMFY_NEVER_UP not in box.trouble
        card = tools.Card(
            gpu=troubles.driver_name(box.gpu),
            total_mb=box.gpu_mb,
            free_mb=box.gpu_free_mb,
            cuda=box.cuda,
            is_busy=troubles.BUSY_CARD in box.trouble,
        )
        return {
            "nvidia-smi": tools.nvidia_smi(card),
            "df": tools.df(box.disk_gb, self.home),
            "supervisorctl": tools.supervisorctl(self._run),
            "curl": tools.curl(
                self._run, published=COMFY_PORT, fixed=self._comfy_port, system=SYSTEM_PATH
            ),
            "entrypoint.sh": tools.entrypoint(
                self._comfy_command(),
                app_s=box.app_s if is_up else troubles.NEVER_S,
                run=self._run,
                lists_models=self._comfy is None,
            ),
        }

    def _comfy_command(self) -> list[str]:
        if self._comfy is not None:
            return [word.replace(PORT_WORD, str(self._comfy_port)) for word in self._comfy]
        command = [sys.executable, "-m", "nightkiln.testing.comfyui", "--port", "0"]
        command += ["--render-s", f"{self.box.seconds_per_job:.4f}"]
        command += ["--gpu-name", troubles.driver_name(self.box.gpu)]
        for fault in troubles.comfy_faults(self.box.trouble):
            command += ["--fault", fault]
        return [*command, *self._options]


def _write_script(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)


def _furnish_comfy(folder: Path, *, can_write_models: bool) -> None:
    """ComfyUI's folder as the image has it, with its models as empty files."""
    (folder / "custom_nodes").mkdir(parents=True)
    if not can_write_models:
        (folder / "models").write_text("a file where a folder should be")  # even root cannot write
        return
    (folder / "models" / "checkpoints").mkdir(parents=True)
    for name in CHECKPOINTS:
        (folder / "models" / "checkpoints" / name).touch()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
