"""Opens the explorer as the settings say; apart, since what only needs redis starts without an HTTP client."""

from __future__ import annotations

from tfgateway.explorer.client import ExplorerClient
from tfgateway.identity.keys import Identity
from tfgateway.settings import Settings


def open_explorer(settings: Settings, identity: Identity, retries: int = 0) -> ExplorerClient:
    """The explorer of the settings, see ``ExplorerClient`` for ``retries``; an async context manager."""
    explorer = settings.explorer
    return ExplorerClient(
        explorer.url,
        identity=identity,
        key_id=identity.node_id,
        timeout=explorer.timeout,
        max_answer=explorer.max_answer,
        retries=retries,
    )
