"""``python -m nightkiln.testing.comfyui``: the stand-in as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
from pathlib import Path

from nightkiln.testing.comfyui.definitions import CHECKPOINTS
from nightkiln.testing.comfyui.faults import FAULTS
from nightkiln.testing.comfyui.server import StandIn


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, FAULTS))
    faults = "\n".join(f"  {name:{width}}  {what}" for name, what in FAULTS.items())
    how = "NAME (always), NAME@N (at prompt N) or NAME@NxM (M times), and ~TEXT (if that is in it)"
    parser = argparse.ArgumentParser(
        prog="python -m nightkiln.testing.comfyui",
        description="A stand-in for ComfyUI on a loopback port.",
        epilog=f"faults, as {how}:\n{faults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="0, the default, picks a free one")
    parser.add_argument("--render-s", type=float, default=0.0, help="seconds that a prompt takes")
    parser.add_argument("--size-mb", type=float, default=0.0, help="weight of a picture, padded")
    parser.add_argument("--fault", action="append", default=[], help="see below; repeatable")
    parser.add_argument("--gpu-name", default="cpu", help="what /system_stats says")
    parser.add_argument("--checkpoint", action="append", help="a model it has; repeatable")
    parser.add_argument("--record", type=Path, help="write down when each prompt ran, at the end")
    return parser


def _write_record(server: StandIn, path: Path) -> None:
    """A JSON line per prompt that was executed, seconds by a clock that only says how long."""
    lines = [
        json.dumps({"id": r.prompt_id, "started_s": r.started_s, "finished_s": r.finished_s})
        for r in server.renders
    ]
    path.write_text("".join(line + "\n" for line in lines))


async def _serve(server: StandIn, record: Path | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with server:
        print(f"listening on {server.url}", flush=True)  # noqa: T201 - for whoever started it
        await stop.wait()
        if record is not None:
            _write_record(server, record)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = _parser()
    options = parser.parse_args()
    checkpoints = options.checkpoint if options.checkpoint is not None else CHECKPOINTS
    try:
        server = StandIn(
            port=options.port,
            render_s=options.render_s,
            size_mb=options.size_mb,
            faults=options.fault,
            gpu_name=options.gpu_name,
            checkpoints=checkpoints,
            ends_process=True,
        )
    except ValueError as error:
        parser.error(str(error))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(server, options.record))


if __name__ == "__main__":
    main()
