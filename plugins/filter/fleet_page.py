# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Filter ``tfgrid.gateway.fleet_page``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_page
short_description: A fleet's report as one HTML page
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - The page needs nothing from outside and runs no script.
extends_documentation_fragment:
  - tfgrid.gateway.fleet
"""

EXAMPLES = r"""
- name: Show it
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts_all | tfgrid.gateway.fleet_report(hostvars) | tfgrid.gateway.fleet_page }}"
"""

RETURN = r"""
_value:
  description: The page.
  type: str
  sample: <!doctype html>...
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.tfgrid.gateway.plugins.plugin_utils._page import page


def fleet_page(made: Mapping[str, Any]) -> str:
    """See the documentation above."""
    return page(made)


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Any]:
        return {"fleet_page": fleet_page}
