"""What containers stand on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modal_proto import api_pb2 as pb

from nightkiln.testing.market.dice import between, throw
from nightkiln.testing.modal.apps import Apps
from nightkiln.testing.modal.blobs import Blobs
from nightkiln.testing.modal.clock import Clock
from nightkiln.testing.modal.directory import Directory
from nightkiln.testing.modal.faults import FaultPlan
from nightkiln.testing.modal.functions import Definition
from nightkiln.testing.modal.ids import Ids
from nightkiln.testing.modal.nursery import Nursery
from nightkiln.testing.modal.objects import Objects
from nightkiln.testing.modal.rules import Comfy, Rules, Seconds
from nightkiln.testing.modal.sources import Sources

HOME = "root"  # the folder, below the root of a container's disk, where it begins


@dataclass(frozen=True, slots=True)
class Ground:
    """Everything that a container needs of its surroundings."""

    folder: Path  # short: a socket's path has room for a hundred characters
    seed: int
    rules: Rules
    clock: Clock
    ids: Ids
    faults: FaultPlan
    blobs: Blobs
    objects: Objects
    sources: Sources
    apps: Apps
    directory: Directory
    nursery: Nursery
    comfy: Comfy | None
    mistakes: list[Exception]  # ours: raised when the fake ends

    def drawn(self, what: str, span: Seconds) -> float:
        """A duration that belongs to the name of what takes it."""
        unit, *_ = throw(f"modal-1/{self.seed}/{what}")
        return between(unit, *span)

    def limit_s(self, asked_s: float) -> float:
        """A timeout in seconds of the story; real work cannot be told faster than it is done."""
        return max(asked_s, self.rules.limit_s_min * self.clock.speed)

    def home_of(self, definition: Definition) -> Path:
        """The folder where containers of a definition begin, with the files sent for it."""
        root = self.folder / definition.definition_id
        home = root / HOME
        if not home.exists():
            home.mkdir(parents=True)
            self.sources.lay_out(definition.first.mount_ids, root)
        return home

    def environment_of(self, function: pb.Function) -> dict[str, str]:
        """What image and secrets put into the environment of a container, secrets last."""
        found = dict(self.objects.image_environment(function.image_id))
        for secret_id in function.secret_ids:
            found |= self.objects.secret(secret_id)
        return found
