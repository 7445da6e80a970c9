#!/usr/bin/python
# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: host_info
short_description: What a role wants to know of a host, in one call
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Answers several questions about packages, units, files, ports and programs at once. A module call costs a tenth of
    a second and more on either side; a role that asks once and then does only what is needed is quick where nothing is.
  - Every question has an answer, whatever the host lacks. What an answer means is for the role to say.
options:
  packages:
    description: Packages, as M(tfgrid.gateway.packages) takes them, for RV(missing_packages).
    type: list
    elements: str
    default: []
  units:
    description: Units of systemd with their suffix, for RV(units).
    type: list
    elements: str
    default: []
  paths:
    description: Paths, or patterns of a shell, for RV(paths).
    type: list
    elements: str
    default: []
  texts:
    description: Paths of files that hold no secret, for RV(texts).
    type: list
    elements: path
    default: []
  connections:
    description: Where something should accept connections, C(HOST:PORT), for RV(connections).
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait for each of O(connections).
    type: int
    default: 10
  commands:
    description:
      - Programs with their arguments by a name of the role's choice, for RV(commands). They must change nothing,
        since they are run in check mode too. Their language is C.
    type: dict
    default: {}
extends_documentation_fragment:
  - tfgrid.gateway.attributes
  - tfgrid.gateway.attributes.looks
"""

EXAMPLES = r"""
- name: Look at the firewall
  tfgrid.gateway.host_info:
    packages: [ufw]
    units: [ufw.service]
    commands:
      rules: [ufw, show, added]
  register: firewall

- name: Install it
  tfgrid.gateway.packages:
    name: "{{ firewall.missing_packages }}"
  when: firewall.missing_packages | length > 0
"""

RETURN = r"""
missing_packages:
  description: Those of O(packages) that are not installed.
  returned: always
  type: list
  elements: str
  sample: [redis|valkey]
units:
  description:
    - By unit, whether C(exists) (under this name, which is no alias), C(active), C(enabled), and C(outdated), which is
      whether its file is newer than its process.
  returned: always
  type: dict
  sample: {ufw.service: {exists: true, active: true, enabled: true, outdated: false}}
paths:
  description: By pattern, the paths that it matches.
  returned: always
  type: dict
  sample: {/opt/tfgateway/releases/*/COMPLETE: [/opt/tfgateway/releases/1.0.0-py3.11/COMPLETE]}
texts:
  description: By path, the first MiB of the file, or V(none) when it cannot be read.
  returned: always
  type: dict
  sample: {/proc/sys/net/ipv6/conf/all/forwarding: "1\n"}
connections:
  description: By host and port, whether something accepts a connection.
  returned: always
  type: dict
  sample: {"127.0.0.1:6379": true}
commands:
  description: By name, C(rc), C(stdout) and C(stderr); C(rc) is 127 when there is no such program.
  returned: always
  type: dict
  sample: {rules: {rc: 0, stdout: "ufw allow 22/tcp\n", stderr: ""}}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tfgrid.gateway.plugins.module_utils import _host
from ansible_collections.tfgrid.gateway.plugins.module_utils._packages import PackageError, manager

_NO_PROGRAM = 127


def run(module, argv):
    """``rc``, ``stdout`` and ``stderr`` of a program that may not be there."""
    try:
        rc, out, err = module.run_command(
            [str(word) for word in argv], environ_update={"LC_ALL": "C"}, handle_exceptions=False
        )
    except (IOError, OSError) as error:
        rc, out, err = _NO_PROGRAM, "", str(error)
    return dict(rc=rc, stdout=out, stderr=err)


def missing_packages(module, names):
    """Those of ``names`` that are not installed."""
    if not names:
        return []
    try:
        return ["|".join(ones) for ones in manager(module.run_command, 0).missing(names)]
    except PackageError as error:
        module.fail_json(msg=str(error))


def units(module, names):
    """The state of each unit; those of a host without systemd do not exist."""
    if not names:
        return {}
    options = ["--property=" + name for name in _host.UNIT_PROPERTIES]
    said = run(module, ["systemctl", "show", "--no-pager"] + options + ["--"] + names)
    return _host.parse_units(names, said["stdout"], _host.booted())


def connections(module, places, timeout):
    """Whether something accepts connections at each ``HOST:PORT``; an IPv6 address may be in brackets."""
    found = {}
    for place in places:
        host, _colon, port = place.rpartition(":")
        if not port.isdigit():
            module.fail_json(msg="connections: %r is not HOST:PORT" % place)
        found[place] = _host.accepts(host.strip("[]"), int(port), timeout)
    return found


def main():
    module = AnsibleModule(
        argument_spec=dict(
            packages=dict(type="list", elements="str", default=[]),
            units=dict(type="list", elements="str", default=[]),
            paths=dict(type="list", elements="str", default=[]),
            texts=dict(type="list", elements="path", default=[]),
            connections=dict(type="list", elements="str", default=[]),
            timeout=dict(type="int", default=10),
            commands=dict(type="dict", default={}),
        ),
        supports_check_mode=True,
    )
    params = module.params
    module.exit_json(
        changed=False,
        missing_packages=missing_packages(module, params["packages"]),
        units=units(module, params["units"]),
        paths={pattern: _host.matches(pattern) for pattern in params["paths"]},
        texts={path: _host.read(path) for path in params["texts"]},
        connections=connections(module, params["connections"], params["timeout"]),
        commands={name: run(module, argv) for name, argv in params["commands"].items()},
    )


if __name__ == "__main__":
    main()
