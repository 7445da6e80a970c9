# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Lookup ``tfgrid.gateway.ssh_ports``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ssh_ports
short_description: At which of these ports an SSH server answers
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Connects from the controller, each time anew, and waits for an SSH server's greeting. Nobody logs in.
options:
  _terms:
    description: The ports, the preferred one first.
    type: list
    elements: int
    required: true
  host:
    description: Name or address of the host.
    type: str
    required: true
  timeout:
    description: Seconds after which the ports that have not answered are given up.
    type: float
    default: 10
  enough:
    description: After how many answers the others are not waited for; V(0) waits for all.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Connect where a fresh or a provisioned host answers
  ansible.builtin.set_fact:
    ansible_port: "{{ query('tfgrid.gateway.ssh_ports', 34022, 22, host=ansible_host, enough=1) | first }}"
"""

RETURN = r"""
_list:
  description: Those at which a server answers, in the order of the terms.
  type: list
  elements: int
  sample: [34022]
"""

from collections.abc import Mapping
from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.tfgrid.gateway.plugins.plugin_utils._ssh import answering


class LookupModule(LookupBase):
    """Asks in turn, until enough have answered."""

    def run(self, terms: list[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[int]:
        """See the documentation above."""
        self.set_options(var_options=variables, direct=kwargs)
        ports = [int(term) for term in terms]
        return answering(self.get_option("host"), ports, self.get_option("timeout"), self.get_option("enough"))
