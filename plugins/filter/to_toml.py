# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Filter ``tfgrid.gateway.to_toml``: a mapping as the text of a TOML file."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.tfgrid.gateway.plugins.plugin_utils import _toml

DOCUMENTATION = r"""
name: to_toml
short_description: A mapping as the text of a TOML file
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Mappings become tables, lists of mappings become arrays of tables, all else becomes values.
options:
  _input:
    description: The tables.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: A settings file
  ansible.builtin.copy:
    content: "{{ {'log': {'level': 'debug'}} | tfgrid.gateway.to_toml }}"
    dest: /etc/example.toml
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The text.
  type: str
  sample: |
    [log]
    level = "debug"
"""


def to_toml(tables: dict[str, Any]) -> str:
    """``_toml.to_toml``. Errors: ``AnsibleFilterError``."""
    try:
        return _toml.to_toml(tables)
    except (AttributeError, TypeError) as error:
        raise AnsibleFilterError(f"to_toml: {error}") from error


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Any]:
        return {"to_toml": to_toml}
