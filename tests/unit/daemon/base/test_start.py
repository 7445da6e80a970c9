"""What a command imports is most of its start: none loads what only others need."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOADED = """
import sys
from tfgateway.cli.main import main
main.get_command(None, sys.argv[1])
print(*sys.modules)
"""
NEEDLESS = {
    "identity": {"aiohttp", "dns", "importlib.metadata", "redis"},
    "reload": {"aiohttp", "dns", "importlib.metadata", "redis"},
    "proxy": {"aiohttp", "dns", "importlib.metadata", "redis", "sqlite3"},
    "redis": {"aiohttp", "dns", "sqlite3"},
    "explorer": {"dns", "importlib.metadata", "psycopg", "redis"},
    "reconcile": {"psycopg", "sqlite3"},
}


@pytest.mark.parametrize("command", NEEDLESS)
def test_command_starts_without_what_it_does_not_need(command: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOADED, command], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "click" in loaded
    assert loaded & NEEDLESS[command] == set()
