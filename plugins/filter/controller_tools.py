# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Filter ``tfgrid.gateway.controller_tools``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: controller_tools
short_description: What this controller has of what a run needs
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Looks for each tool where Ansible runs, and says what to install where it is missing or too old.
options:
  _input:
    description:
      - Names of tools, out of V(python), V(ansible-core), V(uv), V(tfgateway), V(dnspython), V(mnemonic),
        V(ansible.posix) and V(community.general).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: The controller can build a release
  ansible.builtin.assert:
    that: problems == []
    fail_msg: "{{ problems }}"
  vars:
    problems: "{{ ['python', 'uv'] | tfgrid.gateway.controller_tools | map(attribute='problem') | select | list }}"
"""

RETURN = r"""
_value:
  description: One mapping a tool.
  type: list
  elements: dict
  sample: [{"name": "uv", "found": "", "problem": "there is no command uv, beside Ansible or on PATH: pip install uv"}]
  contains:
    name:
      description: The tool.
      type: str
    found:
      description: Its version or path, empty when it is missing.
      type: str
    problem:
      description: What is wrong and what to do, empty when nothing is.
      type: str
"""

from collections.abc import Iterable
from typing import Any

from ansible_collections.tfgrid.gateway.plugins.plugin_utils._controller import look


def controller_tools(names: Iterable[str]) -> list[dict[str, str]]:
    """See the documentation above."""
    return [look(str(name)) for name in names]


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Any]:
        return {"controller_tools": controller_tools}
