"""What every test has: coroutines run, nothing else."""

from __future__ import annotations

import asyncio
import inspect

import pytest

TEST_S_MAX = 120.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests in a fresh event loop, for at most two minutes."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}

    marker = pyfuncitem.get_closest_marker("timeout_s")
    limit_s = marker.args[0] if marker is not None else TEST_S_MAX

    async def bounded() -> None:
        async with asyncio.timeout(limit_s):
            await function(**arguments)

    asyncio.run(bounded())
    return True
