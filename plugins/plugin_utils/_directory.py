# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""The explorer's directory of gateways: fetched page by page, or read from a file; and what is usable of an entry."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

# (url) -> (body, headers by lower-case name); raises OSError.
Fetch = Callable[[str], tuple[bytes, dict[str, str]]]

PAGE_SIZE = 200
MOST_PAGES = 500
LARGEST_PAGE = 16 * 1024 * 1024  # bytes

_NAME = re.compile(
    r"(?=.{1,253}\Z)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_NAMED_BY_RULE = re.compile(r"tf-gateway-[a-z0-9-]+")
_SYSTEM = re.compile(r"[A-Za-z][A-Za-z /]* [0-9][0-9.]*( .*)?|[Aa]rch( ?[Ll]inux)?")
_NODE_ID = re.compile(r"[1-9A-HJ-NP-Za-km-z]{32,44}")


class DirectoryError(Exception):
    """The directory cannot be had; the text is for an operator."""


def fetch_all(fetch: Fetch, url: str, farm_id: int) -> list[dict[str, Any]]:
    """Every entry of a farm, as the explorer gives it: as many pages as the header ``Pages`` of the first says.

    url: the API, such as https://explorer.grid.tf/api/v1. Errors: DirectoryError.
    """
    entries: list[dict[str, Any]] = []
    page = pages = 1
    while page <= pages:
        query = urlencode({"farm_id": farm_id, "page": page, "size": PAGE_SIZE})
        address = f"{url.rstrip('/')}/gateways?{query}"
        try:
            body, headers = fetch(address)
        except OSError as error:
            raise DirectoryError(f"{address}: {error}") from error
        found = parse(body, address)
        entries += found
        announced = headers.get("pages", "")
        pages = min(int(announced), MOST_PAGES) if re.fullmatch(r"[0-9]{1,9}", announced) else page
        page = page + 1 if found else pages + 1  # one that announces more pages than it has keeps nobody busy
    return entries


def read_file(path: Path) -> list[dict[str, Any]]:
    """Entries of all farms in a file, as ``tfgateway reserve gateways --json`` prints them. Errors: DirectoryError."""
    try:
        with path.open("rb") as file:
            body = file.read(LARGEST_PAGE + 1)
    except OSError as error:
        raise DirectoryError(f"{path}: {error.strerror}") from error
    return parse(body, str(path))


def parse(body: bytes, where: str) -> list[dict[str, Any]]:
    """The objects of a JSON list. Errors: DirectoryError."""
    if len(body) > LARGEST_PAGE:
        raise DirectoryError(f"{where}: larger than {LARGEST_PAGE} bytes")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise DirectoryError(f"{where}: is no JSON") from None
    if not isinstance(found, list):
        raise DirectoryError(f"{where}: is no list of gateways")
    return [entry for entry in found if isinstance(entry, dict)]


def variables(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry as host variables, each of the type that it should have, whatever the explorer says."""
    location = entry.get("location")
    location = location if isinstance(location, dict) else {}
    return {
        "tfgrid_node_id": _text(entry.get("node_id")),
        "tfgrid_farm_id": _integer(entry.get("farm_id")),
        "tfgrid_os_version": _text(entry.get("os_version")),
        "tfgrid_country": _text(location.get("country")),
        "tfgrid_city": _text(location.get("city")),
        "tfgrid_continent": _text(location.get("continent")),
        "tfgrid_managed_domains": _texts(entry.get("managed_domains")),
        "tfgrid_name_servers": _texts(entry.get("dns_nameserver")),
        "tfgrid_free_to_use": entry.get("free_to_use") is True,
        "tfgrid_uptime": _integer(entry.get("uptime")),
        "tfgrid_updated": _integer(entry.get("updated")) or _text(entry.get("updated")),
    }


def host_names(found: dict[str, Any], preference: list[str]) -> list[str]:
    """Usable names of a host, the preferred ones first. preference: of short_name, name_server, node_id."""
    server = name_server(found)
    label = server.partition(".")[0]
    names = {
        "short_name": label if _NAMED_BY_RULE.fullmatch(label) else "",
        "name_server": server,
        "node_id": found["tfgrid_node_id"] if _NODE_ID.fullmatch(found["tfgrid_node_id"]) else "",
    }
    return [names[kind] for kind in preference if names[kind]]


def name_server(found: dict[str, Any]) -> str:
    """The first name server of a host's variables, in lower case; empty when it is no name."""
    first = "".join(found["tfgrid_name_servers"][:1])
    return first.lower() if _NAME.fullmatch(first) else ""


def says_system(found: dict[str, Any]) -> bool:
    """Whether ``os_version`` names an operating system; gateways put the version of their program there."""
    return _SYSTEM.fullmatch(found["tfgrid_os_version"]) is not None


def _text(value: object) -> str:
    return value[:1000] if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    return [_text(item) for item in value[:1000] if isinstance(item, str)] if isinstance(value, list) else []


def _integer(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
