"""What the commands of the supervised data planes share."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from tfgateway.cli.context import settings_path
from tfgateway.plane import Plane
from tfgateway.workers import supervisor


def run(ctx: click.Context, plane: Plane) -> NoReturn:
    """Be the plane's supervisor, or one of its workers: the environment tells."""
    sys.exit(supervisor.run(plane, settings_path(ctx)))
