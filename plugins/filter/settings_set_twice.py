# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Filter ``tfgrid.gateway.settings_set_twice``: what ``gateway_settings`` sets although it has a variable."""

from __future__ import annotations

from typing import Any

from ansible_collections.tfgrid.gateway.plugins.plugin_utils import _settings

DOCUMENTATION = r"""
name: settings_set_twice
short_description: Settings that C(gateway_settings) sets although they have a variable of their own
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Role P(tfgrid.gateway.gateway#role) has variables for common settings, and C(gateway_settings) for all others.
  - A setting that stands in both places would be decided by chance.
options:
  _input:
    description: The value of C(gateway_settings).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: No setting is set twice
  ansible.builtin.assert:
    that: gateway_settings | tfgrid.gateway.settings_set_twice | length == 0
"""

RETURN = r"""
_value:
  description: A sentence for each, with both places.
  type: list
  elements: str
  sample:
    - 'gateway_settings sets log.level, which gateway_log_level sets already: remove it from gateway_settings'
"""


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Any]:
        return {"settings_set_twice": _settings.set_twice}
