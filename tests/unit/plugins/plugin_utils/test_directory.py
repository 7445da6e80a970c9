"""The directory over a real explorer and over hostile ones, and what is usable of an entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tfgrid.gateway.plugins.plugin_utils import _directory
from ansible_collections.tfgrid.gateway.plugins.plugin_utils._directory import (
    DirectoryError,
    fetch_all,
    host_names,
    parse,
    read_file,
    says_system,
    variables,
)
from hypothesis import given
from hypothesis import strategies as st

NODE = "FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF"
ENTRY = {"node_id": NODE, "farm_id": 1, "dns_nameserver": ["Tf-Gateway-01.example"], "managed_domains": None}


class Pages:
    """An explorer with one gateway a page, that tells of so many pages."""

    def __init__(self, *pages: list[Any], told: str | None = None) -> None:
        self.pages = pages
        self.told = str(len(pages)) if told is None else told
        self.asked: list[str] = []

    def __call__(self, url: str) -> tuple[bytes, dict[str, str]]:
        self.asked.append(url)
        number = len(self.asked)
        found = self.pages[number - 1] if number <= len(self.pages) else []
        return json.dumps(found).encode(), {"pages": self.told}


def test_every_page_is_fetched() -> None:
    explorer = Pages([{"id": 1}], [{"id": 2}], [{"id": 3}])
    assert [entry["id"] for entry in fetch_all(explorer, "https://e/api/v1/", 7)] == [1, 2, 3]
    assert explorer.asked[0] == "https://e/api/v1/gateways?farm_id=7&page=1&size=200"


@pytest.mark.parametrize("told", ["", "x", "-1", "9" * 30, "0"])
def test_without_a_usable_number_of_pages_there_is_one(told: str) -> None:
    explorer = Pages([{"id": 1}], [{"id": 2}], told=told)
    assert len(fetch_all(explorer, "https://e", 7)) == 1


def test_an_explorer_that_tells_of_pages_without_end_keeps_nobody_busy() -> None:
    explorer = Pages([{"id": 1}], told="999999999")
    fetch_all(explorer, "https://e", 7)
    assert len(explorer.asked) == 2


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"null", b"[" * 100_000, b"\xff"])
def test_what_is_no_list_of_gateways_is_an_error_that_names_the_place(body: bytes) -> None:
    with pytest.raises(DirectoryError, match=r"^here: is no"):
        parse(body, "here")


def test_a_page_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_directory, "LARGEST_PAGE", 3)
    with pytest.raises(DirectoryError, match="larger than 3 bytes"):
        parse(b"[  ]", "here")


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match="No such file"):
        read_file(tmp_path / "none.json")


ALL = ["short_name", "name_server", "node_id"]


def test_a_host_has_the_name_of_a_static_inventory_else_its_name_server_else_its_id() -> None:
    assert host_names(variables(ENTRY), ALL) == ["tf-gateway-01", "tf-gateway-01.example", NODE]
    assert host_names(variables(ENTRY), ["node_id", "name_server"]) == [NODE, "tf-gateway-01.example"]
    assert host_names(variables({**ENTRY, "dns_nameserver": ["NS1.example"]}), ALL) == ["ns1.example", NODE]
    for wrong in ("a b", "x\n", "-oProxyCommand=x", "../x", "", "a" * 64, "{{ x }}"):
        assert host_names(variables({**ENTRY, "dns_nameserver": [wrong]}), ALL) == [NODE]
    assert host_names(variables({"node_id": "0OIl"}), ALL) == []


@pytest.mark.parametrize(
    ("text", "system"),
    [
        ("Ubuntu 18.04", True),
        ("Ubuntu 18.04.6 LTS", True),
        ("Debian GNU/Linux 12 (bookworm)", True),
        ("Arch Linux", True),
        ("0.1.0+b1b6bb3af2b9", False),
        ("master@59aa105", False),
        ("v2.0.1", False),
        ("main", False),
        ("", False),
    ],
)
def test_a_version_of_a_program_is_no_operating_system(text: str, system: bool) -> None:
    assert says_system(variables({**ENTRY, "os_version": text})) is system


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys([*ENTRY, "location", "updated", "uptime"], json_values)))
def test_variables_have_their_types_whatever_the_explorer_says(entry: dict[str, Any]) -> None:
    found = variables(entry)
    assert {name: type(value) for name, value in found.items() if name != "tfgrid_updated"} == {
        name: type(value) for name, value in variables({}).items() if name != "tfgrid_updated"
    }
    assert all(isinstance(name, str) for name in found["tfgrid_name_servers"] + found["tfgrid_managed_domains"])
    assert json.loads(json.dumps(found)) == found
