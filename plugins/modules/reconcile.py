#!/usr/bin/python
# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: reconcile
short_description: Bring a gateway in step with the explorer
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Compares what the explorer wants with what the gateway recorded and what redis holds, and repairs the difference.
  - Where the reconciler runs it makes the changes itself, within its next passes, and this module waits for them. Where
    it does not, the module has one pass made.
  - In check mode nothing is changed, and the diff is the plan.
options:
  allow_removals:
    description:
      - Allow the removals that are held back because they are too many at once, and end the reservations that the
        explorer does not know any more.
      - A reconciler that runs is allowed exactly those that a plan shows now, for ten minutes.
    type: bool
    default: false
  timeout:
    description: Seconds to wait until there is nothing left to do.
    type: float
    default: 60
extends_documentation_fragment:
  - tfgrid.gateway.attributes
  - tfgrid.gateway.attributes.changes
  - tfgrid.gateway.attributes.program
  - tfgrid.gateway.attributes.daemon
"""

EXAMPLES = r"""
- name: What would be changed? (with --check --diff)
  tfgrid.gateway.reconcile:

- name: Repair, and let go of a whole farm's reservations at once
  tfgrid.gateway.reconcile:
    allow_removals: true
"""

RETURN = r"""
steps:
  description: What was to be done when the module began.
  returned: when the daemon answered
  type: list
  elements: dict
  contains:
    action:
      description: For example V(deploy), V(remove), V(repair) or V(report).
      type: str
    id:
      description: Global id of the workload; empty for what concerns none.
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
    message:
      description: Why.
      type: str
    rows:
      description: Rows of redis that change, by name.
      type: list
      elements: str
  sample:
    - action: repair
      id: 311-1
      type: subdomain
      domain: www.gw1.example
      user: "7"
      message: ""
      rows: ["gw1.example. www"]
summary:
  description: Number of steps by action.
  returned: when the daemon answered
  type: dict
  sample: {"repair": 1}
problems:
  description: What cannot be done, in words.
  returned: when the daemon answered
  type: list
  elements: str
  sample: []
held:
  description: Why removals are held back; empty when they are not.
  returned: when the daemon answered
  type: str
  sample: ""
held_steps:
  description: The removals that are held back, like RV(steps).
  returned: when the daemon answered
  type: list
  elements: dict
  sample: []
orphans:
  description: How reservations would end that the explorer does not know any more, like RV(steps).
  returned: when the daemon answered
  type: list
  elements: dict
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tfgrid.gateway.plugins.module_utils._daemon import DAEMON_OPTIONS, DaemonError
from ansible_collections.tfgrid.gateway.plugins.module_utils._reconcile import Reconciler, consented, lines


def main():
    module = AnsibleModule(
        argument_spec=dict(
            allow_removals=dict(type="bool", default=False), timeout=dict(type="float", default=60.0), **DAEMON_OPTIONS
        ),
        supports_check_mode=True,
    )
    reconciler = Reconciler(module.run_command, module.params)
    result = dict(changed=False)
    try:
        plan = reconciler.plan()
        allowed = consented(plan) if module.params["allow_removals"] else []
        result.update(plan, changed=bool(plan["steps"] or allowed))
        if module._diff:
            result["diff"] = dict(prepared=lines(plan["steps"] + allowed))
        if not module.check_mode:
            if plan["held"] and not module.params["allow_removals"]:
                module.fail_json(msg="removals are held back: %s (see allow_removals)" % plan["held"], **result)
            if result["changed"]:
                reconciler.repair()
    except (DaemonError, KeyError) as error:
        module.fail_json(msg="the gateway is not in step: %s" % error, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
