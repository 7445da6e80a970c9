# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Filter ``tfgrid.gateway.fleet_report``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_report
short_description: A report of a fleet out of what the modules said about each gateway
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Takes what gateway_info, reservation_state and reconcile returned for each gateway, also where they failed.
options:
  _input:
    description: Names of the gateways, in the order of the report.
    type: list
    elements: str
    required: true
  hostvars:
    description:
      - Variables by host. C(fleet_info), C(fleet_state) and C(fleet_plan) are what the modules returned.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show it
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts_all | tfgrid.gateway.fleet_report(hostvars) }}"
"""

RETURN = r"""
_value:
  description: The report; C(healthy) says whether anybody has to look, C(nodes) has an entry a gateway.
  type: dict
  sample:
    generated: "2026-09-10T00:26:40Z"
    healthy: true
    statuses: {"ok": 7, "attention": 0, "down": 0}
    versions: {"0.1.0+50bef1778e53": 7}
    reservations: 12
    nodes: []
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.tfgrid.gateway.plugins.plugin_utils._fleet import report


def fleet_report(names: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """See the documentation above."""
    parts = ("info", "state", "plan")
    looks = [{"name": name, **{part: hostvars[name].get(f"fleet_{part}") for part in parts}} for name in names]
    return report(looks, time.time())


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Any]:
        return {"fleet_report": fleet_report}
