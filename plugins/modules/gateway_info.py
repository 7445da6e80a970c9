#!/usr/bin/python
# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: gateway_info
short_description: Who a gateway is, and how its planes fare
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Identity, version, what the gateway is configured to be, and for each plane whether it answers and what it counts.
  - Asks the daemon's own command on the node, which asks nobody outside.
extends_documentation_fragment:
  - tfgrid.gateway.attributes
  - tfgrid.gateway.attributes.looks
  - tfgrid.gateway.attributes.program
  - tfgrid.gateway.attributes.daemon
"""

EXAMPLES = r"""
- name: Look at the gateway
  tfgrid.gateway.gateway_info:
  register: gateway

- name: Every plane answers
  ansible.builtin.assert:
    that: gateway.planes | rejectattr("answers") | list == []
"""

RETURN = r"""
version:
  description: Version of the daemon.
  returned: success
  type: str
  sample: 0.1.0+50bef1778e53
time:
  description: The node's clock, Unix seconds.
  returned: success
  type: float
  sample: 1789000000.5
node_id:
  description: Identity of the gateway.
  returned: success
  type: str
  sample: FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF
tid:
  description: Threebot id in the seed file, or null.
  returned: success
  type: int
  sample: 12
explorer:
  description: The explorer that it follows.
  returned: success
  type: str
  sample: https://explorer.grid.tf/api/v1
directory:
  description: >-
    What became of its entry in the explorer's directory: C(state) is V(pending), V(listed), V(refused) or
    V(unavailable), with a C(reason); null when redis does not answer.
  returned: success
  type: dict
  sample: {"state": "listed", "reason": ""}
group:
  description: >-
    How its group stands, as it sees it: the host whose reconciler leads (C(leader)), the C(master) of redis as most
    Sentinels name it, the C(role) of its own redis and its C(lag) in seconds (null: not connected), how many
    C(replicas) a master has, and how many of the C(sentinels) are C(agreeing); null when it is in no group.
  returned: success
  type: dict
  sample:
    leader: gw-a
    master: 192.0.2.1:6380
    role: replica
    lag: 0.0
    replicas: null
    sentinels: 3
    agreeing: 3
farm_id:
  description: The farm that it belongs to.
  returned: success
  type: int
  sample: 1
managed_domains:
  description: Zones in which any user may reserve names.
  returned: success
  type: list
  elements: str
  sample: [tfgw-prod-01.gateway.tf]
name_servers:
  description: Names of its DNS server.
  returned: success
  type: list
  elements: str
  sample: [tf-gateway-prod-01.gateway.tf]
fourtosix_endpoint:
  description: Where users connect to for IPv6; empty when it gives none.
  returned: success
  type: str
  sample: 203.0.113.1:3443
planes:
  description: The planes that the configuration asks for.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: One of V(reconciler), V(dns), V(proxy), V(fourtosix).
      type: str
    answers:
      description: Whether its metrics page answers.
      type: bool
    metrics:
      description: Its gauges and counters, summed over their labels.
      type: dict
  sample:
    - name: fourtosix
      answers: true
      metrics: {"tfgateway_fourtosix_peers": 3.0, "tfgateway_fourtosix_peers_alive": 2.0}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tfgrid.gateway.plugins.module_utils._daemon import DAEMON_OPTIONS, DaemonError, ask


def main():
    module = AnsibleModule(argument_spec=dict(DAEMON_OPTIONS), supports_check_mode=True)
    try:
        found = ask(module.run_command, module.params, ["info"])
    except DaemonError as error:
        module.fail_json(msg="nothing is known about this gateway: %s" % error)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
