"""Bringing a machine's models and custom nodes to it: told what to fetch, and watched.

The machine fetches by itself, with a program of ours (``provision.py``); model bytes never come
through here unless they lie on this computer. Every step may be repeated: a second controller that
takes the machine over begins at the top and finds most of it done.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from nightkiln.core.errors import WorkerLost
from nightkiln.core.model import Loss
from nightkiln.machine.goods import PARALLEL, Goods, Model
from nightkiln.machine.link import Link
from nightkiln.machine.progress import Progress, progress
from nightkiln.machine.pushing import push_file, write_file
from nightkiln.machine.signed import Refused, signed_addresses
from nightkiln.machine.stay import ArrivalLimits

FOLDER = "provision"  # below ~/.nightkiln
RENEWALS_MAX = 20  # of addresses, in one provisioning
STARTS_MAX = 3  # of a program that ended without a word, as when the machine was rebooted

# One at a time: a second would fetch into the same files. The pid alone may be another's by now.
_START = """
cd ~/.nightkiln/provision || exit 1
pid=$(head -c 16 pid 2>/dev/null)
if [ -n "$pid" ] && grep -q provision.py "/proc/$pid/cmdline" 2>/dev/null; then exit 0; fi
rm -f status.json
setsid nohup python3 provision.py < /dev/null > /dev/null 2>&1 &
echo $! > pid
"""


@dataclass(slots=True)
class Provisioning:
    """One machine's provisioning."""

    link: Link
    goods: Goods
    limits: ArrivalLimits
    tell: Callable[[str, Mapping[str, object]], None]
    _urls: dict[str, list[str]] = field(default_factory=dict)
    _renewals: int = 0
    _renewed_s: float = 0.0
    _starts: int = 0
    _slow_since_s: float | None = None

    async def carry_out(self) -> None:
        """Return once everything is there, verified, and ComfyUI has been started with it.

        Raises:
            WorkerLost: it cannot be; the message names the cause, not the machine.
        """
        plan = json.dumps(_plan(self.goods), sort_keys=True).encode()
        if await self._is_done(plan):
            return
        await self._write_urls([model for model in self.goods.models if model.file is None])
        await write_file(self.link, f"{FOLDER}/provision.py", self.goods.program)
        for model in self.goods.models:
            if model.file is not None:
                await self._push(model)
        await write_file(self.link, f"{FOLDER}/plan.json", plan)
        await self._start()
        await self._watch()

    async def _is_done(self, plan: bytes) -> bool:
        """Whether an earlier controller has done the very same here."""
        seen = await self._read("plan.json")
        last = progress(await self._read("status.json"))
        return seen.encode() == plan and last is not None and last.state == "done"

    async def _read(self, name: str) -> str:
        try:
            return (await self.link.run(f"cat ~/.nightkiln/{FOLDER}/{name} 2>/dev/null")).text
        except TimeoutError:
            return ""

    async def _push(self, model: Model) -> None:
        assert model.file is not None
        await push_file(
            self.link,
            model.file,
            f"{FOLDER}/pushed/{model.path}",
            told=lambda done, total: self.tell(
                "pushing", {"path": model.path, "bytes_done": done, "bytes_total": total}
            ),
        )

    async def _write_urls(self, models: Sequence[Model]) -> None:
        try:
            urls = await signed_addresses(self.goods, models)
        except Refused as error:
            raise WorkerLost(str(error), loss=Loss.STARTUP) from error
        self._urls |= urls
        await write_file(self.link, f"{FOLDER}/urls.json", json.dumps(self._urls).encode())

    async def _start(self) -> None:
        self._starts += 1
        try:
            ran = await self.link.run(_START)
        except TimeoutError as error:
            raise WorkerLost("the machine starts no program", loss=Loss.STARTUP) from error
        if ran.status != 0:
            raise WorkerLost("the machine starts no program", loss=Loss.STARTUP)

    async def _watch(self) -> None:
        """Look at its status until it is done."""
        now_s = asyncio.get_running_loop().time
        last, heard_s = "", now_s()
        while True:
            text = await self._read("status.json")
            seen = progress(text)
            if text != last:
                last, heard_s = text, now_s()
            if seen is not None:
                self.tell("provisioning", _facts(seen))
                if seen.state == "done":
                    return
                await self._attend(seen, now_s())
            if now_s() - heard_s >= self.limits.provisioning_silent_s:
                if self._starts >= STARTS_MAX:
                    said = "provisioning ends on the machine without a word"
                    raise WorkerLost(said, loss=Loss.STARTUP)
                await self._start()
                heard_s = now_s()
            await asyncio.sleep(self.limits.look_s)

    async def _attend(self, seen: Progress, now_s: float) -> None:
        """Give it what it waits for, and give it up when it cannot go on."""
        if seen.state == "failed":
            said = f"provisioning failed: {seen.kind or 'unknown'}: {seen.why}"
            raise WorkerLost(said, loss=Loss.STARTUP)
        is_due = not self._renewals or now_s - self._renewed_s >= self.limits.renew_s
        if seen.state == "needs_urls" and seen.waiting_for and is_due:
            self._renewed_s = now_s
            await self._renew(seen.waiting_for)
        self._judge_speed(seen, now_s)

    async def _renew(self, paths: Collection[str]) -> None:
        self._renewals += 1
        if self._renewals > RENEWALS_MAX:
            said = "the addresses of models expire faster than they can be fetched"
            raise WorkerLost(said, loss=Loss.STARTUP)
        models = [model for model in self.goods.models if model.file is None]
        await self._write_urls([model for model in models if model.path in paths])

    def _judge_speed(self, seen: Progress, now_s: float) -> None:
        floor = self.limits.download_mbps_min
        is_slow = (
            floor is not None and seen.is_loading and seen.mbps is not None and seen.mbps < floor
        )
        if not is_slow:
            self._slow_since_s = None
            return
        self._slow_since_s = self._slow_since_s if self._slow_since_s is not None else now_s
        if now_s - self._slow_since_s >= self.limits.download_judged_after_s:
            said = f"models come to the machine with fewer than {floor:g} megabits a second"
            raise WorkerLost(said, loss=Loss.SLOW)


def _plan(goods: Goods) -> dict[str, object]:
    models = [
        {"path": model.path, "sha256": model.sha256, "bytes": model.size} for model in goods.models
    ]
    nodes = [{"repo": repo, "ref": ref} for repo, ref in goods.custom_nodes]
    return {
        "models": models,
        "custom_nodes": nodes,
        "parallel": PARALLEL,
        "restart": goods.restart,
        "tries": goods.tries,
        "pause_s": goods.pause_s,
    }


def _facts(seen: Progress) -> dict[str, object]:
    return {
        "state": seen.state,
        "bytes_done": seen.bytes_done,
        "bytes_total": seen.bytes_total,
        "mbps": seen.mbps,
    }
