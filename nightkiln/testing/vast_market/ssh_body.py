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
from nightkiln.testing.vast_machine import leash, tools
from nightkiln.testing.vast_machine.black_hole import BlackHole
from nightkiln.testing.vast_machine.troubles import Inside, inside
from nightkiln.testing.vast_market.body import Body, Box

START_S_MAX = 60.0
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PORT_WORD = "{port}"  # stands in the command of a ComfyUI for the port it shall listen on
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PIP = ".venv/bin/python"  # of ComfyUI's own environment, relative to its folder


class SshBodies:
    """Makes machines in ``folder``; at its end, however it comes, none of their processes is left.

    ``comfy`` is the command of a real ComfyUI, with ``{port}`` where its port belongs.
    """

    def __init__(self, folder: Path, *, comfy: Sequence[str] | None = None) -> None:
        self._folder, self._comfy = folder.resolve(), comfy
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
        self, box: Box, *, folder: Path, mark: str, comfy: Sequence[str] | None = None
    ) -> None:
        self.box, self.folder, self._mark = box, folder, mark
        self.home, self._bin, self._run = folder / "home", folder / "bin", folder / "run"
        self._comfy_port = _free_port() if comfy is not None else None
        self._comfy = comfy
        self._port = 0
        self._children: list[asyncio.subprocess.Process] = []
        self._hole = BlackHole()

    @property
    def host_key(self) -> Path:
        """The private key by which the machine is known."""
        return self.folder / "host_key"

    async def start(self) -> int:
        await asyncio.to_thread(self._furnish)
        onstart = self.folder / "onstart.sh"
        onstart.write_text(self.box.onstart)
        with (self.folder / "onstart.log").open("ab") as log:
            child = await asyncio.create_subprocess_exec(
                "/bin/sh",
                str(onstart),
                cwd=self.home,
                env=self._container(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children.append(child)
        self._port = await self._listen()
        if "black_hole_port" in self.box.trouble:
            return self._hole.open()
        return self._port

    async def freeze(self) -> None:
        await asyncio.to_thread(leash.send, self._mark, signal.SIGSTOP)

    async def thaw(self) -> None:
        await asyncio.to_thread(leash.send, self._mark, signal.SIGCONT)

    async def reboot(self) -> int:
        await self.stop()
        if "moves" in self.box.trouble:
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
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _listen(self) -> int:
        """Start the SSH server; where it listens.

        Raises:
            RuntimeError: it does not come up.
        """
        command = ["-m", "nightkiln.testing.vast_machine.sshd", "--port", str(self._port)]
        command += ["--host-key", str(self.host_key)]
        command += ["--comfy-output", str(self._run / "comfy.out")]
        if self._comfy_port is not None:
            command += ["--comfy-port", str(self._comfy_port)]
        with (self.folder / "sshd.log").open("ab") as log:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                *command,
                env=self._login(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._children.append(child)
        assert child.stdout is not None
        async with asyncio.timeout(START_S_MAX):
            line = (await child.stdout.readline()).decode()
        if not line.startswith("listening on "):
            raise RuntimeError(f"the machine's SSH server did not start: {self.folder}/sshd.log")
        return int(line.removeprefix("listening on "))

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
        truth = self._inside()
        if not self.home.exists():
            _comfy_folder(self.home / "ComfyUI", can_write_models=truth.can_write_models)
        for name, script in self._scripts(truth).items():
            path = self._bin / name
            path.write_text(script)
            path.chmod(0o755)
        pip = self.home / "ComfyUI" / _PIP
        pip.parent.mkdir(parents=True, exist_ok=True)
        pip.write_text(tools.comfy_python(self._run))
        pip.chmod(0o755)

    def _inside(self) -> Inside:
        box = self.box
        card = tools.Card(box.gpu, box.gpu_mb, box.gpu_free_mb, box.cuda, is_busy=False)
        return inside(
            box.trouble,
            card,
            disk_gb=box.disk_gb,
            app_s=box.app_s,
            seconds_per_job=box.seconds_per_job,
        )

    def _scripts(self, truth: Inside) -> Mapping[str, str]:
        return {
            "nvidia-smi": tools.nvidia_smi(truth.card),
            "df": tools.df(truth.disk_gb, self.home),
            "supervisorctl": tools.supervisorctl(self._run),
            "entrypoint.sh": tools.entrypoint(
                self._comfy_command(truth),
                app_s=truth.app_s,
                run=self._run,
                lists_models=self._comfy is None,
            ),
        }

    def _comfy_command(self, truth: Inside) -> list[str]:
        if self._comfy is not None:
            return [word.replace(PORT_WORD, str(self._comfy_port)) for word in self._comfy]
        command = [sys.executable, "-m", "nightkiln.testing.comfyui", "--port", "0"]
        command += ["--render-s", f"{truth.seconds_per_job:.4f}", "--gpu-name", truth.card.gpu]
        for fault in truth.comfy_faults:
            command += ["--fault", fault]
        return command


def _comfy_folder(folder: Path, *, can_write_models: bool) -> None:
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
