"""What goes wrong at the stand-in, on demand."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from PIL import Image

from nightkiln.testing.comfyui import FAULTS, StandIn
from nightkiln.testing.comfyui.faults import Fault, FaultPlan

WAIT_S = 10.0


def graph(color: int, prefix: str = "night/img") -> dict[str, Any]:
    size = {"width": 64, "height": 48, "batch_size": 1}
    return {
        "1": {"class_type": "EmptyImage", "inputs": {**size, "color": color}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


class Client:
    """The least that a client must do."""

    def __init__(self, http: aiohttp.ClientSession, server: StandIn) -> None:
        self.http, self._server = http, server

    async def submit(self, prompt: dict[str, Any], **more: Any) -> dict[str, Any]:
        async with self.http.post("/prompt", json={"prompt": prompt, **more}) as reply:
            answer: dict[str, Any] = await reply.json()
            return answer

    async def get(self, path: str) -> Any:
        async with self.http.get(path) as reply:
            return await reply.json()

    async def finished(self, prompt_id: str) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            await self._server.idle()
        entry: dict[str, Any] = (await self.get(f"/history/{prompt_id}"))[prompt_id]
        return entry

    async def render(self, color: int = 1) -> dict[str, Any]:
        answer = await self.submit(graph(color))
        return await self.finished(answer["prompt_id"])

    async def picture(self, entry: dict[str, Any]) -> bytes:
        [place] = entry["outputs"]["2"]["images"]
        async with self.http.get("/view", params=place) as reply:
            reply.raise_for_status()
            return await reply.read()


@asynccontextmanager
async def client(server: StandIn) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(server.url) as http:
        yield Client(http, server)


def with_fault(fault: str, story: Callable[[Client, StandIn], Awaitable[None]]) -> None:
    async def tell() -> None:
        async with StandIn(faults=[fault]) as server, client(server) as asking:
            await story(asking, server)

    asyncio.run(tell())


def last(entry: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    name, fields = entry["status"]["messages"][-1]
    return name, fields


@pytest.mark.parametrize("spec", ["nonsense", "error@0", "error@", "error@2x0", "error x2", ""])
def test_a_fault_that_is_not_known_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="no fault"):
        Fault.parse(spec)


def test_a_fault_strikes_when_it_was_told_to() -> None:
    plan = FaultPlan.of(["error@2x2", "slow", "lost-reply@1"])

    struck = [plan.next_executed({}) for _ in range(4)]

    assert struck == [{"slow"}, {"slow", "error"}, {"slow", "error"}, {"slow"}]
    assert [plan.next_accepted({}) for _ in range(2)] == [{"lost-reply"}, set()]


def test_a_fault_with_a_text_befalls_prompts_that_have_it() -> None:
    plan = FaultPlan.of(["cuda~a cursed", "error@2~cursed"])
    prompts = [{"1": {"text": text}} for text in ("a cursed one", "a cursed one", "another")]

    assert [plan.next_executed(prompt) for prompt in prompts] == [
        {"cuda"},
        {"cuda", "error"},
        set(),
    ]


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ("error@2", "ValueError", "on purpose"),
        ("oom@2", "torch.OutOfMemoryError", "out of memory on your GPU"),
        ("cuda@2", "RuntimeError", "CUDA error"),
        ("disk-full@2", "OSError", "No space left on device"),
    ],
)
def test_a_node_fails_and_the_next_prompt_is_fine(fault: str, kind: str, message: str) -> None:
    async def story(asking: Client, server: StandIn) -> None:
        good, bad, again = [await asking.render(color) for color in (1, 2, 3)]

        assert [entry["status"]["status_str"] for entry in (good, again)] == ["success"] * 2
        name, fields = last(bad)
        assert (bad["status"]["status_str"], name) == ("error", "execution_error")
        assert fields["exception_type"] == kind
        assert message in fields["exception_message"]
        assert bad["outputs"] == {}
        assert [render.ending for render in server.renders] == [
            "execution_success",
            "execution_error",
            "execution_success",
        ]

    with_fault(fault, story)


def test_an_interrupted_prompt_is_an_error_with_another_last_message() -> None:
    async def story(asking: Client, _: StandIn) -> None:
        entry = await asking.render()

        assert entry["status"]["status_str"] == "error"
        assert last(entry)[0] == "execution_interrupted"

    with_fault("interrupted@1", story)


def test_a_dead_server_cuts_every_connection_and_takes_no_more() -> None:
    async def story(asking: Client, _: StandIn) -> None:
        async with asking.http.ws_connect("/ws?clientId=me") as socket:
            await asking.submit(graph(1), client_id="me")
            messages = [message.type async for message in socket]
            assert set(messages) <= {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.ERROR}
        with pytest.raises(aiohttp.ClientConnectionError):
            await asking.get("/system_stats")

    with_fault("die@1", story)


def test_a_dead_worker_thread_goes_unnoticed_over_http() -> None:
    async def story(asking: Client, server: StandIn) -> None:
        await asking.render(1)
        stuck = (await asking.submit(graph(2)))["prompt_id"]
        behind = (await asking.submit(graph(3)))["prompt_id"]
        queue = await asking.get("/queue")

        assert [item[1] for item in queue["queue_running"]] == [stuck]
        assert [item[1] for item in queue["queue_pending"]] == [behind]
        assert await asking.get(f"/history/{stuck}") == {}
        assert "system" in await asking.get("/system_stats")
        assert len(server.renders) == 1

    with_fault("worker-thread-death@2", story)


def test_a_forgotten_prompt_is_neither_in_queue_nor_history() -> None:
    async def story(asking: Client, server: StandIn) -> None:
        first = await asking.render(1)
        lost = (await asking.submit(graph(2)))["prompt_id"]
        async with asyncio.timeout(WAIT_S):
            await server.idle()

        assert await asking.get(f"/history/{lost}") == {}
        assert await asking.get(f"/history/{first['prompt'][1]}") == {}
        assert len(server.renders) == 2

    with_fault("forget@2", story)


def test_a_slow_prompt_takes_its_time() -> None:
    async def story(asking: Client, _: StandIn) -> None:
        entry = await asking.render()

        stamps = [fields["timestamp"] for _, fields in entry["status"]["messages"]]
        assert stamps[-1] - stamps[0] >= 1990

    with_fault("slow@1", story)


def test_a_prompt_can_end_without_outputs() -> None:
    async def story(asking: Client, _: StandIn) -> None:
        entry = await asking.render()

        assert (entry["status"]["status_str"], entry["outputs"]) == ("success", {})

    with_fault("no-outputs@1", story)


def test_a_corrupt_picture_has_the_right_length_and_cannot_be_read() -> None:
    async def story(asking: Client, _: StandIn) -> None:
        picture = await asking.picture(await asking.render())

        assert picture.startswith(b"\x89PNG")
        assert picture.endswith(b"IEND\xaeB`\x82")
        with pytest.raises((OSError, SyntaxError)):
            Image.open(io.BytesIO(picture)).load()

    with_fault("corrupt@1", story)


def test_a_blank_picture_is_whole_and_of_one_colour() -> None:
    async def story(asking: Client, _: StandIn) -> None:
        with Image.open(io.BytesIO(await asking.picture(await asking.render()))) as image:
            assert image.size == (64, 48)
            assert image.getcolors() == [(64 * 48, (0, 0, 0))]

    with_fault("blank@1", story)


def test_a_truncated_file_ends_before_its_length() -> None:
    async def story(asking: Client, _: StandIn) -> None:
        entry = await asking.render()

        with pytest.raises(aiohttp.ClientPayloadError):
            await asking.picture(entry)

    with_fault("truncate@1", story)


def test_a_missing_file_is_not_found() -> None:
    async def story(asking: Client, _: StandIn) -> None:
        entry = await asking.render()

        with pytest.raises(aiohttp.ClientResponseError, match="404"):
            await asking.picture(entry)

    with_fault("missing-file@1", story)


def test_a_login_page_comes_instead_of_a_picture() -> None:
    async def story(asking: Client, _: StandIn) -> None:
        assert (await asking.picture(await asking.render())).startswith(b"<!doctype html>")

    with_fault("html@1", story)


def test_a_huge_file_never_ends() -> None:
    async def story(asking: Client, _: StandIn) -> None:
        [place] = (await asking.render())["outputs"]["2"]["images"]
        async with asking.http.get("/view", params=place) as reply:
            assert reply.content_length is None
            read = await reply.content.readexactly(8 * 1024 * 1024)
            assert read.startswith(b"\x89PNG")

    with_fault("huge@1", story)


def test_an_evil_name_is_served_under_that_name() -> None:
    async def story(asking: Client, _: StandIn) -> None:
        entry = await asking.render()

        [place] = entry["outputs"]["2"]["images"]
        assert place["filename"].startswith("../../")
        Image.open(io.BytesIO(await asking.picture(entry))).load()

    with_fault("evil-names@1", story)


def test_a_lost_reply_leaves_the_prompt_in_the_queue() -> None:
    async def story(asking: Client, server: StandIn) -> None:
        with pytest.raises(aiohttp.ClientConnectionError):
            await asking.submit(graph(1), prompt_id="mine")

        assert (await asking.finished("mine"))["status"]["status_str"] == "success"
        assert server.submitted == ["mine"]

    with_fault("lost-reply@1", story)


def test_a_server_error_leaves_the_prompt_in_the_queue() -> None:
    async def story(asking: Client, _: StandIn) -> None:
        body = {"prompt": graph(1), "prompt_id": "mine"}
        async with asking.http.post("/prompt", json=body) as reply:
            assert reply.status == 500

        assert (await asking.finished("mine"))["status"]["status_str"] == "success"

    with_fault("server-error@1", story)


def test_partial_node_errors_come_with_200_and_drop_an_output() -> None:
    async def story(asking: Client, _: StandIn) -> None:
        answer = await asking.submit(graph(1))

        assert list(answer["node_errors"]) == ["2"]
        assert (await asking.finished(answer["prompt_id"]))["outputs"] == {}

    with_fault("partial-node-errors@1", story)


def test_every_fault_is_explained() -> None:
    assert all(what for what in FAULTS.values())
