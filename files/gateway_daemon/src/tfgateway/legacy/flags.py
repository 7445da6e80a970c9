"""Parses the command line of the old gateway daemon. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfgateway.telemetry.text import printable

_SWITCHES = ("free", "debug")
_TRUE = ("1", "t", "true")  # as Go's strconv.ParseBool reads them, in any case


@dataclass(frozen=True, slots=True)
class Flags:
    """What the old daemon was started with; flags that are absent have its defaults."""

    seed: str = "identity.seed"
    explorer: str = "https://explorer.grid.tf/api/v1"
    redis: str = "tcp://localhost:6379"
    farm: int = 0
    nameservers: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    tcp_client_port: int = 18000
    endpoint: str = ""
    wg_iface: str = "wg-tfgateway"
    free: bool = False


_DEFAULT = Flags()


def parse(arguments: Sequence[str]) -> tuple[Flags, tuple[str, ...]]:
    """From the words after the program's name; also, one sentence each, what was not understood."""
    values: dict[str, list[str]] = {}
    problems = []
    words = iter(arguments)
    for word in words:
        if not word.startswith("-") or word in ("-", "--"):
            problems.append(f"'{printable(word)}' is no flag")
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not equals:
            value = "true" if name in _SWITCHES else next(words, "")
        values.setdefault(name, []).append(value)

    def last(name: str, default: str) -> str:
        return values.pop(name, [default])[-1]

    def number(name: str, default: int) -> int:
        text = last(name, str(default))
        if not (text.isascii() and text.isdigit()):
            problems.append(f"--{name} '{printable(text)}' is no number")
            return default
        return int(text)

    flags = Flags(
        seed=last("seed", _DEFAULT.seed),
        explorer=last("explorer", _DEFAULT.explorer),
        redis=last("redis", _DEFAULT.redis),
        farm=number("farm", _DEFAULT.farm),
        nameservers=tuple(values.pop("nameservers", ())),
        domains=tuple(values.pop("domains", ())),
        tcp_client_port=number("tcp-client-port", _DEFAULT.tcp_client_port),
        endpoint=last("endpoint", _DEFAULT.endpoint),
        wg_iface=last("wg-iface", _DEFAULT.wg_iface),
        free=last("free", "false").lower() in _TRUE,
    )
    values.pop("debug", None)
    problems += [f"--{printable(name)} is not known" for name in values]
    return flags, tuple(problems)
