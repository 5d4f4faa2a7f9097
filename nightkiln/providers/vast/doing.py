"""How far a machine's start has come, in words for people."""

from __future__ import annotations

from collections.abc import Mapping

from nightkiln.providers.vast.held import Held

BYTES_PER_GB = 1e9


def doing(held: Held) -> str:
    """What a lease does that does not render yet."""
    if held.row is None:
        return "being created"
    if held.running_s is None:
        return "loading its image"
    return held.doing or "starting"


def told(held: Held, stage: str, facts: Mapping[str, object]) -> None:
    """Keep what the visit to a machine says of itself; all figures are the machine's own."""
    match stage:
        case "connection":
            held.doing = f"being reached by SSH ({facts['state']})"
        case "gate" | "link":
            held.doing = "being checked"
        case "pushing":
            held.doing = f"being sent {facts['path']}: {_gb(facts)}"
        case "provisioning":
            held.doing = f"fetching models and nodes: {_gb(facts)}"


def _gb(facts: Mapping[str, object]) -> str:
    done, total = (
        number / BYTES_PER_GB if isinstance(number := facts[name], int) else 0.0
        for name in ("bytes_done", "bytes_total")
    )
    return f"{done:.1f} of {total:.1f} GB"
