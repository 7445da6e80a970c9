"""Reads CoreDNS' ``Corefile``, as far as it concerns the redis plugin. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tfgateway.errors import ConfigError
from tfgateway.telemetry.text import printable

_TOKEN = re.compile(r'"((?:\\.|[^"\\])*)"|(\S+)', re.DOTALL)
_DEFAULT_TTL = 300
_UNREADABLE_TTL = 360  # the plugin's own, when the text is no number


@dataclass(frozen=True, slots=True)
class Corefile:
    """Settings of the old DNS server."""

    address: str = ""
    """``HOST:PORT`` of redis."""
    ttl: int = _DEFAULT_TTL
    prefix: str = ""
    suffix: str = ""
    port: int = 53
    forwards: bool = False
    """It recursed for everybody (I-10), which ours never does."""


def parse(text: str) -> Corefile:
    """The first server block that has a redis plugin. Errors: ``ConfigError`` when there is none."""
    for keys, directives in _blocks(list(_lines(text))):
        options = next((options for name, options in directives if name == "redis"), None)
        if options is None:
            continue
        found = Corefile(port=_port(keys), forwards=any(name in ("forward", "proxy") for name, _ in directives))
        for option, *values in options:
            value = values[0] if values else ""
            match option:
                case "address":
                    found = replace(found, address=value)
                case "prefix":
                    found = replace(found, prefix=value)
                case "suffix":
                    found = replace(found, suffix=value)
                case "ttl":
                    found = replace(found, ttl=int(value) if value.isascii() and value.isdigit() else _UNREADABLE_TTL)
        return found
    raise ConfigError("no server block with a redis plugin in it")


def _lines(text: str) -> Iterator[list[str]]:
    """Words of each line that has any, without comments."""
    for line in text.splitlines():
        words = []
        for quoted, bare in _TOKEN.findall(line):
            if bare.startswith("#"):
                break
            words.append(bare or quoted.replace('\\"', '"'))
        if words:
            yield words


_Directive = tuple[str, list[list[str]]]


def _blocks(lines: list[list[str]]) -> Iterator[tuple[list[str], list[_Directive]]]:
    """Keys of each server block, and its directives with the lines of their own blocks."""
    at = 0
    while at < len(lines):
        keys = lines[at]
        at += 1
        if keys[-1] != "{":
            # Without a block the whole file is one server's; a lost "." leaves a lone "{".
            raise ConfigError(f"line of a server block without '{{': {printable(' '.join(keys))}")
        directives: list[_Directive] = []
        while at < len(lines) and lines[at] != ["}"]:
            name, *rest = lines[at]
            at += 1
            inner = []
            if rest[-1:] == ["{"]:
                while at < len(lines) and lines[at] != ["}"]:
                    inner.append(lines[at])
                    at += 1
                at += 1
            directives.append((name, inner))
        at += 1
        yield keys[:-1], directives


def _port(keys: list[str]) -> int:
    """Of ``.:53``, ``dns://.:5353`` or ``.``."""
    for key in keys:
        _, colon, port = key.rpartition(":")
        if colon and port.isascii() and port.isdigit():
            return int(port)
    return 53
