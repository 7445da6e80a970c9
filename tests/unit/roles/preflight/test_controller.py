"""Which tools preflight looks for on the controller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

PREFLIGHT = {"name": "tfgrid.gateway.preflight", "tasks_from": "controller", "public": True}
SHOW = {"name": "Tools", "ansible.builtin.debug": {"msg": "{{ _preflight_tools }}"}}
ALWAYS = ["python", "ansible-core", "uv", "ansible.posix", "community.general"]


@pytest.mark.parametrize(
    ("hosts", "tools"),
    [
        ({"a": {}, "b": {}}, ALWAYS),
        ({"a": {}, "b": {"identity_words": ""}}, ALWAYS),
        ({"a": {}, "b": {"identity_words": "abandon"}}, [*ALWAYS, "mnemonic"]),
        ({"a": {}, "b": {"gateway_farm_seed": "/farmer.seed"}}, [*ALWAYS, "tfgateway"]),
        ({"a": {"gateway_farm_seed": "/farmer.seed", "gateway_farm_program": "/tfgateway"}}, ALWAYS),
        ({"a": {"_preflight_more_tools": ["dnspython"]}}, [*ALWAYS, "dnspython"]),
    ],
    ids=["no-words", "empty-words", "words", "owner", "owner-with-program", "more"],
)
def test_it_looks_for_what_the_inventory_asks_for(
    playbook: Callable[..., Any], hosts: dict[str, dict[str, Any]], tools: list[str]
) -> None:
    run = playbook([{"ansible.builtin.include_role": PREFLIGHT}, SHOW], hosts)
    assert run.code == 0, run.output
    assert run.tasks["Tools"]["a"]["msg"] == tools


@pytest.mark.parametrize(("others", "built"), [({}, False), ({"b": {"gateway_prebuilt": ""}}, True)])
def test_uv_is_needed_where_a_host_has_no_prebuilt_release(
    evaluate: Callable[..., Any], others: dict[str, dict[str, Any]], built: bool
) -> None:
    values = evaluate("preflight", {"tools": "_preflight_tools"}, {"a": {"gateway_prebuilt": "/prebuilt.tar"}} | others)
    assert ("uv" in values["a"]["tools"]) is built
