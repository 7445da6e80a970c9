#!/usr/bin/python
# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: reservation
short_description: Reserve a name, a proxy, a tunnel or IPv6 on a gateway, as a user
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Brings one reservation of a user to what it should be, and waits until the gateway serves it.
  - A reservation is known by its type, its domain and its gateway. Reservations cannot be changed, so one that differs
    is deleted, and made again once the gateway has removed it.
  - Subdomains below a V(domain_delegate) that is removed are not served until it is there again, and are refused when
    that takes longer than the gateway waits (C(gateway_parent_timeout) of role gateway).
  - Runs where the daemon's command and the user's seed file are, often the controller (C(delegate_to=localhost)). What
    is secret stays there. The secret of a tunnel is encrypted for the gateway before it leaves.
options:
  state:
    description: Whether the reservation is to be there.
    type: str
    choices: [present, absent]
    default: present
  type:
    description: The explorer's name of the type.
    type: str
    choices: [subdomain, domain_delegate, proxy, reverse_proxy, gateway4to6]
    required: true
  explorer:
    description: The explorer's API.
    type: str
    required: true
  seed:
    description: The user's seed file, which holds the words and the tid.
    type: path
    required: true
  node:
    description: Id of the gateway. Without it, O(state=absent) looks on all of them.
    type: str
  domain:
    description: The name; for every type but V(gateway4to6), of which a user has one on a gateway.
    type: str
  ips:
    description: IPv4 and IPv6 addresses of a V(subdomain).
    type: list
    elements: str
  addr:
    description: Address of the server behind a V(proxy).
    type: str
  port:
    description: HTTP port of the server behind a V(proxy), V(80) when not set.
    type: int
  port_tls:
    description: TLS port of the server behind a V(proxy), V(443) when not set.
    type: int
  secret_file:
    description:
      - File with the secret of a V(reverse_proxy)'s tunnel, which the tunnel client needs; made when absent.
      - Another secret in it is not noticed. Delete the reservation to have it made with that one.
    type: path
  public_key:
    description: WireGuard key of the user for V(gateway4to6), base64.
    type: str
  key_file:
    description: File with the private WireGuard key of the user for V(gateway4to6); made when absent.
    type: path
  description:
    description: For the user.
    type: str
    default: ""
  pool:
    description: Id of the pool; found or made when not set.
    type: int
  wait:
    description: Wait until the gateway has deployed or removed it.
    type: bool
    default: true
  timeout:
    description: Seconds to wait.
    type: float
    default: 60
extends_documentation_fragment:
  - tfgrid.gateway.attributes.program
  - tfgrid.gateway.attributes
  - tfgrid.gateway.attributes.changes
"""

EXAMPLES = r"""
- name: A name with an address
  tfgrid.gateway.reservation:
    type: subdomain
    domain: www.tfgw-prod-01.gateway.tf
    ips: [203.0.113.5, "2001:db8::5"]
    node: FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF
    explorer: https://explorer.grid.tf/api/v1
    seed: ~/alice.seed
    program: /srv/tfgrid.gateway/.venv/bin/tfgateway
  delegate_to: localhost

- name: IPv6 over WireGuard
  tfgrid.gateway.reservation:
    type: gateway4to6
    key_file: ~/wireguard.key
    node: FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF
    explorer: https://explorer.grid.tf/api/v1
    seed: ~/alice.seed
  register: tunnel

- name: A proxy that is not needed any more, wherever it is
  tfgrid.gateway.reservation:
    state: absent
    type: proxy
    domain: shop.example
    explorer: https://explorer.grid.tf/api/v1
    seed: ~/alice.seed
"""

RETURN = r"""
reservation:
  description: The reservation as the explorer has it; not in check mode when it would be made.
  returned: when O(state=present)
  type: dict
  contains:
    id:
      description: Number of the workload.
      type: int
    gwid:
      description: Global id of the workload.
      type: str
    type:
      description: The explorer's name of the type.
      type: str
    domain:
      description: Name that is reserved.
      type: str
    node_id:
      description: The gateway.
      type: str
    data:
      description: What else was reserved; secrets excepted.
      type: dict
    status:
      description: V(pending) or V(deployed).
      type: str
    message:
      description: The gateway's words about it.
      type: str
  sample:
    id: 311
    gwid: 311-1
    type: subdomain
    domain: www.tfgw-prod-01.gateway.tf
    node_id: FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF
    data: {"ips": ["203.0.113.5"]}
    status: deployed
    message: ""
deleted:
  description: Numbers of the reservations that were deleted.
  returned: success
  type: list
  elements: int
  sample: [298]
wireguard:
  description: Configuration for wg-quick, to which the user adds the private key.
  returned: for O(type=gateway4to6) that is deployed
  type: str
  sample: |
    [Interface]
    Address = fd2b:5d4a:3c9e:8800:6a1f:77c0:93d2:18b4/128
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tfgrid.gateway.plugins.module_utils._daemon import PROGRAM_OPTION, DaemonError
from ansible_collections.tfgrid.gateway.plugins.module_utils._reserve import KINDS, Reservations, problem


def main():
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(type="str", choices=["present", "absent"], default="present"),
            type=dict(type="str", choices=list(KINDS), required=True),
            explorer=dict(type="str", required=True),
            seed=dict(type="path", required=True, no_log=False),
            node=dict(type="str"),
            domain=dict(type="str"),
            ips=dict(type="list", elements="str"),
            addr=dict(type="str"),
            port=dict(type="int"),
            port_tls=dict(type="int"),
            secret_file=dict(type="path", no_log=False),
            public_key=dict(type="str", no_log=False),
            key_file=dict(type="path", no_log=False),
            description=dict(type="str", default=""),
            pool=dict(type="int"),
            wait=dict(type="bool", default=True),
            timeout=dict(type="float", default=60.0),
            **PROGRAM_OPTION,
        ),
        supports_check_mode=True,
    )
    wrong = problem(module.params)
    if wrong:
        module.fail_json(msg=wrong)
    try:
        run_command = partial(module.run_command, environ_update={"TFGATEWAY_YES": "1"})
        result = converge(module, Reservations(run_command, module.params))
    except (DaemonError, KeyError, IndexError) as error:
        module.fail_json(msg="%s %s: %s" % (module.params["type"], module.params["domain"] or "", error))
    module.exit_json(**result)


def converge(module, reservations):
    """What the module returns; before and after are known before anything is done."""
    params = module.params
    found = reservations.matching()
    kept = [line for line in found if params["state"] == "present" and reservations.same(line)][:1]
    obsolete = [] if kept else found
    create = params["state"] == "present" and not kept
    result = dict(changed=bool(obsolete or create), deleted=[line["id"] for line in obsolete])
    if module._diff:
        after = (
            [dict(reservations.wanted(), type=params["type"], domain=params["domain"] or "")]
            if create
            else _shown(kept)
        )
        result["diff"] = dict(before=_shown(kept or obsolete), after=after)
    if module.check_mode:
        if kept:
            result["reservation"] = kept[0]
        return result
    if obsolete:
        reservations.delete(obsolete)
    if params["state"] == "present":
        number = reservations.create() if create else kept[0]["id"]
        result["reservation"] = line = reservations.deployed(number)
        if params["type"] == "gateway4to6" and line["status"] == "deployed":
            result["wireguard"] = reservations.wireguard(number)
    return result


def _shown(lines):
    return [dict(line["data"], type=line["type"], domain=line["domain"]) for line in lines]


if __name__ == "__main__":
    main()
