"""``docs/reference/commands.md``: every command of ``tfgateway``, its options and arguments, from click."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click
from tfgateway.cli.main import main

from tools.reference.markdown import table

HEAD = """# Commands

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. `--help` needs neither a configuration nor a network.
"""


def render() -> str:
    """The whole page."""
    return HEAD + "".join(_sections(main, "tfgateway", None))


def _sections(command: click.Command, path: str, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(command, info_name=path, parent=parent)
    parts = [f"\n## `{path}`\n"]
    if command.help:
        parts.append("\n" + inspect.cleandoc(command.help.replace("\b", "")) + "\n")
    rows = [row for parameter in command.get_params(context) if (row := _row(parameter, context)) is not None]
    if rows:
        parts.append("\n" + table(("Option or argument", "Meaning"), rows))
    yield "".join(parts)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from _sections(below, f"{path} {name}", context)


def _row(parameter: click.Parameter, context: click.Context) -> tuple[str, str] | None:
    if isinstance(parameter, click.Argument):
        return f"`{parameter.make_metavar(context)}`", ""
    record = parameter.get_help_record(context)
    if record is None or "--help" in parameter.opts:
        return None
    return f"`{record[0]}`", record[1]
