#!/usr/bin/python
# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: reservation_state
short_description: Compare a gateway's reservations with what it really serves
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - For each reservation, compares what the explorer wants, what the reconciler recorded, what redis holds and what
    DNS and proxy really answer, and gives one verdict.
  - Asks the daemon's own command on the node and changes nothing.
options:
  ids:
    description: Reservations to look at, for example V(311-1); all when empty.
    type: list
    elements: str
    default: []
  fail_on:
    description:
      - Verdicts that make the module fail.
      - V(pending), V(failed) and V(target_down) may be their user's business alone.
    type: list
    elements: str
    choices: [in_sync, pending, missing, drifted, orphaned, failed, unreported, target_down]
    default: [missing, drifted, orphaned, unreported]
extends_documentation_fragment:
  - tfgrid.gateway.attributes
  - tfgrid.gateway.attributes.looks
  - tfgrid.gateway.attributes.program
  - tfgrid.gateway.attributes.daemon
"""

EXAMPLES = r"""
- name: Every reservation of every gateway is served
  tfgrid.gateway.reservation_state:

- name: One reservation has to be there, and has to be served
  tfgrid.gateway.reservation_state:
    ids: [311-1]
    fail_on: [pending, missing, drifted, orphaned, failed, unreported, target_down]
"""

RETURN = r"""
node_id:
  description: Identity of the gateway.
  returned: when the daemon answered
  type: str
  sample: FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF
version:
  description: Version of the daemon that answered.
  returned: when the daemon answered
  type: str
  sample: 0.1.0+50bef1778e53
in_sync:
  description: Whether no reservation has a verdict of O(fail_on).
  returned: when the daemon answered
  type: bool
  sample: true
summary:
  description: Number of reservations by verdict.
  returned: when the daemon answered
  type: dict
  sample: {"in_sync": 4}
reconciler:
  description: How the reconciler fares, or null. Times in Unix seconds.
  returned: when the daemon answered
  type: dict
  sample: {"last_poll": 1789000000.5, "last_success": 1789000000.6, "outbox": 0, "repaired": 0}
problems:
  description: What kept the daemon from looking everywhere, for example an explorer that is away.
  returned: when the daemon answered
  type: list
  elements: str
  sample: []
notes:
  description: What an operator should know although nothing is wrong, such as that redis is open to local programs.
  returned: when the daemon answered
  type: list
  elements: str
  sample: []
reservations:
  description: The reservations, in the order of their ids.
  returned: when the daemon answered
  type: list
  elements: dict
  contains:
    id:
      description: Global id of the workload.
      type: str
    type:
      description: Kind of reservation.
      type: str
    domain:
      description: Name that is reserved.
      type: str
    user:
      description: Threebot id of the user.
      type: str
    verdict:
      description:
        - One of V(in_sync), V(pending), V(missing), V(drifted), V(orphaned), V(failed), V(unreported), V(target_down).
      type: str
    message:
      description: What is wrong, in words; empty when nothing is.
      type: str
    explorer:
      description: State at the explorer (C(next_action), C(result_state)), or null.
      type: dict
    recorded:
      description: Whether the reconciler recorded it.
      type: bool
    redis:
      description: Whether redis holds its data.
      type: bool
    served:
      description: Whether DNS or proxy answered as it demands; null when that was not asked.
      type: bool
    tunnel:
      description: The connected client of a reverse tunnel (C(since) in Unix seconds, C(source)), or null.
      type: dict
  sample:
    - id: 311-1
      type: subdomain
      domain: www.gw1.example
      user: "7"
      verdict: in_sync
      message: ""
      explorer: {"next_action": 3, "result_state": 1}
      recorded: true
      redis: true
      served: true
      tunnel: null
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tfgrid.gateway.plugins.module_utils._daemon import DAEMON_OPTIONS, DaemonError, ask
from ansible_collections.tfgrid.gateway.plugins.module_utils._reservations import (
    VERDICTS,
    count,
    listing,
    select,
    sentence,
)


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ids=dict(type="list", elements="str", default=[]),
            fail_on=dict(
                type="list", elements="str", choices=VERDICTS, default=["missing", "drifted", "orphaned", "unreported"]
            ),
            **DAEMON_OPTIONS,
        ),
        supports_check_mode=True,
    )
    try:
        state = ask(module.run_command, module.params, ["state"])
        chosen, unknown = select(state["reservations"], module.params["ids"])
    except (DaemonError, KeyError) as error:
        module.fail_json(msg="the state of this gateway is not known: %s" % error)
    wrong = [item for item in chosen if item["verdict"] in module.params["fail_on"]]
    result = dict(
        changed=False,
        node_id=state.get("node_id", ""),
        version=state.get("version", ""),
        in_sync=not wrong,
        summary=count(chosen),
        reconciler=state.get("reconciler"),
        problems=state.get("problems", []),
        notes=state.get("notes", []),
        reservations=chosen,
    )
    if unknown:
        module.fail_json(msg="no such reservation on this gateway: %s" % ", ".join(unknown), **result)
    message = ". ".join([sentence(chosen)] + ([listing(wrong)] if wrong else []) + result["problems"])
    if wrong:
        module.fail_json(msg=message, **result)
    module.exit_json(msg=message, **result)


if __name__ == "__main__":
    main()
