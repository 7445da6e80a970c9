# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Filter ``tfgrid.gateway.fleet_table``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_table
short_description: A fleet's report as text
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - One line a gateway, then what is wrong, then the sum.
extends_documentation_fragment:
  - tfgrid.gateway.fleet
"""

EXAMPLES = r"""
- name: Show it
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts_all | tfgrid.gateway.fleet_report(hostvars) | tfgrid.gateway.fleet_table }}"
"""

RETURN = r"""
_value:
  description: The table.
  type: str
  sample: "1 gateways: 1 ok; 4 reservations: 4 in_sync"
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.tfgrid.gateway.plugins.plugin_utils._fleet import table


def fleet_table(made: Mapping[str, Any]) -> str:
    """See the documentation above."""
    return table(made)


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Any]:
        return {"fleet_table": fleet_table}
