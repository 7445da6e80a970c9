"""An event loop as in a worker of the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tfgateway.proxy.eventloop.engine import EngineLoop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Of all tests here."""
    return {"engine": EngineLoop}


_INJECTED = pytest.StashKey[dict[str, int]]()


@pytest.fixture
def injected(request: pytest.FixtureRequest) -> dict[str, int]:
    """How many faults there were, by the kind of visit: shown at the end."""
    return request.config.stash.setdefault(_INJECTED, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The count."""
    injected = config.stash.get(_INJECTED, {})
    if injected:
        terminalreporter.write_line(f"system calls that failed: {sum(injected.values())}")
        for kind, count in injected.items():
            terminalreporter.write_line(f"  {kind}: {count}")
