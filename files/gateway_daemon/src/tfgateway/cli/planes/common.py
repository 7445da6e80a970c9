"""Common parts of the commands of supervised data planes."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from tfgateway.cli.context import settings_path
from tfgateway.plane import Plane
from tfgateway.workers import supervisor


def run(ctx: click.Context, plane: Plane) -> NoReturn:
    """Run as the plane's supervisor or, when the environment says so, as one of its workers."""
    sys.exit(supervisor.run(plane, settings_path(ctx)))
