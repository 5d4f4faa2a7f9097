"""What every test has: coroutines run; and which tests go to the same process."""

from __future__ import annotations

import asyncio
import atexit
import gc
import inspect
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from nightkiln.testing.s3_server import S3Server, s3_server

S3 = pytest.StashKey[S3Server]()
S3_URL = "nightkiln_s3_url"
TEST_S_MAX = 120.0
NIGHT_S_MAX = 300.0
# A server, an app that was deployed to one, or a store that was made once.
SHARING = (
    "tests/flows/",
    "tests/room/test_bad_parameters.py",
    "tests/room/test_human.py",
    "tests/room/test_killed_runs.py",
    "tests/room/test_outages.py",
    "tests/room/test_scale_out.py",
    "tests/room/test_second_night.py",
    "tests/room/test_rented.py",
    "tests/room/test_up.py",
    "tests/cli/test_commands.py",
    "tests/cli/test_modal.py",
    "tests/cli/test_demo_market.py",
    "tests/adapters/test_modal_contract.py",
    "tests/adapters/modal_provider/",
    "tests/e2e/test_modal_night.py",
)

# How long an example takes says how busy this computer is, and nothing of what is tested.
# Properties whose examples take long are tried on few of them here, and on as many as the others
# in make test-long, which gives --hypothesis-profile=whole.
TIMELESS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("sample", TIMELESS, max_examples=100)
settings.register_profile("whole", TIMELESS, max_examples=1000)
settings.load_profile("sample")
# Prefect's threads stay in the process after the tests of flows, and draw when they connect anew:
# a property that was drawing just then was told that it did, and failed.
OTHERS_DRAW = (
    "ignore:Do not use the .random. module inside strategies"
    ":hypothesis.errors.HypothesisDeprecationWarning"
)


class OneServerEach(LoadScopeScheduling):  # type: ignore[misc]
    """Sends tests that share a server to one process, every other one wherever there is room.

    The mark ``xdist_group`` is meant for this, but it wants to write the group into a test's id,
    and this pytest lets nobody: each process would start a server of its own, without a word.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((shared for shared in SHARING if nodeid.startswith(shared)), nodeid)


@pytest.fixture(scope="session", autouse=True)
def a_state_folder_of_its_own() -> Iterator[None]:
    """No test writes into, or believes, the book of whoever runs it; nor do its processes."""
    before = os.environ.get("XDG_STATE_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder
        yield
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before


@pytest.fixture(scope="session")
def s3(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[S3Server]:
    """One server for the whole run: it takes a second to start, and a dozen ports."""
    shared = getattr(request.config, "workerinput", {}).get(S3_URL)
    if shared is not None:
        yield S3Server(shared)
        return
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many processes share a server is for whoever starts them to say."""
    parser.addoption(
        "--share-s3", action="store_true", help="one S3 server for all of -n processes"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Asked by xdist in its own process, before it starts one for tests."""
    config: pytest.Config = node.config
    if not config.getoption("--share-s3"):
        return
    if S3 not in config.stash:
        stack = ExitStack()
        config.add_cleanup(stack.close)
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        config.stash[S3] = stack.enter_context(s3_server(Path(folder)))
    node.workerinput[S3_URL] = config.stash[S3].url


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> OneServerEach:
    """Asked by xdist when tests run in several processes."""
    return OneServerEach(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Before thousands of modules are read, of which nothing is garbage."""
    gc.disable()
    config.addinivalue_line("filterwarnings", OTHERS_DRAW)


def pytest_collection_finish() -> None:
    """What is there now stays: to look for garbage, as tests do, is to look at what they made."""
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # else DuckDB tells on stderr what it takes for leaks


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest is begun first, and leaves no process waiting for another.

    That is flows, which follow each other in one process, and then whole nights.
    """
    first = ("flows", "room", "e2e", "nights")
    items.sort(key=lambda item: min((*map(first.index, {*first} & {*item.path.parts}), len(first))))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests in a fresh event loop, for at most two minutes; a night, five."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}

    marker = pyfuncitem.get_closest_marker("timeout_s")
    usual_s = NIGHT_S_MAX if pyfuncitem.get_closest_marker("nights") else TEST_S_MAX
    limit_s = marker.args[0] if marker is not None else usual_s

    async def bounded() -> None:
        async with asyncio.timeout(limit_s):
            await function(**arguments)

    asyncio.run(bounded())
    return True
