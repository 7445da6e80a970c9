#!/usr/bin/python
# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: dns_record
short_description: Set or remove DNS records of a name, as a user of a gateway
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Brings the records of one name and type to what they should be, by a DNS update that the user's key signs.
  - The name has to be the user's on the gateway, in a domain that they delegated, or a subdomain in a managed domain.
  - Runs where the daemon's command and the user's seed file are, often the controller (C(delegate_to=localhost)).
options:
  state:
    description: Whether there are exactly these records of the type, or whether there are none of them.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: The whole name; the final dot may be missing.
    type: str
    required: true
  type:
    description: Type of the records. Without it, O(state=absent) removes all that updates have made of the name.
    type: str
    choices: [A, AAAA, CAA, CNAME, DS, HTTPS, MX, NS, PTR, SRV, SSHFP, SVCB, TLSA, TXT]
  data:
    description:
      - Data of each record, as in a zone file. Required for O(state=present).
      - With O(state=absent), only these are removed; without it, all of the type.
    type: list
    elements: str
    default: []
  ttl:
    description: Seconds. A longer one alone is no change.
    type: int
    default: 300
  node:
    description: Id of the gateway.
    type: str
    required: true
  server:
    description: Where the gateway answers DNS, as HOST or HOST:PORT; by default what the explorer knows.
    type: str
  explorer:
    description: The explorer's API.
    type: str
    required: true
  seed:
    description: The user's seed file, which holds the words and the tid.
    type: path
    required: true
extends_documentation_fragment:
  - tfgrid.gateway.attributes.program
  - tfgrid.gateway.attributes
  - tfgrid.gateway.attributes.changes
"""

EXAMPLES = r"""
- name: Mail of a delegated domain
  tfgrid.gateway.dns_record:
    name: alice.example
    type: MX
    data: ["10 mail.alice.example."]
    node: FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF
    explorer: https://explorer.grid.tf/api/v1
    seed: ~/alice.seed
    program: /srv/tfgrid.gateway/.venv/bin/tfgateway
  delegate_to: localhost

- name: Only one certificate authority
  tfgrid.gateway.dns_record:
    name: www.tfgw-prod-01.gateway.tf
    type: CAA
    data: ['0 issue "letsencrypt.org"']
    node: FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF
    explorer: https://explorer.grid.tf/api/v1
    seed: ~/alice.seed
"""

RETURN = r"""
records:
  description: The records of the name and type; in check mode, as they would be.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The whole name, without a final dot.
      type: str
    type:
      description: Type of the record.
      type: str
    ttl:
      description: Seconds.
      type: int
    data:
      description: As in a zone file.
      type: str
  sample:
    - {"name": "alice.example", "type": "MX", "ttl": 300, "data": "10 mail.alice.example."}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tfgrid.gateway.plugins.module_utils._daemon import PROGRAM_OPTION, DaemonError, call

TYPES = ["A", "AAAA", "CAA", "CNAME", "DS", "HTTPS", "MX", "NS", "PTR", "SRV", "SSHFP", "SVCB", "TLSA", "TXT"]


def main():
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(type="str", choices=["present", "absent"], default="present"),
            name=dict(type="str", required=True),
            type=dict(type="str", choices=TYPES),
            data=dict(type="list", elements="str", default=[]),
            ttl=dict(type="int", default=300),
            node=dict(type="str", required=True),
            server=dict(type="str"),
            explorer=dict(type="str", required=True),
            seed=dict(type="path", required=True, no_log=False),
            **PROGRAM_OPTION,
        ),
        required_if=[("state", "present", ["type"])],
        supports_check_mode=True,
    )
    params = module.params
    if params["state"] == "present" and not params["data"]:
        module.fail_json(msg="state is present but data is empty: name the data of each record")
    if params["data"] and not params["type"]:
        module.fail_json(msg="data needs type: name the type of the records")
    try:
        answer = call(module.run_command, command(params, module.check_mode))
    except DaemonError as error:
        module.fail_json(msg="%s: %s" % (params["name"], error))
    result = dict(changed=answer["changed"], records=answer["after"])
    if module._diff:
        result["diff"] = dict(before=answer["before"], after=answer["after"])
    module.exit_json(**result)


def command(params, check):
    """The command that looks, and changes what differs."""
    words = [params["program"], "reserve", "--explorer", params["explorer"], "--seed", params["seed"], "record"]
    if params["state"] == "present":
        words += ["add", "--replace", "--ttl", str(params["ttl"])]
    else:
        words += ["remove"]
    words += ["--node", params["node"]]
    if params["server"]:
        words += ["--server", params["server"]]
    if check:
        words += ["--check"]
    words += [params["name"]]
    if params["type"]:
        words += [params["type"]] + params["data"]
    return words


if __name__ == "__main__":
    main()
