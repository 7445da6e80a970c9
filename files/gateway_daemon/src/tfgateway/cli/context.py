"""Common parts of all commands: settings, and errors as one clear line and an exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tfgateway import settings
from tfgateway.errors import ConfigError, GatewayError
from tfgateway.telemetry import logs

EXIT_FAILED = 1
EXIT_USAGE = 2


def load_settings(ctx: click.Context) -> settings.Settings:
    """Settings named by ``--config``, with logging configured from them. Errors: ``ConfigError``."""
    loaded = settings.load(settings_path(ctx))
    logs.configure(loaded.log)
    return loaded


def settings_path(ctx: click.Context) -> Path:
    """The settings file, from ``--config`` or the environment."""
    path: Path | None = ctx.find_root().params.get("config")
    return path or settings.DEFAULT_PATH


class LazyGroup(click.Group):
    """A group that imports a command's module on demand: a plane's process loads only its own code."""

    def __init__(self, *args: Any, modules: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._modules:
            return None
        module = __import__(self._modules[cmd_name], fromlist=["command"])
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            _fail(error, EXIT_USAGE)
        except GatewayError as error:
            _fail(error, EXIT_FAILED)


def _fail(error: GatewayError, code: int) -> None:
    click.echo(f"tfgateway: error: {error}", err=True)
    sys.exit(code)
