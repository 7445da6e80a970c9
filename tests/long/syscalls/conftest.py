"""The same event loop and the same count as of the short form."""

from tests.unit.daemon.syscalls.conftest import (  # noqa: F401
    injected,
    pytest_asyncio_loop_factories,
    pytest_terminal_summary,
)
