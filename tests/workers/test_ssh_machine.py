"""A machine of the simulated market, over real SSH: what it does when it works, and when not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest
from aiohttp import web

from nightkiln.machine.scripts import provision_program, start_script
from nightkiln.testing.market import AttemptTruth, Ending
from nightkiln.testing.vast_machine import leash
from nightkiln.testing.vast_machine.troubles import driver_name
from nightkiln.testing.vast_market.body import Box
from nightkiln.testing.vast_market.ssh_body import SshBodies, SshBody
from nightkiln.testing.waiting import until

KEY = asyncssh.generate_private_key("ssh-ed25519")
STRANGER = asyncssh.generate_private_key("ssh-ed25519")
MODEL = b"weights" * 100_000
GRAPH: dict[str, Any] = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 1},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}


def box(*trouble: str, api_url: str = "http://127.0.0.1:9", **changes: Any) -> Box:
    facts: dict[str, Any] = {
        "contract": 4242,
        "image": "vastai/comfy:pinned",
        "env": {
            "NK_KEY": KEY.export_public_key().decode().strip(),
            "NK_API": api_url,
            "NK_LIFE_S": "3600",
            "NK_QUIET_S": "900",
            "NK_TICK_S": "0.05",
            "CONTAINER_ID": "4242",
            "CONTAINER_API_KEY": "container-key",
            "-p 22:22": "1",
        },
        "onstart": start_script(),
        "api_url": api_url,
        "api_key": "container-key",
        "gpu": "RTX 4090",
        "gpu_mb": 24_564,
        "gpu_free_mb": 24_100,
        "cuda": "12.8",
        "disk_gb": 40.0,
        "mbps": 8_000.0,
        "seconds_per_job": 0.01,
        "app_s": 0.0,
        "trouble": frozenset(trouble),
        "attempt": lambda _job, _number: AttemptTruth(1.0, Ending.DONE),
    }
    return Box(**facts | changes)


@asynccontextmanager
async def machine(
    folder: Path, made_for: Box, **how: Sequence[str]
) -> AsyncIterator[tuple[SshBody, int]]:
    """One that is up, and its port; nothing of it is left afterwards."""
    bodies = SshBodies(folder, **how)
    async with bodies:
        body = bodies(made_for)
        assert isinstance(body, SshBody)
        port = await body.start()
        await until((body.home / ".nightkiln" / "comfy").exists)  # the start script is through
        yield body, port
    assert not leash.marked(bodies.mark)


def entered(port: int, key: asyncssh.SSHKey = KEY, **more: Any) -> Any:
    """A connection, made as nightkiln makes it."""
    options: dict[str, Any] = {"config": None, "known_hosts": None, "agent_path": None}
    options |= {"username": "root", "client_keys": [key]}
    return asyncssh.connect("127.0.0.1", port, **options | more)


@asynccontextmanager
async def comfyui(connection: asyncssh.SSHClientConnection) -> AsyncIterator[httpx.AsyncClient]:
    """Its ComfyUI, through a forward, as soon as it answers."""
    listener = await connection.forward_local_port("127.0.0.1", 0, "127.0.0.1", 18188)
    url = f"http://127.0.0.1:{listener.get_port()}"
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:

        async def answers() -> bool:
            try:
                return (await client.get("/system_stats")).is_success
            except httpx.TransportError:
                return False

        await until(answers)
        yield client
    listener.close()
    await listener.wait_closed()


async def said(connection: asyncssh.SSHClientConnection, command: str) -> str:
    return str((await connection.run(command, check=True)).stdout).strip()


async def test_its_comfyui_is_reached_through_a_forward_and_not_otherwise(tmp_path: Path) -> None:
    async with machine(tmp_path, box()) as (_, port), entered(port) as connection:
        async with comfyui(connection) as client:
            [device] = (await client.get("/system_stats")).json()["devices"]
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", port)

    assert "NVIDIA GeForce RTX 4090" in device["name"]


async def test_another_comfyui_may_stand_behind_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nightkiln.testing.comfyui", "--port", "{port}"]
    async with (
        machine(tmp_path, box(), comfy=[*command, "--gpu-name", "a real one"]) as (_, port),
        entered(port) as connection,
        comfyui(connection) as client,
    ):
        assert "a real one" in (await client.get("/system_stats")).text


async def test_the_stand_in_takes_more_options(tmp_path: Path) -> None:
    async with (
        machine(tmp_path, box(), options=["--fault", "oom"]) as (_, port),
        entered(port) as connection,
        comfyui(connection) as client,
    ):
        prompt = (await client.post("/prompt", json={"prompt": GRAPH})).json()["prompt_id"]

        async def is_over() -> bool:
            return prompt in (await client.get(f"/history/{prompt}")).json()

        await until(is_over)
        assert "OutOfMemory" in (await client.get(f"/history/{prompt}")).text


@pytest.mark.parametrize(
    ("offered", "driver"),
    [
        ("RTX 4090", "NVIDIA GeForce RTX 4090"),
        ("RTX 6000Ada", "NVIDIA RTX 6000Ada"),
        ("RTX A5000", "NVIDIA RTX A5000"),
        ("L40S", "NVIDIA L40S"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
    ],
)
def test_the_driver_has_other_names_than_the_market(offered: str, driver: str) -> None:
    assert driver_name(offered) == driver


@pytest.mark.parametrize(
    "intruder",
    [{"key": STRANGER}, {"username": "user"}, {"client_keys": None, "password": "root"}],
)
async def test_only_the_batchs_key_comes_in_and_only_as_root(
    intruder: dict[str, Any], tmp_path: Path
) -> None:
    async with machine(tmp_path, box()) as (_, port):
        with pytest.raises(asyncssh.PermissionDenied):
            await entered(port, **intruder)


async def test_commands_run_in_its_home_without_the_containers_secrets(tmp_path: Path) -> None:
    async with machine(tmp_path, box()) as (body, port), entered(port) as connection:
        ran = await connection.run("cat; echo oops >&2; exit 7", input="told")
        async with connection.start_sftp_client() as sftp:
            await sftp.put(__file__, "pushed.py")

        assert (ran.stdout, ran.stderr, ran.exit_status) == ("told", "oops\n", 7)
        assert await said(connection, "pwd") == str(body.home)
        assert "container-key" not in await said(connection, "env")
        assert (body.home / "pushed.py").read_bytes() == Path(__file__).read_bytes()


async def test_it_tells_what_it_is(tmp_path: Path) -> None:
    async with machine(tmp_path, box()) as (_, port), entered(port) as connection:
        query = "--query-gpu=name,memory.total,memory.free --format=csv,noheader,nounits"
        assert await said(connection, f"nvidia-smi {query}") == (
            "NVIDIA GeForce RTX 4090, 24564, 24100"
        )
        assert "CUDA Version: 12.8" in await said(connection, "nvidia-smi")
        assert (await said(connection, "df -Pk ~")).splitlines()[1].split()[1] == str(40 * 1024**2)
        assert await said(connection, "kill -0 $(cat ~/.nightkiln/armed) && echo armed") == "armed"
        wrong = await connection.run("nvidia-smi --query-gpu=nonsense --format=csv")
        assert wrong.exit_status == 2


async def test_what_hangs_up_does_not_end_what_it_started(tmp_path: Path) -> None:
    async with machine(tmp_path, box()) as (body, port):
        async with entered(port) as connection:
            await connection.run("(sleep 0.2; touch ~/later) >/dev/null 2>&1 &")

        await until((body.home / "later").exists)


async def test_a_frozen_machine_says_nothing_and_goes_on_later(tmp_path: Path) -> None:
    async with machine(tmp_path, box()) as (body, port), entered(port) as connection:
        await body.freeze()
        asking = asyncio.create_task(said(connection, "echo here"))
        with pytest.raises(TimeoutError):
            await entered(port, connect_timeout=0.5)
        assert not asking.done()

        await body.thaw()

        assert await asking == "here"


async def test_a_reboot_keeps_the_disk_the_port_and_the_host_key(tmp_path: Path) -> None:
    async with machine(tmp_path, box()) as (body, port):
        key = (await asyncssh.get_server_host_key("127.0.0.1", port, config=None)) or STRANGER
        (body.home / "kept").touch()

        assert await body.reboot() == port

        again = (await asyncssh.get_server_host_key("127.0.0.1", port, config=None)) or KEY
        assert again.get_fingerprint() == key.get_fingerprint()
        assert (body.home / "kept").exists()
        log = body.home / ".nightkiln" / "log"
        await until(lambda: log.read_text().count("armed") == 2)


async def test_a_port_may_change_with_a_reboot(tmp_path: Path) -> None:
    async with machine(tmp_path, box("moves")) as (body, port):
        assert await body.reboot() != port


async def test_a_stopped_machine_refuses_and_may_come_back(tmp_path: Path) -> None:
    async with machine(tmp_path, box()) as (body, port):
        await body.stop()
        with pytest.raises(ConnectionRefusedError):
            await entered(port)

        again = await body.reboot()

        await until(lambda: "left" in (body.home / ".nightkiln" / "log").read_text())
        async with entered(again) as connection:
            assert await said(connection, "echo back") == "back"


async def test_a_black_hole_neither_accepts_nor_refuses(tmp_path: Path) -> None:
    async with machine(tmp_path, box("black_hole_port")) as (_, port):
        with pytest.raises(TimeoutError), socket.create_connection(("127.0.0.1", port), 0.5):
            pass


async def test_a_launcher_that_hangs_leaves_comfyui_refusing(tmp_path: Path) -> None:
    async with (
        machine(tmp_path, box("comfy_never_up")) as (_, port),
        entered(port) as connection,
    ):
        with pytest.raises(asyncssh.ChannelOpenError, match="refused"):
            await connection.open_connection("127.0.0.1", 18188)


@pytest.mark.parametrize(
    ("trouble", "said_by_node"),
    [("cuda_500", "CUDA error"), ("disk_full", "No space left on device")],
)
async def test_a_card_or_disk_that_fails_fails_every_prompt(
    trouble: str, said_by_node: str, tmp_path: Path
) -> None:
    async with (
        machine(tmp_path, box(trouble)) as (_, port),
        entered(port) as connection,
        comfyui(connection) as client,
    ):
        prompt = (await client.post("/prompt", json={"prompt": GRAPH})).json()["prompt_id"]

        async def is_over() -> bool:
            return prompt in (await client.get(f"/history/{prompt}")).json()

        await until(is_over)
        assert said_by_node in (await client.get(f"/history/{prompt}")).text


@asynccontextmanager
async def web_server(application: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _weights(_: web.Request) -> web.Response:
    return web.Response(body=MODEL)


async def provisioned(connection: asyncssh.SSHClientConnection, url: str) -> dict[str, Any]:
    """Provision it as the controller does; what it says at the end."""
    path = "checkpoints/night.safetensors"
    digest = hashlib.sha256(MODEL).hexdigest()
    plan = {"models": [{"path": path, "sha256": digest, "bytes": len(MODEL)}], "pause_s": 0.01}
    files = {
        "provision.py": provision_program(),
        "plan.json": json.dumps(plan).encode(),
        "urls.json": json.dumps({path: [f"{url}/night"]}).encode(),
    }
    await connection.run("mkdir -p ~/.nightkiln/provision", check=True)
    for name, content in files.items():
        target = f"cat >~/.nightkiln/provision/{name}"
        await connection.run(target, input=content, encoding=None, check=True)
    await connection.run("cd ~/.nightkiln/provision && python3 provision.py")
    told: dict[str, Any] = json.loads(
        await said(connection, "cat ~/.nightkiln/provision/status.json")
    )
    return told


@pytest.mark.nights
async def test_what_is_provisioned_is_there_after_comfyui_was_started_again(
    tmp_path: Path,
) -> None:
    application = web.Application()
    application.router.add_get("/night", _weights)
    async with (
        web_server(application) as url,
        machine(tmp_path, box()) as (body, port),
        entered(port) as connection,
        comfyui(connection),
    ):
        told = await provisioned(connection, url)
        assert (told["state"], told["restarted"]) == ("done", True)

        async with comfyui(connection) as client:
            models = (await client.get("/models/checkpoints")).json()

        assert "night.safetensors" in models
        await until(lambda: body.traffic().bytes_in > len(MODEL))


async def test_a_slow_line_is_felt_by_what_the_machine_fetches(tmp_path: Path) -> None:
    application = web.Application()
    application.router.add_get("/night", _weights)
    mbps = 8 * len(MODEL) / 1e6  # so that it takes a second
    async with (
        web_server(application) as url,
        machine(tmp_path, box(mbps=mbps)) as (_, port),
        entered(port) as connection,
    ):
        took_s = float(
            await said(connection, f"curl -s -o /dev/null -w %{{time_total}} {url}/night")
        )

    assert took_s > 0.9


async def test_provisioning_fails_where_models_cannot_be_written(tmp_path: Path) -> None:
    async with machine(tmp_path, box("provision_fails")) as (_, port), entered(port) as connection:
        told = await provisioned(connection, "http://127.0.0.1:9")

    assert (told["state"], told["kind"]) == ("failed", "disk")


async def test_silence_makes_the_machine_ask_for_its_own_end(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    async def delete(request: web.Request) -> web.Response:
        asked.append((request.path, request.headers["Authorization"]))
        return web.json_response({"success": True})

    application = web.Application()
    application.router.add_delete("/{path:.*}", delete)
    async with web_server(application) as url:
        mortal = box(api_url=url)
        brief = {**mortal.env, "NK_QUIET_S": "1"}
        async with machine(tmp_path, box(api_url=url, env=brief)):
            await until(lambda: asked)

    assert asked[0] == ("/api/v0/instances/4242/", "Bearer container-key")


DIES = """
import asyncio, signal, os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_ssh_machine import SshBodies, box

async def main():
    async with SshBodies(Path(sys.argv[1])) as bodies:
        body = bodies(box())
        await body.start()
        await body.freeze()
        print(bodies.mark, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_nothing_is_left_of_it_when_whoever_made_it_is_killed(tmp_path: Path) -> None:
    program = DIES.format(tests=str(Path(__file__).parent))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    mark = told.decode().strip()
    assert (process.returncode, bool(mark)) == (-signal.SIGKILL, True)

    await until(lambda: not leash.marked(mark))
