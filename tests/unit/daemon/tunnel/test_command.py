"""What is written about the client is what the client takes."""

from __future__ import annotations

import re
from pathlib import Path

import click
from tfgateway.cli.tunnel.command import command

FILES = Path(__file__).resolve().parents[4] / "files" / "tunnel"


def test_the_readme_names_every_flag_and_variable() -> None:
    text = (FILES / "README.md").read_text()
    options = [one for one in command.params if isinstance(one, click.Option)]
    flags = {flag for one in options for flag in one.opts}
    written = set(re.findall(r"`(--[a-z-]+)", text))
    assert written == flags
    variables = {
        name for one in options for name in ([one.envvar] if isinstance(one.envvar, str) else one.envvar or [])
    }
    assert set(re.findall(r"\bTRC_[A-Z_]+", text)) == variables


def test_the_unit_uses_variables_that_the_client_knows() -> None:
    unit = (FILES / "tfgateway-tunnel@.service").read_text()
    used = set(re.findall(r"\bTRC_[A-Z_]+", unit))
    assert used == {"TRC_SECRET_FILE"}
    assert "ExecStart=/opt/tfgateway/current/bin/tfgateway tunnel\n" in unit
