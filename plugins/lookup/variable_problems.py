# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Lookup ``tfgrid.gateway.variable_problems``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: variable_problems
short_description: What is wrong with a host's values for the roles' variables
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Checks every variable of the collection's roles that the host has a value for, before a node is touched. First its
    type and choices, as the role's argument specification says, then that a port is a port, a network is a network, and
    so on. Names, farm, explorer and words are left to P(tfgrid.gateway.preflight#role).
  - No secret is repeated.
options:
  _terms:
    description: The host.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: The variables have values that the roles can use
  ansible.builtin.assert:
    that: problems == []
    fail_msg: "{{ problems }}"
  vars:
    problems: "{{ query('tfgrid.gateway.variable_problems', inventory_hostname) }}"
"""

RETURN = r"""
_list:
  description: A line for each variable whose value is wrong.
  type: list
  elements: str
  sample: ["wireguard_port of tf-gateway-prod-01: 70000 is not a port, 1 to 65535"]
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.plugins.lookup import LookupBase
from ansible_collections.tfgrid.gateway.plugins.plugin_utils._variables import is_secret, problems, specifications
from jinja2 import Undefined, UndefinedError

_ROLES = Path(__file__).resolve().parents[2] / "roles"


class LookupModule(LookupBase):
    """Values are those of the inventory and the command line; what follows from them in a role's defaults is right."""

    def run(self, terms: list[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """See the documentation above."""
        self.set_options(var_options=variables, direct=kwargs)
        specified = specifications(_ROLES)
        (host,) = terms
        values = (variables or {})["hostvars"].raw_get(host)
        given, said = {}, {}
        for name in filter(values.__contains__, specified):
            try:
                given[name] = _plain(self._templar.template(values[name]))
            except (AnsibleError, UndefinedError) as error:
                if not _not_yet(error):
                    text = "" if is_secret(specified[name]) else f": {' '.join(str(error).split())}"
                    said[name] = f"it cannot be evaluated{text}"
        said.update(problems(given, specified))
        return [f"{name} of {host}: {problem}" for name, problem in sorted(said.items())]


def _plain(value: Any) -> Any:
    """Without the types that a template engine gives to what it makes. Errors: UndefinedError."""
    if isinstance(value, Undefined):
        str(value)  # raises: newer ansible-core gives one instead of an error
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def _not_yet(error: Exception) -> bool:
    """Whether a value is only undefined, as one that is made of facts is before they are gathered."""
    source = getattr(error, "source", None)  # of newer ansible-core, for which a broken template is undefined too
    return isinstance(error, (AnsibleUndefinedVariable, UndefinedError)) and not hasattr(type(source), "_as_exception")
