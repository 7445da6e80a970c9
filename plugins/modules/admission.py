#!/usr/bin/python
# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: admission
short_description: Admit a gateway to a farm, as the farm's owner
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Brings the consent of a farm's owner to one gateway, and to its managed domains, to what it should be. An explorer
    whose registration is closed lets no gateway register without it.
  - Runs where the daemon's command and the owner's seed file are, often the controller (C(delegate_to=localhost)). What
    is secret stays there.
options:
  state:
    description: Whether the gateway is to be admitted. V(absent) takes it out of the directory of a closed explorer.
    type: str
    choices: [present, absent]
    default: present
  explorer:
    description: The explorer's API.
    type: str
    required: true
  seed:
    description: The owner's seed file, which holds the words and the tid.
    type: path
    required: true
  farm:
    description: Id of the farm.
    type: int
    required: true
  node:
    description: Id of the gateway.
    type: str
    required: true
  managed_domains:
    description: Managed domains that the gateway may have, and no others.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - tfgrid.gateway.attributes.program
  - tfgrid.gateway.attributes
  - tfgrid.gateway.attributes.changes
"""

EXAMPLES = r"""
- name: The farm admits the gateway
  tfgrid.gateway.admission:
    explorer: https://explorer.example/api/v1
    seed: ~/farmer.seed
    farm: 1
    node: FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF
    managed_domains: [tfgw-prod-01.gateway.example]
    program: /srv/tfgrid.gateway/.venv/bin/tfgateway
  delegate_to: localhost
"""

RETURN = r"""
managed_domains:
  description: Managed domains that the gateway may have, in lower case; null when it is not admitted.
  returned: success
  type: list
  elements: str
  sample: [tfgw-prod-01.gateway.example]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tfgrid.gateway.plugins.module_utils._daemon import PROGRAM_OPTION, DaemonError, call


def main():
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(type="str", choices=["present", "absent"], default="present"),
            explorer=dict(type="str", required=True),
            seed=dict(type="path", required=True, no_log=True),
            farm=dict(type="int", required=True),
            node=dict(type="str", required=True),
            managed_domains=dict(type="list", elements="str", default=[]),
            **PROGRAM_OPTION,
        ),
        supports_check_mode=True,
    )
    try:
        result = converge(module)
    except (DaemonError, KeyError) as error:
        module.fail_json(
            msg="farm %d, gateway %s: %s" % (module.params["farm"], module.params["node"], error), changed=False
        )
    module.exit_json(**result)


def converge(module):
    """What the module returns; before and after are known before anything is done."""
    params = module.params

    def farm(command, *words):
        owner = ["--explorer", params["explorer"], "--seed", params["seed"]]
        argv = [params["program"], "reserve"] + owner + ["farm", command, "--farm", str(params["farm"])]
        return call(module.run_command, argv + list(words))

    admitted = [one for one in farm("list") if one["node_id"] == params["node"]]
    before = sorted(admitted[0]["managed_domains"]) if admitted else None
    after = sorted({name.lower() for name in params["managed_domains"]}) if params["state"] == "present" else None
    result = dict(changed=before != after, managed_domains=after)
    if module._diff:
        result["diff"] = dict(before=_shown(before), after=_shown(after))
    if module.check_mode or not result["changed"]:
        return result
    node = ["--node", params["node"]]
    if after is None:
        farm("withdraw", *node)
    else:
        farm("admit", *(node + ["--managed-domain=%s" % name for name in after]))
    return result


def _shown(domains):
    return "not admitted\n" if domains is None else "admitted\n" + "".join("%s\n" % domain for domain in domains)


if __name__ == "__main__":
    main()
