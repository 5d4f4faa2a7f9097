"""Where kilns are: the fake, a client of the real SDK, and apps deployed by it.

The SDK is imported in functions: it takes a second, also in processes that only collect tests.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from nightkiln.testing.environ import environ
from nightkiln.testing.modal import CallSeen, ContainerSeen, FakeModal, Rules

SPEED = 60.0
AT_ONCE = (0.0, 0.0)
QUICK = Rules(queue_s=AT_ONCE, cold_s=(1.0, 1.0), containers_max=100, limit_s_min=0.0)
LOOK_S = 0.01
HAPPENS_S_MAX = 20.0
RESULT_S_MAX = 20.0


def kiln_app() -> ModuleType:
    """The app, imported afresh; as a module of its own, for of a package all files are sent."""
    spec = spec_from_file_location("kiln_app", Path(__file__).with_name("kiln_app.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["kiln_app"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Yard:
    """``deploy`` gives the app a new name each time, so no test meets another's containers."""

    fake: FakeModal
    client: Any
    module: Any = field(default_factory=kiln_app)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def deploy(self, *, tag: str = "", name: str | None = None) -> str:
        """Deploy the app; its name."""
        name = name if name is not None else f"kiln-{next(self._numbers)}"
        self.module.app.deploy(name=name, environment_name="main", tag=tag, client=self.client)
        return name

    def kiln(self, app: str | None = None, **options: Any) -> Any:
        """The deployed class, looked up by name, perhaps with options of its own."""
        import modal

        name = app if app is not None else self.deploy()
        version = options.pop("version", None)
        found = modal.Cls.from_name(name, "Kiln", version=version, client=self.client)
        return (found.with_options(**options) if options else found)()

    def fire(self, kiln: Any, **pot: Any) -> Any:
        """Spawn a call."""
        return kiln.fire.spawn({"name": "pot", **pot})

    def fired(self, kiln: Any, **pot: Any) -> dict[str, Any]:
        """What a spawned call returns."""
        answer: dict[str, Any] = self.fire(kiln, **pot).get(timeout=RESULT_S_MAX)
        return answer

    def seen(self, call: Any) -> CallSeen:
        """The call as the fake knows it."""
        return next(one for one in self.fake.calls if one.call_id == call.object_id)

    def containers(self, app: str) -> list[ContainerSeen]:
        """Of one app, in order."""
        return [one for one in self.fake.containers if one.app == app]


@contextmanager
def fake_modal(**options: Any) -> Iterator[Yard]:
    """A fake with a client, which this process talks to for as long."""
    with a_yard(**options) as yard, talking_to(yard.fake):
        yield yard


@contextmanager
def a_yard(**options: Any) -> Iterator[Yard]:
    """A fake with a client; nobody else in this process sees it."""
    import modal

    with FakeModal(**{"speed": SPEED, "rules": QUICK, **options}) as fake:
        with talking_to(fake):
            client = modal.Client.from_credentials(*fake.token)
        try:
            yield Yard(fake, client)
        finally:
            client.close()


def talking_to(fake: FakeModal) -> AbstractContextManager[None]:
    """The SDK and the processes that it begins find the fake in the environment, for as long."""
    return environ(fake.env(), without="MODAL_")


def until(happened: Callable[[], object]) -> None:
    """Wait for something that another process does: it gives no other sign."""
    deadline_s = time.monotonic() + HAPPENS_S_MAX
    while not happened():
        assert time.monotonic() < deadline_s, "it never happened"
        time.sleep(LOOK_S)
