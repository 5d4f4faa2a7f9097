"""``deploy/automations.yaml`` on a server: each by its name, once, and only when the file changed.

What a user changes in the UI, or switches off there, stays so until the file says something new;
what he switched off stays off even then. A mark among an automation's tags tells which file it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nightkiln.core.errors import BadInput, Problem, RoomTrouble
from nightkiln.room.asking import PrefectApi

NOTIFY = "NOTIFY"  # in the file, where the id of the user's block belongs
BLOCK, DEPLOYMENT = "block_document_id", "deployment_id"
NOBODY = "none"
MARK = "nightkiln:"  # begins the tag that holds the digest of what was applied
OURS = "nightkiln"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done about one automation."""

    name: str
    what: str  # as people read it
    wanted: dict[str, Any] | None = None  # None: nothing
    there: str = ""  # id of the one to change; "": it is to be created


def applied(path: Path, api: PrefectApi, *, notify: str) -> list[tuple[str, str]]:
    """Apply the file; for each automation its name and what was done about it.

    ``notify``: ``slack-webhook/ops``; "" or ``none``: nobody is told anything.

    Raises:
        BadInput: the file, or the name of the block, is none.
        RoomTrouble: there is no such block or deployment, or the server refuses.
    """
    shipped = shipped_in(path)
    block_id = block_of(api, notify) if notify not in {"", NOBODY} else None
    deployments = {str(each["name"]): str(each["id"]) for each in api.deployments()}
    done = []
    for change in changes(shipped, api.automations(), block_id=block_id, deployments=deployments):
        if change.wanted is not None and change.there:
            api.change_automation(change.there, change.wanted)
        elif change.wanted is not None:
            api.add_automation(change.wanted)
        done.append((change.name, change.what))
    return done


def summed(done: Sequence[tuple[str, str]]) -> list[str]:
    """What was done, and to how many."""
    whats = [what for _, what in done]
    return [f"{whats.count(what)} {what}" for what in sorted(set(whats))]


def shipped_in(path: Path) -> list[dict[str, Any]]:
    """The automations of a file.

    Raises:
        BadInput: it cannot be read, or two of them have one name.
    """
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise BadInput([Problem(str(path), str(error))]) from error
    if not isinstance(found, list) or not all(
        isinstance(each, dict) and {"name", "trigger", "actions"} <= each.keys() for each in found
    ):
        raise BadInput(
            [Problem(str(path), "is no list of automations with name, trigger, actions")]
        )
    names = [each["name"] for each in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput([Problem(str(path), f"more than one is called {', '.join(twice)}")])
    return found


def block_of(api: PrefectApi, notify: str) -> str:
    """Id of the block that notifications go to.

    Raises:
        RoomTrouble: there is none of this name.
    """
    slug, _, name = notify.partition("/")
    found = api.block_id(slug, name) if slug and name else None
    if found is None:
        raise RoomTrouble(
            f"--notify {notify}: there is no such block; make one in the UI (Blocks > +) and give "
            "its type and name, such as slack-webhook/ops; docs/how-to/notify.md"
        )
    return found


def changes(
    shipped: list[dict[str, Any]],
    there: list[dict[str, Any]],
    *,
    block_id: str | None,
    deployments: Mapping[str, str],
) -> Iterator[Change]:
    """What is to be done, in the order of the file; pure."""
    by_name: dict[str, dict[str, Any]] = {}
    for each in there:
        by_name.setdefault(str(each["name"]), each)
    for one in shipped:
        name, standing = str(one["name"]), by_name.get(str(one["name"]))
        tells = any(action.get(BLOCK) == NOTIFY for action in one["actions"])
        if tells and block_id is None:
            yield _untold(name, standing)
            continue
        wanted = _filled(one, block_id=block_id, deployments=deployments)
        mark = f"{MARK}{_digest(wanted)}"
        wanted["tags"] = [OURS, mark]
        if standing is None:
            yield Change(name, "created", wanted)
        elif mark in standing["tags"]:
            yield Change(name, "there" if standing["enabled"] else "there, switched off")
        else:
            # One that was switched off for want of a block has no mark; a user's has.
            wanted["enabled"] = standing["enabled"] or not _marked(standing)
            yield Change(name, "changed, as the file has changed", wanted, str(standing["id"]))


def _untold(name: str, standing: dict[str, Any] | None) -> Change:
    """One that notifies, where nobody is to be notified."""
    if standing is None or not standing["enabled"]:
        return Change(name, "left out: nobody to tell (--notify BLOCK; docs/how-to/notify.md)")
    off = {key: standing[key] for key in ("name", "description", "trigger", "actions")}
    # Without its mark: with a block it is as good as new.
    wanted = {**off, "tags": [OURS], "enabled": False}
    return Change(name, "switched off: nobody to tell", wanted, str(standing["id"]))


def _marked(standing: dict[str, Any]) -> bool:
    return any(str(tag).startswith(MARK) for tag in standing["tags"])


def _filled(
    one: dict[str, Any], *, block_id: str | None, deployments: Mapping[str, str]
) -> dict[str, Any]:
    """An automation with the ids of this server."""
    actions = []
    for action in one["actions"]:
        filled = dict(action)
        if filled.get(BLOCK) == NOTIFY:
            filled[BLOCK] = block_id
        if DEPLOYMENT in filled:
            named = str(filled[DEPLOYMENT]).rpartition("/")[2]
            if named not in deployments:
                fix = "deploy it first: prefect --no-prompt deploy --all"
                raise RoomTrouble(f"{one['name']}: there is no deployment {named}; {fix}")
            filled[DEPLOYMENT] = deployments[named]
        actions.append(filled)
    return {**one, "actions": actions}


def _digest(wanted: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]
