"""Answers of an explorer, decoded. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from tfgateway import gojson
from tfgateway.errors import ExplorerUnavailable, ParseError
from tfgateway.explorer import wire
from tfgateway.explorer.models import Workload, parse_workload
from tfgateway.telemetry.text import printable

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class ExplorerAnswer:
    """One answer as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def _value(answer: ExplorerAnswer) -> object:
    try:
        return gojson.decode(answer.body)
    except ValueError as error:
        raise ExplorerUnavailable(f"the answer is no JSON: {printable(error)}") from error


def items(answer: ExplorerAnswer) -> list[object]:
    """The items of a list. Errors, of this and the functions below: ``ExplorerUnavailable``."""
    value = _value(answer)
    if value is None:  # Go's empty list
        return []
    if not isinstance(value, list):
        raise ExplorerUnavailable("the answer is not a list")
    return value


def struct(answer: ExplorerAnswer, kind: type[_Struct]) -> _Struct:
    """One object."""
    try:
        return wire.decode(_value(answer), kind)
    except ParseError as error:
        raise ExplorerUnavailable(f"the answer is not a {kind.__name__}: {printable(error)}") from error


def structs(listed: list[object], kind: type[_Struct]) -> list[_Struct]:
    """The objects of a list, without those that are none."""
    found = []
    for item in listed:
        try:
            found.append(wire.decode(item, kind))
        except ParseError:  # one bad entry must not hide the others
            continue
    return found


def workload(answer: ExplorerAnswer) -> Workload:
    """One workload."""
    try:
        return parse_workload(_value(answer))
    except ParseError as error:
        raise ExplorerUnavailable(f"the answer is not a workload: {printable(error)}") from error
