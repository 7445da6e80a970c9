# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Inventory plugin ``tfgrid.gateway.explorer``: the gateways of a farm."""

from __future__ import annotations

DOCUMENTATION = r"""
name: explorer
short_description: The gateways of a farm, as the explorer's directory knows them
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Lists the gateways that registered for your farms, grouped by farm, country, version and managed domain.
  - Names are those of a static inventory, so that both, given together, are one fleet; what the static one says of a
    host stays.
  - Reads a YAML file whose name is C(explorer.yml) or C(explorer.yaml), or ends with that after a dot.
  - Whatever comes from the explorer is marked as unsafe, so that it is never taken for a template.
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: Name of this plugin.
    type: str
    required: true
    choices: [tfgrid.gateway.explorer]
  url:
    description: The explorer's API.
    type: str
    default: https://explorer.grid.tf/api/v1
    env:
      - name: TFGATEWAY_EXPLORER
  farm_ids:
    description:
      - Your farms. Others are never listed, since everybody with a farm can put gateways into the directory, and a play
        would connect to them.
    type: list
    elements: int
    required: true
  hostnames:
    description:
      - Where a host's name comes from, the first that is usable and not another gateway's. V(name_server) is the
        gateway's first one.
      - V(short_name) is the first label of that, where it follows the naming rule C(tf-gateway-NAME).
    type: list
    elements: str
    choices: [short_name, name_server, node_id]
    default: [short_name, name_server, node_id]
  group:
    description: Name of the group that all of them are in.
    type: str
    default: gateways
  group_by:
    description:
      - Groups that are made, such as C(farm_1), C(country_belgium), C(version_0_1_0), C(domain_gw1_example).
      - A gateway says which version of its program runs; the digest of a build is no part of the group's name. V(os) is
        for one that says its operating system instead, as C(os_ubuntu_18_04).
    type: list
    elements: str
    choices: [farm, country, os, version, managed_domain]
    default: [farm, country, os, version, managed_domain]
  fallback:
    description:
      - File that is read when the explorer does not answer and the cache is empty, as
        C(tfgateway reserve gateways --json) prints it. A relative path begins at the inventory file.
    type: str
  timeout:
    description: Seconds for a request.
    type: float
    default: 15
  validate_certs:
    description: Whether the explorer's certificate has to be valid.
    type: bool
    default: true
notes:
  - C(ansible_host) is the gateway's first name server, unless another source has said something else before.
  - Every host has the variables C(tfgrid_node_id), C(tfgrid_farm_id), C(tfgrid_os_version), C(tfgrid_country),
    C(tfgrid_city), C(tfgrid_continent), C(tfgrid_managed_domains), C(tfgrid_name_servers), C(tfgrid_free_to_use),
    C(tfgrid_uptime) in seconds, and C(tfgrid_updated), the time of its last heartbeat as the explorer writes it.
"""

EXAMPLES = r"""
# production.explorer.yml
plugin: tfgrid.gateway.explorer
url: https://explorer.grid.tf/api/v1
farm_ids: [1]
fallback: gateways.json
compose:
  ansible_user: "'root'"
  ansible_port: 34022
keyed_groups:
  - key: tfgrid_city
    prefix: city
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/tfgrid.gateway/inventory
cache_timeout: 300
"""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.module_utils.urls import open_url
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.tfgrid.gateway.plugins.plugin_utils._directory import (
    LARGEST_PAGE,
    DirectoryError,
    fetch_all,
    host_names,
    name_server,
    read_file,
    says_system,
    variables,
)

_ENDINGS = ("explorer.yml", "explorer.yaml")
_GROUPS = {
    "farm": lambda found: [str(found["tfgrid_farm_id"])],
    "country": lambda found: [found["tfgrid_country"].lower()],
    "os": lambda found: [found["tfgrid_os_version"].lower()] if says_system(found) else [],
    "version": lambda found: [] if says_system(found) else [found["tfgrid_os_version"].lower().partition("+")[0]],
    "managed_domain": lambda found: [name.lower() for name in found["tfgrid_managed_domains"]],
}
_PREFIXES = {"farm": "farm", "country": "country", "os": "os", "version": "version", "managed_domain": "domain"}


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Fetching is in ``_entries``, building in ``_add``."""

    NAME = "tfgrid.gateway.explorer"

    def verify_file(self, path: str) -> bool:
        named = any(path.endswith(f".{ending}") or Path(path).name == ending for ending in _ENDINGS)
        return bool(super().verify_file(path)) and named

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        group = self.inventory.add_group(self.get_option("group"))
        farms = set(self.get_option("farm_ids"))
        for entry in self._entries(path, cache):
            found = variables(entry)
            if found["tfgrid_farm_id"] in farms:
                self._add(group, found)

    def _entries(self, path: str, cache: bool) -> list[dict[str, Any]]:
        """From the cache, else from the explorer, else from the file that stands in for it."""
        key = self.get_cache_key(path)
        caching = self.get_option("cache")
        if caching and cache and key in self._cache:
            cached: list[dict[str, Any]] = self._cache[key]
            return cached
        try:
            entries = [
                entry
                for farm_id in self.get_option("farm_ids")
                for entry in fetch_all(self._fetch, self.get_option("url"), farm_id)
            ]
        except DirectoryError as error:
            return self._stand_in(path, error)
        if caching:
            self._cache[key] = entries
        return entries

    def _stand_in(self, path: str, problem: DirectoryError) -> list[dict[str, Any]]:
        fallback = self.get_option("fallback")
        if not fallback:
            raise AnsibleParserError(f"{problem} (no fallback is configured)") from problem
        file = Path(path).parent / Path(fallback).expanduser()
        try:
            entries = read_file(file)
        except DirectoryError as error:
            raise AnsibleParserError(f"{problem}; and {error}") from error
        self.display.warning(f"{problem}; {file} stands in for it")
        return entries

    def _fetch(self, url: str) -> tuple[bytes, dict[str, str]]:
        timeout, validate = self.get_option("timeout"), self.get_option("validate_certs")
        # Its errors are OSErrors, down to a certificate that is not valid.
        answer = open_url(url, timeout=timeout, validate_certs=validate, headers={"Accept": "application/json"})
        return answer.read(LARGEST_PAGE + 1), {name.lower(): value for name, value in answer.headers.items()}

    def _add(self, group: str, found: dict[str, Any]) -> None:
        usable = host_names(found, self.get_option("hostnames"))
        name = next((one for one in usable if self._is_free(one, found["tfgrid_node_id"])), "")
        if not name:
            problem = f"the name {usable[-1]} is another gateway's" if usable else "no usable name"
            text = f"gateway {found['tfgrid_node_id'][:44]!r} of farm {found['tfgrid_farm_id']}: {problem}"
            if self.get_option("strict"):
                raise AnsibleParserError(text)
            self.display.warning(f"{text}; it is left out")
            return
        self.inventory.add_host(name, group)
        marked = wrap_var(found)
        for variable, value in marked.items():
            self.inventory.set_variable(name, variable, value)
        address = name_server(found)
        if address and "ansible_host" not in self.inventory.hosts[name].vars:
            self.inventory.set_variable(name, "ansible_host", wrap_var(address))
        for kind in self.get_option("group_by"):
            for value in filter(None, _GROUPS[kind](found)):
                made = self._sanitize_group_name(f"{_PREFIXES[kind]}_{value}")
                self.inventory.add_child(self.inventory.add_group(made), name)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), marked, name, strict)
        self._add_host_to_composed_groups(self.get_option("groups"), marked, name, strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), marked, name, strict)

    def _is_free(self, name: str, node_id: str) -> bool:
        """Whether no other gateway has the name, of this source or another; a static host has no node id."""
        host = self.inventory.hosts.get(name)
        known = None if host is None else host.vars.get("tfgrid_node_id")
        return known is None or known == node_id != ""
